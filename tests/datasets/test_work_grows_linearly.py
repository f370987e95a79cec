"""Preparing and checking a dataset of twice the images takes twice the work, counted in calls instead of seconds."""

import sys

import numpy as np
import pytest
from PIL import Image

from nfbench.config import DatasetConfig
from nfbench.datasets import _check as check
from nfbench.datasets import _manifest as manifest
from nfbench.datasets._base import Counts, find_dataset
from nfbench.datasets._check import check_dataset
from nfbench.datasets._manifest import build_manifest, read_manifest, select_subset, write_manifest


class InTurn:
    """Stands for the pool of threads, so that all calls are made here and none is the pool's own."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    map = staticmethod(map)


@pytest.fixture(autouse=True)
def in_turn(monkeypatch):
    monkeypatch.setattr(manifest, "ThreadPoolExecutor", InTurn)
    monkeypatch.setattr(check, "ThreadPoolExecutor", InTurn)


def make_folder(root, count):
    """``count`` normal images for training, and as many of each kind for testing."""
    image, mask = Image.new("RGB", (4, 4)), Image.new("L", (4, 4), 255)
    for kind in ("train/good", "test/good", "test/dent", "ground_truth/dent"):
        (root / "part" / kind).mkdir(parents=True)
        for number in range(count):
            ending = "_mask.png" if kind.startswith("ground") else ".png"
            (mask if kind.startswith("ground") else image).save(root / "part" / kind / f"{number:04}{ending}")


def prepare(root):
    samples = find_dataset("folder").samples(root, "part")
    entries = build_manifest(select_subset(samples, DatasetConfig(max_train=1000)))
    write_manifest(root / "m.csv", entries)
    assert read_manifest(root / "m.csv") == entries


def check_all(root):
    report = check_dataset(find_dataset("folder"), root)
    assert report.categories["part"].counts == Counts(*[len(list((root / "part/train/good").iterdir()))] * 3)


def calls(work, root) -> int:
    """Calls of Python and built-in functions that ``work`` makes."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work(root)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("work", [prepare, check_all])
def test_twice_the_images_are_twice_the_work(tmp_path, work):
    found = []
    for count in (20, 20, 40, 80, 160):  # the first also imports
        root = tmp_path / str(len(found))
        make_folder(root, count)
        found.append(calls(work, root))
    steps = np.diff(found[1:])
    assert steps[1] / steps[0] == pytest.approx(2, abs=0.1)
    assert steps[2] / steps[1] == pytest.approx(2, abs=0.1)
    assert steps[0] / 60 < 1500  # calls for each image and its mask
