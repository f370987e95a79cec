"""Files of all kinds have the same pixels in the manifest, the extraction, predictions and notebooks, or none."""

import io
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import Sample
from nfbench.datasets._images import convert_picture, read_image
from nfbench.datasets._manifest import build_manifest
from nfbench.detector import _pictures
from nfbench.features.forward import read_images, to_size
from nfbench.inference.images import Given, prepared
from tests.datasets import hostile

SIDE = 11
COLOUR, GREY = hostile.COLOUR, hostile.three(hostile.GREY)


def profile_of(space: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


def managed() -> list[hostile.Case]:
    """Images with a profile or a gamma that a colour-managed viewer would apply."""
    found, stored = [], Image.fromarray(COLOUR)
    plain = np.asarray(Image.open(io.BytesIO(hostile.saved(stored, "jpg", quality=95))))
    for space in ("sRGB", "XYZ"):
        for ending in ("png", "tif", "webp"):
            content = hostile.saved(stored, ending, icc_profile=profile_of(space))
            found.append(hostile.Case(f"{space}.{ending}", content, COLOUR))
        lossy = hostile.saved(stored, "jpg", quality=95, icc_profile=profile_of(space))
        found.append(hostile.Case(f"{space}.jpg", lossy, plain))
    gamma = PngImagePlugin.PngInfo()
    gamma.add(b"gAMA", (100_000).to_bytes(4, "big"))
    found.append(hostile.Case("gamma.png", hostile.saved(stored, "png", pnginfo=gamma), COLOUR))
    return found


READ = ("half.png", "palette.png", "grey16_257.png", "colour16_257.tif", "float.tif", "turned6.jpg", "turned5.png")
CASES = [*managed(), *(case for case in (*hostile.exact(), *hostile.turned()) if case.name in READ)]
FAULTS = {
    "cmyk.jpg": "has no exact conversion to 8-bit RGB",
    "frames.png": "has 3 pages or frames",
    "frames.tif": "has 3 pages or frames",
    "frames.webp": "has 3 pages or frames",
    "gif.png": "is not a PNG, JPEG, BMP, TIFF or WebP file",
    "camera12.png": "no value reaches 16384",
    "nan.tif": "NaN or infinite",
    "inf.tif": "NaN or infinite",
    "above.tif": r"has floats from 0 to 1.00000012, but only those in \[0, 1\]",
    "floats_of_8_bits.tif": r"has floats from 0 to 248, but only those in \[0, 1\]",
    "float64.tif": "of an unsupported variant",
    "colour_floats.tif": "of an unsupported variant",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_pixels_are_the_same_everywhere(tmp_path, case):
    path = tmp_path / case.name
    path.write_bytes(case.content)
    assert len(CASES) == 9 + len(READ)
    (entry,) = build_manifest([Sample("train", "good", path)], splits=["train"])
    assert (entry.height, entry.width) == case.shown.shape[:2]
    expected = np.asarray(to_size(read_image(path), SIDE))
    (extracted,) = read_images([entry], SIDE).movedim(1, -1).numpy()
    (predicted,) = prepared([Given(str(path), "name.png")], SIDE, 1)
    assert (predicted.error, predicted.size) == ("", (entry.width, entry.height))
    opened = read_images(_pictures([Image.open(path), str(path)]), SIDE).movedim(1, -1).numpy()
    for found in (extracted, np.asarray(predicted.square), *opened):
        np.testing.assert_array_equal(found, expected)
    if case.name not in ("half.png", "turned6.jpg"):  # rounded or decoded by another decoder
        np.testing.assert_array_equal(read_image(path), case.shown)


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_the_same_line_everywhere(tmp_path, name):
    (case,) = (case for case in hostile.refused() if case.name == name)
    path = tmp_path / name
    path.write_bytes(case.content)
    with pytest.raises(NfbenchError, match=FAULTS[name]) as refusal:
        read_image(path)
    with pytest.raises(NfbenchError) as manifest:
        build_manifest([Sample("train", "good", path)], splits=["train"])
    (predicted,) = prepared([Given(str(path), "name.png")], SIDE, 1)
    with pytest.raises(NfbenchError) as detector:
        read_images(_pictures([path]), SIDE)
    lines = {str(refusal.value), str(manifest.value), predicted.error, str(detector.value)}
    assert len(lines) == 1
    assert "\n" not in predicted.error
    if "unsupported" not in FAULTS[name] and name != "gif.png":
        with pytest.raises(NfbenchError, match=f"^image 0 .*{FAULTS[name]}|^image 0 {FAULTS[name]}"):
            _pictures([Image.open(path)])


def test_pictures_of_a_notebook_stay_as_they_are():
    """Also after Pillow has loaded them; only what the file would be turned into is changed."""
    grey = Image.fromarray(hostile.GREY)
    for image in (Image.fromarray(COLOUR), grey, grey.convert("1")):
        before = image.copy()
        (found,) = _pictures([image])
        assert found == before.convert("RGB")
        assert image == before


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
@example([number / 255 for number in range(256)])
@example([(number + 0.5) / 255 for number in range(255)])
@example([0.5, 0.1, 1.0, 1e-40])
def test_floats_are_rounded_half_to_even(values):
    stored = np.float32([values])
    found = convert_picture(Image.fromarray(stored), "steps")
    slow = [round(255 * Fraction(float(value))) for value in stored[0]]
    assert np.asarray(found)[0, :, 0].tolist() == slow
