"""ShanghaiTech Campus, videos of 13 cameras (Luo et al., ICCV 2017), read frame by frame.

training/videos/01_001.avi              normal; decoded to JPEG images when read
training/frames/01_001/000.jpg          read instead of the video if frames were extracted before
testing/frames/01_0014/000.jpg
testing/test_frame_mask/01_0014.npy     (T,), 1 for anomalous frames
testing/test_pixel_mask/01_0014.npy     (T, H, W), 1 for anomalous pixels

330 training and 107 test videos of 856 x 480 pixels, more than 300,000 frames; the number before ``_`` is the scene.
There are test videos of scenes 1 to 12 only. Each scene is a category, since CFLOW-AD trains one model per scene.
``all`` joins scenes 1 to 12, since U-Flow's tables have one value; ``all13`` also trains on videos of scene 13. The
frame mask gives the label of a frame. Decoded frames are written to ``training/frames_every<stride>`` and masks of
anomalous frames to ``testing/masks_every<stride>``; ``prepare_data`` puts them next to the manifests. ``stride`` in the
configuration selects every n-th frame of each video for training and testing.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import Counts, Faults, Sample
from nfbench.datasets._layout import require_root
from nfbench.datasets._listing import files_below, files_in, folders_in
from nfbench.datasets._sources import FetchedDataset

if TYPE_CHECKING:
    from nfbench.datasets._miniature import Painter

__all__ = ["DATASET", "ShanghaiTech"]

_SCENES = tuple(f"{number:02}" for number in range(1, 14))
_TOGETHER = {"all": _SCENES[:12], "all13": _SCENES}
_TRAIN_VIDEOS, _TEST_VIDEOS = ("training/videos", "training/frames"), "testing/frames"
_FRAMES, _EVENT = 52, 5
"""Frames of a miniature's video and of each alternating normal or anomalous event; strides up to 25 include both."""


