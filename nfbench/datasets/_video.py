"""Frames of videos and masks in arrays, written as image files for a manifest."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nfbench.core.errors import NfbenchError
from nfbench.core.files import read_json, write_json
from nfbench.datasets._staging import staged_folder

__all__ = ["extract_frames", "load_masks", "write_masks"]

_INDEX = "frames.json"
_JPEG_QUALITY = 95


def extract_frames(video: Path, folder: Path, stride: int) -> list[Path]:
    """Writes every ``stride``-th frame of a video, from the first, as JPEG ``<frame number>.jpg``.

    The video is decoded once, with one frame in memory at a time. The folder appears when all frames are written.
    Later calls only list it, as long as the video is unchanged.

    Raises:
        NfbenchError: the video cannot be decoded.
    """
    count = _made(folder, [video], lambda staged: _decode(video, staged, stride))
    return [folder / f"{number:08}.jpg" for number in range(0, count, stride)]


def write_masks(folder: Path, arrays: Sequence[Path], masks: dict[str, np.ndarray]) -> None:
    """Writes masks ``(H, W)`` as images, 255 for nonzero, unless they exist and their arrays are unchanged.

    Args:
        folder: folder to create with all masks.
        arrays: files that contain the masks.
        masks: masks by the stem of their image.
    """

    def write(staged: Path) -> int:
        for stem, mask in masks.items():
            Image.fromarray(np.where(np.asarray(mask) != 0, 255, 0).astype(np.uint8)).save(staged / f"{stem}.png")
        return len(masks)

    _made(folder, arrays, write)


def load_masks(path: Path, n_frames: int, *, by_pixel: bool) -> np.ndarray:
    """Maps the masks of a video's frames into memory: ``(T, H, W)``, or ``(T,)`` for whole frames.

    Raises:
        NfbenchError: the file is missing, is not such an array, or has another number of frames.
    """
    try:
        masks = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise NfbenchError(f"{path} is missing") from None
    except Exception as error:  # for a damaged header, NumPy can raise anything
        raise NfbenchError(f"{path} cannot be read as an array: {' '.join(str(error).split())}") from None
    if masks.ndim != (3 if by_pixel else 1) or len(masks) != n_frames:
        what = "(frames, height, width)" if by_pixel else "(frames,)"
        raise NfbenchError(f"{path} has shape {masks.shape}, expected {what} with the {n_frames} frames of its folder")
    return masks


def _made(folder: Path, sources: Sequence[Path], fill: Callable[[Path], int]) -> int:
    """Calls ``fill`` to write a folder and returns its count, or that of an earlier call on the same files."""
    state = [[source.name, source.stat().st_size, source.stat().st_mtime_ns] for source in sources]
    known = _index(folder)
    if known.get("sources") == state:
        return known["frames"]
    with staged_folder(folder) as staged:
        count = fill(staged)
        write_json(staged / _INDEX, {"sources": state, "frames": count})
        if folder.is_dir() and _index(folder).get("sources") != state:  # another process may have been faster
            old = staged.with_name(f"{staged.name}.old")
            os.rename(folder, old)
            shutil.rmtree(old, ignore_errors=True)
    return count


def _index(folder: Path) -> dict[str, Any]:
    """Reads the index of a folder's files; empty if it is missing or damaged."""
    try:
        found = read_json(folder / _INDEX)
    except NfbenchError:
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("frames"), int) else {}


def _decode(video: Path, folder: Path, stride: int) -> int:
    """Writes frames into ``folder`` and returns the number of frames of the video."""
    import cv2

    _require_avi(video)
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
        raise NfbenchError(f"video {video} cannot be decoded or has no frame")
    return count


def _require_avi(video: Path) -> None:
    """Refuses other content, such as playlists, which could choose a decoder and open other files."""
    try:
        with video.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise NfbenchError(f"video {video} cannot be read: {error.strerror}") from None
    if head[:4] != b"RIFF" or head[8:] != b"AVI ":
        raise NfbenchError(f"video {video} cannot be decoded: it is not an AVI file")
