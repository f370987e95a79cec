"""Opening images and masks: exact conversion or a refusal by name, never a trace."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image

from nfbench.core.errors import NfbenchError
from nfbench.datasets._images import open_picture, read_image, read_mask
from tests.datasets import hostile


def written(tmp_path, case):
    path = tmp_path / case.name
    path.write_bytes(case.content)
    return path


def outcomes(path):
    """Read a file as an image and as a mask; return values, or the one-line errors."""
    for read in (read_image, read_mask):
        try:
            found = read(path)
        except NfbenchError as error:
            found = error
        yield found


@pytest.mark.parametrize("case", [*hostile.exact(), *hostile.turned()], ids=lambda case: case.name)
def test_images_are_what_they_show(tmp_path, case):
    image = read_image(written(tmp_path, case))
    assert image.mode == "RGB"
    difference = np.abs(np.asarray(image).astype(int) - case.shown)
    assert difference.max() <= (1 if case.name.startswith("half") else 0)


@pytest.mark.parametrize("case", list(hostile.refused()), ids=lambda case: case.name)
def test_images_without_an_exact_conversion_are_refused_by_name(tmp_path, case):
    path = written(tmp_path, case)
    with pytest.raises(NfbenchError, match=case.name) as refusal:
        read_image(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("ending", [*hostile.LOSSLESS, "jpg"])
def test_damaged_files_give_a_picture_or_a_line(tmp_path, ending, capfd):
    cases = [case for case in hostile.damaged() if case.name.endswith(ending)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for case in cases:
            image, _ = outcomes(written(tmp_path, case))
            if isinstance(image, NfbenchError):
                assert case.name in str(image)
                assert "\n" not in str(image)
            else:
                assert image.mode == "RGB"
    assert len(cases) > 80
    assert capfd.readouterr().err == ""


def test_no_other_decoder_is_started(tmp_path, monkeypatch):
    def start(*_, **__):
        raise AssertionError("a decoder's process is started")

    monkeypatch.setattr("subprocess.Popen", start)
    for case in hostile.refused():
        if case.name.startswith(("postscript", "eps")):
            assert all(isinstance(found, NfbenchError) for found in outcomes(written(tmp_path, case)))


def drawn(value=255):
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 7:15] = value
    return mask


def colours(index, table, size=256):
    """A palette picture of these numbers."""
    picture = Image.fromarray(index.astype(np.uint8), "P")
    picture.putpalette([part for colour in table for part in colour] + [0] * 3 * (size - len(table)))
    return picture


WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)
INSIDE = drawn() > 0
ALPHA = np.where(INSIDE, 255, 0).astype(np.uint8)
MASKS = {
    "grey.png": Image.fromarray(drawn()),
    "classes.png": Image.fromarray(drawn(1)),
    "bits.png": Image.fromarray(INSIDE),
    "bits.bmp": Image.fromarray(INSIDE),
    "classes.tif": Image.fromarray(drawn(3)),
    "classes16.png": Image.fromarray(drawn(2).astype(np.uint16)),
    "classes32.tif": Image.fromarray(drawn(2).astype(np.int32)),
    "floats.tif": Image.fromarray(INSIDE.astype(np.float32)),
    "alpha.png": Image.fromarray(drawn()).convert("RGBA"),
    "alpha.tif": Image.fromarray(drawn()).convert("LA"),
    "alpha_classes.png": Image.fromarray(drawn(1)).convert("LA"),
    "drawn_on_nothing.png": Image.fromarray(np.dstack([np.full((20, 30, 3), 255, np.uint8), ALPHA])),
    "red.png": Image.fromarray(np.dstack([drawn(), 0 * drawn(), 0 * drawn()])),
    "palette.png": colours(INSIDE, [BLACK, WHITE]),
    "palette_inverted.png": colours(~INSIDE, [WHITE, BLACK]),
    "palette_classes.png": colours(drawn(2), [BLACK, RED, (1, 1, 1)]),
    "palette_inverted.bmp": colours(~INSIDE, [RED, BLACK]),
    "all_black_but_one.png": colours(INSIDE, [BLACK, (0, 0, 1)]),
    "lossy.jpg": Image.fromarray(drawn()),
    "lossy.webp": Image.fromarray(drawn()),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_are_what_they_show(tmp_path, name):
    MASKS[name].save(tmp_path / name)
    found = read_mask(tmp_path / name)
    assert found.dtype == bool
    if name.startswith("lossy"):
        assert (found != INSIDE).sum() <= 2
    else:
        assert np.array_equal(found, INSIDE)


REFUSED_MASKS = {
    "dark.jpg": Image.fromarray(drawn(60)),
    "soft.tif": Image.fromarray(drawn().astype(np.float32) / 300),
    "negative.tif": Image.fromarray(-drawn(1).astype(np.int32)),
    "cmyk.tif": Image.fromarray(drawn()).convert("RGB").convert("CMYK"),
    "black_on_nothing.png": Image.fromarray(np.dstack([np.zeros((20, 30, 3), np.uint8), ALPHA])),
    "black_palette.png": colours(INSIDE, [BLACK, BLACK]),
    "no_black_palette.png": colours(INSIDE, [(0, 70, 0), RED]),
    "no_black.png": Image.fromarray(np.where(INSIDE[..., None], RED, (0, 255, 0)).astype(np.uint8)),
}


@pytest.mark.parametrize("name", REFUSED_MASKS)
def test_masks_that_cannot_be_told_are_refused_by_name(tmp_path, name):
    REFUSED_MASKS[name].save(tmp_path / name)
    with pytest.raises(NfbenchError, match=name):
        read_mask(tmp_path / name)


def test_mask_is_turned_as_its_image_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(drawn()).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_mask(tmp_path / "turned.png"), np.rot90(INSIDE, -1))
    assert open_picture(tmp_path / "turned.png").stored == "L, turned by EXIF"


def test_blank_masks_mark_nothing(tmp_path):
    for name in ("blank.png", "blank.jpg"):
        Image.fromarray(drawn(0)).save(tmp_path / name)
        assert not read_mask(tmp_path / name).any()


def test_first_frame_of_a_camera_is_read(tmp_path):
    first, other = (Image.fromarray(values) for values in (hostile.COLOUR, 255 - hostile.COLOUR))
    first.save(tmp_path / "camera.jpg", "MPO", save_all=True, append_images=[other], quality=95)
    first.save(tmp_path / "single.jpg", quality=95)
    assert np.array_equal(read_image(tmp_path / "camera.jpg"), read_image(tmp_path / "single.jpg"))


def test_what_is_no_file_is_named(tmp_path):
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("nowhere.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    for name, reason in {
        "folder.png": "is a folder",
        "pipe.png": "is not a regular file",
        "link.png": "is missing",
        "loop.png": "cannot be read",
        "device.png": "is not a regular file",
        "null\0.png": "cannot be read",
        "\udcb2.png": "is not UTF-8; rename it",
    }.items():
        with pytest.raises(NfbenchError, match=reason):
            read_image(tmp_path / name)


def test_picture_is_of_the_bytes_that_are_hashed(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(hostile.COLOUR).save(path)
    sha256 = open_picture(path).sha256
    assert np.array_equal(read_image(path, sha256), hostile.COLOUR)
    path.write_bytes(b"no image any more")
    with pytest.raises(NfbenchError, match=r"a.png has changed since the manifest was written"):
        read_image(path, sha256)


def test_large_pictures_are_read_without_a_warning(tmp_path, monkeypatch):
    Image.new("L", (40, 40)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "large.png").size == (40, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(NfbenchError, match=r"large.png cannot be decoded: its header states more than 1,400 pixels"):
        read_image(tmp_path / "large.png")
