"""Frames of videos, and masks that lie in arrays, written as images that a manifest can name."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from nfbench.core.errors import NfbenchError
from nfbench.core.files import atomic_path, read_json, write_json

__all__ = ["extract_frames", "load_masks", "write_mask"]

_INDEX = "frames.json"
_JPEG_QUALITY = 95


def extract_frames(video: Path, folder: Path, stride: int) -> list[Path]:
    """Every ``stride``-th frame of a video, from its first, as JPEG images ``<number of the frame>.jpg``.

    The video is decoded once, one frame in memory at a time; the folder takes its name when all frames are in it, and
    later calls list it.

    Raises:
        NfbenchError: the video cannot be decoded.
    """
    if not (folder / _INDEX).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            count = _decode(video, temporary, stride)
            write_json(temporary / _INDEX, {"video": video.name, "frames": count, "stride": stride})
            temporary.chmod(0o755)
            os.rename(temporary, folder)
        except OSError:
            if not (folder / _INDEX).is_file():  # another process may have been faster
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    index = read_json(folder / _INDEX)
    return [folder / f"{number:08}.jpg" for number in range(0, index["frames"], stride)]


def load_masks(path: Path, n_frames: int, *, by_pixel: bool) -> np.ndarray:
    """Memory-mapped masks of a video's frames: ``(T, H, W)``, or ``(T,)`` of whole frames.

    Raises:
        NfbenchError: the file is missing, is no array of this kind, or holds another number of frames.
    """
    try:
        masks = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise NfbenchError(f"{path} is missing") from None
    except (ValueError, OSError, EOFError) as error:
        raise NfbenchError(f"{path} cannot be read as an array: {error}") from None
    if masks.ndim != (3 if by_pixel else 1) or len(masks) != n_frames:
        what = "(frames, height, width)" if by_pixel else "(frames,)"
        raise NfbenchError(f"{path} has shape {masks.shape}, expected {what} with {n_frames} frames, as its folder has")
    return masks


def write_mask(mask: np.ndarray, path: Path) -> None:
    """Writes one frame's mask ``(H, W)`` as an image, 255 where it is not 0, unless it is there."""
    if not path.exists():
        with atomic_path(path) as temporary:
            Image.fromarray(np.where(np.asarray(mask) != 0, 255, 0).astype(np.uint8)).save(temporary)


def _decode(video: Path, folder: Path, stride: int) -> int:
    """Writes frames into ``folder``; returns the number of frames that the video has."""
    import cv2

    capture = cv2.VideoCapture(str(video))
    try:
        count = 0
        while capture.grab():
            if count % stride == 0:
                decoded, frame = capture.retrieve()
                if not decoded:
                    raise NfbenchError(f"video {video}: frame {count} cannot be decoded")
                picture = Image.fromarray(np.ascontiguousarray(frame[:, :, ::-1]))
                picture.save(folder / f"{count:08}.jpg", quality=_JPEG_QUALITY)
            count += 1
    finally:
        capture.release()
    if not count:
        raise NfbenchError(f"video {video} cannot be decoded, or has no frame")
    return count
