"""The images that a prediction is asked for: found, decoded ahead by threads, or why they cannot be decoded."""

import glob
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from nfbench.core.ahead import in_order
from nfbench.core.errors import NfbenchError
from nfbench.datasets._images import IMAGE_ENDINGS
from nfbench.datasets._listing import files_below
from nfbench.datasets._manifest import read_checked_image, unlisted
from nfbench.features.forward import to_square

__all__ = ["Given", "Prepared", "find_images", "prepared", "watched"]

_WILD = set("*?[")


class Given(NamedTuple):
    """An image as it was asked for.

    Attributes:
        path: its file.
        name: where files that are made of it go, below a folder.
    """

    path: str
    name: str


class Prepared(NamedTuple):
    """An image that was read, or why it could not be.

    Attributes:
        square: it, resized to the square that the backbone takes; None where it could not be read.
        size: its own width and height.
        error: why it could not be read, in one line.
        seconds: that reading and resizing took.
    """

    given: Given
    square: Image.Image | None
    size: tuple[int, int]
    error: str
    seconds: float


def find_images(arguments: Sequence[str]) -> Iterator[Given]:
    """All images that are asked for, in their order, one by one.

    Args:
        arguments: files; folders, with all images below them, sorted; patterns such as ``parts/*.png``, where ``**``
            stands for folders at any depth; ``-`` for standard input, one path a line.

    Raises:
        NfbenchError: a folder or pattern has no image.
    """
    single = len(arguments) == 1
    for argument in arguments:
        if argument == "-":
            for line in sys.stdin:
                if path := line.rstrip("\r\n"):
                    yield Given(path, _name(path))
        elif os.path.isdir(argument):
            for path in _images_below(Path(argument)):
                yield Given(str(path), _name(str(path.relative_to(argument) if single else path)))
        elif _WILD & set(argument) and not os.path.exists(argument):
            found = sorted(path for path in glob.iglob(argument, recursive=True) if _is_image(path))
            if not found:
                raise NfbenchError(f"no image matches {argument}")
            yield from (Given(path, _name(path)) for path in found)
        else:
            yield Given(argument, _name(argument))


def watched(folder: str, seconds: float) -> Iterator[list[Given]]:
    """New images of a folder and below, again and again; a file whose size or time still changes waits.

    Args:
        folder: the folder.
        seconds: between two looks.

    Yields:
        What is new at each look, which may be nothing.

    Raises:
        NfbenchError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NfbenchError(f"'--watch' looks at a folder, and {folder} is none")
    done: set[str] = set()
    before: dict[str, tuple[int, int]] = {}
    while True:
        now = {}
        for path in files_below(root):
            if _is_image(str(path)) and str(path) not in done:
                try:
                    status = path.stat()
                except OSError:  # it is gone again
                    continue
                now[str(path)] = (status.st_size, status.st_mtime_ns)
        settled = [path for path, state in now.items() if before.get(path) == state]
        done.update(settled)
        yield [Given(path, _name(os.path.relpath(path, folder))) for path in settled]
        before = now
        time.sleep(seconds)


def prepared(images: Iterable[Given], side: int, threads: int) -> Iterator[Prepared]:
    """Reads images by threads, each once the ones before are nearly done, and yields them in order.

    Args:
        images: the images.
        side: of the square that they are resized to, as for training.
        threads: that read.
    """
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(lambda image: pool.submit(_prepare, image, side).result, images, ahead=2 * threads)


def _prepare(given: Given, side: int) -> Prepared:
    started = time.monotonic()
    try:
        image = read_checked_image(unlisted(Path(given.path)))
    except NfbenchError as error:
        return Prepared(given, None, (0, 0), str(error), time.monotonic() - started)
    return Prepared(given, to_square(image, side), image.size, "", time.monotonic() - started)


def _images_below(folder: Path) -> list[Path]:
    found = [path for path in files_below(folder) if _is_image(str(path))]
    if not found:
        raise NfbenchError(f"no image in {folder} ({' '.join(IMAGE_ENDINGS)})")
    return found


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_ENDINGS)


def _name(path: str) -> str:
    """The path without what leads out of a folder, ending in ``.png``."""
    parts = [part for part in Path(path).parts if part not in ("/", "..", "~")]
    name = os.path.join(*parts) if parts else "image"
    return name if name.lower().endswith(".png") else f"{name}.png"
