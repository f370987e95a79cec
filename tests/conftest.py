"""Fixtures shared by many tests: small image folders, small features, and the shared data if available."""

import gc
import os
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches a hub but the one that starts its own
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; threads of each would wait for one another

import hypothesis
import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from nfbench.core.torchvision_guard import import_torchvision
from nfbench.plan import code
from tests.required_tools import pytest_make_collect_report, pytest_runtest_makereport

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport"]  # hooks of pytest

import_torchvision()  # before any test module imports timm or anomalib

os.fsync = lambda handle: None  # only a power cut could tell, and thousands of files would wait for the disk

hypothesis.settings.register_profile("tests", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("tests")

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort files that run the workflow first and files with slow tests second, so that no process ends alone."""
    workflow, slow = ({item.path for item in items if item.get_closest_marker(mark)} for mark in ("workflow", "slow"))
    items.sort(key=lambda item: (item.path not in workflow, item.path not in slow))


def pytest_collection_finish() -> None:
    """Freeze imported and collected objects, so that garbage collection does not scan them again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """A test draws the same random numbers alone, in any order and in any process."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - scikit-learn and others draw from it
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Make a folder by a name, once for all processes of the tests; return it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make_once(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return make_once


@pytest.fixture(scope="module")
def parsed_once() -> Iterator[None]:
    """Parse files of nfbench and its copies again only if their text is new."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "Module", lambda name, path: _parsed(name, path, path.read_bytes()))
        yield


_parsed = cache(lambda name, path, text, module=code.Module: module(name, path))


@pytest.fixture(scope="session")
def mvtec_root() -> Path:
    root = ROOT.parent / "shared" / "data" / "mvtec_ad"
    if not root.is_dir():
        pytest.skip("no MVTec AD category beside the repository (../shared/data/mvtec_ad)")
    return root


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """A folder with one category in MVTec AD's layout and mixed image endings; returns the folder of categories."""
    return make_image_folder(tmp_path / "own", "part")


def make_image_folder(root: Path, category: str, size: tuple[int, int] = (48, 40)) -> Path:
    rng = np.random.default_rng(0)
    folder = root / category

    def save(path: Path, array: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)

    def image() -> np.ndarray:
        return rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)

    for number, ending in enumerate(["png", "jpg", "bmp", "tif", "webp", "jpeg"]):
        save(folder / f"train/good/{number:03}.{ending}", image())
    for number in range(3):
        save(folder / f"test/good/{number:03}.png", image())
        save(folder / f"test/dent/{number:03}.jpg", image())
        mask = np.zeros((size[1], size[0]), dtype=np.uint8)
        mask[5 : 10 + number, 5:12] = 1  # as in VisA: a class number, not 255
        save(folder / f"ground_truth/dent/{number:03}_mask.png", mask)
    return root
