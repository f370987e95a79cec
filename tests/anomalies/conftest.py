"""Manifests of small categories, for the generators of synthetic anomalies."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nfbench.datasets._manifest import Entry, build_manifest
from nfbench.datasets.mvtec_ad import DATASET


def write_png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def draw_part(number: int, size: tuple[int, int] = (96, 80)) -> np.ndarray:
    """A noisy bright disc on a dark ground, ``(height, width, 3)``, each in its own colours."""
    rng = np.random.default_rng(number)
    width, height = size
    y, x = np.mgrid[:height, :width]
    disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (0.35 * height) ** 2
    image = np.where(disc[..., None], rng.integers(130, 200, 3), rng.integers(20, 50, 3))
    return (image + rng.integers(-15, 16, (height, width, 3))).astype(np.uint8)


@pytest.fixture(scope="session")
def part_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A category ``part``: 5 normal images of different sizes, 4 dents in the part and 3 spots in the corner."""
    root = tmp_path_factory.mktemp("anomalies")
    for number in range(5):
        write_png(root / f"part/train/good/{number:03}.png", draw_part(number, (96, 80) if number else (120, 96)))
    write_png(root / "part/test/good/000.png", draw_part(10))
    for kind, count, rows in (("dent", 4, slice(34, 44)), ("spot", 3, slice(2, 8))):
        for number in range(count):
            image, mask = draw_part(20 + number), np.zeros((80, 96), dtype=np.uint8)
            columns = slice(40, 52 + number) if kind == "dent" else slice(3, 10 + number)
            image[rows, columns] = (250, 10, 10)
            mask[rows, columns] = 255
            write_png(root / f"part/test/{kind}/{number:03}.png", image)
            write_png(root / f"part/ground_truth/{kind}/{number:03}_mask.png", mask)
    return root


@pytest.fixture(scope="session")
def part(part_root: Path) -> list[Entry]:
    return build_manifest(DATASET.samples(part_root, "part"))


@pytest.fixture(scope="session")
def normals(part: list[Entry]) -> list[Entry]:
    return [entry for entry in part if entry.split == "train"]


@pytest.fixture(scope="session")
def anomalies(part: list[Entry]) -> list[Entry]:
    return [entry for entry in part if entry.label]