class ShanghaiTech(FetchedDataset, name="shanghaitech"):
    """Single scenes, and all scenes together."""

    title = "ShanghaiTech Campus"
    categories = (*_TOGETHER, *_SCENES[:12])
    has_miniature = True

    def available(self, root: Path) -> list[str]:
        """Lists ``all`` and the scenes with test videos; ``all13`` if there are videos of scene 13."""
        require_root(root, self.name)
        trained, tested = ({name[:2] for name in names} for names in (_training(root), _testing(root)))
        scenes = [scene for scene in self.categories if scene in trained & tested]
        if not scenes:
            raise NfbenchError(f"folder {root} has no scene with videos in {_TRAIN_VIDEOS[0]} and in {_TEST_VIDEOS}")
        return ["all", *(["all13"] if _SCENES[12] in trained else []), *scenes]

    def samples(self, root: Path, category: str) -> list[Sample]:
        """Lists every frame."""
        return self.sampled(root, category, 1)

    def sampled(self, root: Path, category: str, stride: int, work: Path | None = None) -> list[Sample]:
        """Lists every ``stride``-th frame of each video, by video and time."""
        require_root(root, self.name)
        scenes, faults = _TOGETHER.get(category, (category,)), Faults()
        samples: list[Sample] = []
        for videos, read in ((_training(root), _training_frames), (_testing(root), _test_frames)):
            for name in sorted(name for name in videos if name[:2] in scenes):
                try:
                    samples += read(work or root, videos[name], stride)
                except NfbenchError as error:
                    faults.add(error)
        return faults.settle(samples)

    def files(self, root: Path, category: str) -> list[Path]:
        """Lists videos, frames and masks as published, without derived files."""
        given = (*_TRAIN_VIDEOS, _TEST_VIDEOS, "testing/test_frame_mask", "testing/test_pixel_mask")
        return [path for folder in given for path in files_below(root / folder)]

    def side_files(self, root: Path, category: str) -> list[Path]:
        """Lists videos, skipped frames and masks."""
        return self.files(root, category)

    def facts(self, root: Path) -> dict[str, int]:
        """Videos."""
        return {"training videos": len(_training(root)), "test videos": len(_testing(root))}

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Generates one video per scene; about half of the frames of each test video are anomalous."""
        from nfbench.datasets._miniature import Painter

        painter = Painter(root, 64, 48)
        for scene in _SCENES:
            _write_video(root / "training/videos" / f"{scene}_001.avi", painter)
        for scene in _SCENES[:12]:
            _write_test_video(root / "testing", f"{scene}_0014", painter)
        bad = sum(map(_in_event, range(_FRAMES)))
        of_scene = Counts(_FRAMES, _FRAMES - bad, bad)
        together = {
            name: Counts(len(scenes) * _FRAMES, 12 * of_scene.test_normal, 12 * bad)
            for name, scenes in _TOGETHER.items()
        }
        return {**together, **dict.fromkeys(_SCENES[:12], of_scene)}


def _training(root: Path) -> dict[str, Path]:
    """Returns training videos by name: files, or folders of frames extracted before."""
    files = root / _TRAIN_VIDEOS[0]
    videos = {path.stem: path for path in (files_in(files, [".avi"]) if files.is_dir() else [])}
    return videos | _by_name(root / _TRAIN_VIDEOS[1])


def _testing(root: Path) -> dict[str, Path]:
    """Returns the frame folders of test videos by name."""
    return _by_name(root / _TEST_VIDEOS)


def _by_name(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in (folders_in(folder) if folder.is_dir() else []) if "_" in path.name}


def _training_frames(work: Path, video: Path, stride: int) -> list[Sample]:
    from nfbench.datasets._video import extract_frames

    if video.is_dir():
        frames = _listed(video)[::stride]
    else:
        frames = extract_frames(video, work / f"training/frames_every{stride}" / video.stem, stride)
    return [Sample("train", "good", frame) for frame in frames]


def _test_frames(work: Path, folder: Path, stride: int) -> list[Sample]:
    from nfbench.datasets._video import load_masks, write_masks

    frames, name = _listed(folder), folder.name
    arrays = [folder.parents[1] / kind / f"{name}.npy" for kind in ("test_frame_mask", "test_pixel_mask")]
    by_frame, by_pixel = (load_masks(path, len(frames), by_pixel=path is arrays[1]) for path in arrays)
    masks = work / f"testing/masks_every{stride}" / name
    anomalous = [number for number in range(0, len(frames), stride) if by_frame[number]]
    write_masks(masks, arrays, {frames[number].stem: by_pixel[number] for number in anomalous})
    return [
        Sample("test", "anomaly", frames[number], masks / f"{frames[number].stem}.png")
        if by_frame[number]
        else Sample("test", "good", frames[number])
        for number in range(0, len(frames), stride)
    ]


def _listed(folder: Path) -> list[Path]:
    """Lists the frames of a video in order of their number, which has three or more digits."""
    frames = sorted(files_in(folder, [".jpg"]), key=lambda path: (len(path.stem), path.stem))
    if not frames:
        raise NfbenchError(f"folder {folder} has no frame (.jpg)")
    return frames


def _in_event(number: int) -> bool:
    return number // _EVENT % 2 == 1


def _write_video(path: Path, painter: "Painter") -> None:
    import cv2

    from nfbench.datasets._miniature import write_once

    def write(temporary: Path) -> None:
        codec, size = cv2.VideoWriter.fourcc(*"MJPG"), (painter.width, painter.height)
        writer = cv2.VideoWriter(str(temporary), codec, 24.0, size)
        for number in range(_FRAMES):
            writer.write(painter.picture(path.with_name(f"{path.stem}_{number}")))
        writer.release()

    write_once(path, write)


def _write_test_video(testing: Path, name: str, painter: "Painter") -> None:
    import numpy as np

    from nfbench.datasets._miniature import save_array

    by_pixel = np.zeros((_FRAMES, painter.height, painter.width), np.uint8)
    for number in range(_FRAMES):
        path = testing / "frames" / name / f"{number:03}.jpg"
        if _in_event(number):
            by_pixel[number] = painter.defect(path)
            painter.anomalous(path)
        else:
            painter.normal(path)
    save_array(testing / "test_pixel_mask" / f"{name}.npy", by_pixel)
    save_array(testing / "test_frame_mask" / f"{name}.npy", np.asarray(by_pixel.any((1, 2)), np.uint8))


DATASET = ShanghaiTech()
