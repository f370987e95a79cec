"""Recommended input sizes keep the ratio and the area, and are printed as a configuration takes them."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.datasets._shape import input_size_for, shape_of
from tests.conftest import make_image_folder
from tests.in_process import run_nfbench


@pytest.mark.parametrize(
    ("height", "width", "side", "multiple", "expected"),
    [
        (630, 230, 256, 32, (416, 160)),  # KolektorSDD2
        (1062, 4224, 512, 32, (256, 1024)),  # sheet_metal of MVTec AD 2
        (900, 900, 256, 32, (256, 256)),
        (10, 4000, 256, 32, (32, 5120)),
        (3, 4, 256, 14, (224, 294)),
    ],
)
def test_known_sizes(height, width, side, multiple, expected):
    assert input_size_for(height / width, side, multiple) == expected


@given(ratio=st.floats(0.1, 10), side=st.integers(128, 1024), multiple=st.sampled_from([1, 14, 16, 32]))
def test_ratio_and_area_are_kept_up_to_rounding(ratio, side, multiple):
    size = input_size_for(ratio, side, multiple)
    assert all(length % multiple == 0 for length in size)
    for length, exact in zip(size, (side * math.sqrt(ratio), side / math.sqrt(ratio)), strict=True):
        assert abs(length - exact) <= multiple / 2 + 1e-6
    assert input_size_for(1 / ratio, side, multiple) == size[::-1]


def test_the_command_prints_what_a_configuration_takes(tmp_path):
    make_image_folder(tmp_path / "own", "strip", (48, 160))
    make_image_folder(tmp_path / "own", "square", (40, 40))
    printed = run_nfbench(tmp_path, "data", "shape", "folder", "--root", "own").splitlines()
    assert printed == [
        "square: input_size: 256 (height / width 1.00; images of 40 x 40 pixels)",
        "strip: input_size: [480, 128] (height / width 3.33; images of 160 x 48 pixels)",
    ]
    for line, size in zip(printed, ((256, 256), (480, 128)), strict=True):
        keys = yaml.safe_load(line.partition(": ")[2].partition(" (")[0])
        assert BackboneConfig(name="resnet18.tv_in1k", **keys).size == size


def test_the_median_counts_and_the_range_is_printed(tmp_path):
    folder = make_image_folder(tmp_path / "own", "strip", (48, 160)).parent / "own"
    Image.new("RGB", (200, 160)).save(folder / "strip/train/good/099.png")
    found = shape_of(find_dataset("folder"), folder, "strip")
    assert found.ratio == pytest.approx(160 / 48)
    printed = run_nfbench(tmp_path, "data", "shape", "folder", "--root", "own", "--side", "128")
    assert printed == "strip: input_size: [224, 64] (height / width 3.33; images of 160 x 48 to 160 x 200 pixels)\n"


def test_a_category_without_training_images_is_named(tmp_path):
    folder = make_image_folder(tmp_path / "own", "strip").parent / "own"
    dataset = find_dataset("folder")
    for path in (folder / "strip/train/good").iterdir():
        path.unlink()
    with pytest.raises(NfbenchError, match="strip"):
        shape_of(dataset, folder, "strip")


def test_real_categories_are_square(mvtec_root, tmp_path):
    found = shape_of(find_dataset("mvtec_ad"), mvtec_root, "bottle")
    assert input_size_for(found.ratio, 256, 32) == (256, 256)
    assert len(found.sizes) in range(15, 21)
