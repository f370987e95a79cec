"""Input images of predictions: finds them and decodes them ahead with threads."""

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
from nfbench.core.input_size import Sides
from nfbench.datasets._images import IMAGE_ENDINGS
from nfbench.datasets._listing import files_below
from nfbench.datasets._manifest import read_checked_image, unlisted
from nfbench.features.forward import to_size

__all__ = ["Given", "Prepared", "find_images", "prepared", "watched"]

_WILD = set("*?[")


class Given(NamedTuple):
    """An input image.

    Attributes:
        path: path of the file.
        name: relative path of its output files.
    """

    path: str
    name: str


class Prepared(NamedTuple):
    """An image that was read, or the reason why it could not be read.

    Attributes:
        square: the image, resized to the input of the backbone, or as it is for a model that takes whole images; None
            if it could not be read.
        size: original width and height.
        error: why the image could not be read, in one line.
        seconds: duration of reading and resizing.
    """

    given: Given
    square: Image.Image | None
    size: tuple[int, int]
    error: str
    seconds: float


def find_images(arguments: Sequence[str]) -> Iterator[Given]:
    """Yields all requested images in order.

    Args:
        arguments: files; folders, for all images below them, sorted; patterns such as ``parts/*.png``, in which ``**``
            matches folders at any depth; ``-`` for standard input, one path per line.

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
    """Watches a folder and its subfolders for new images; waits for files that are still being written.

    Args:
        folder: folder to watch.
        seconds: interval between two checks.

    Yields:
        New images of each check, possibly none.

    Raises:
        NfbenchError: the folder does not exist.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NfbenchError(f"'--watch' needs a folder, but {folder} is not one")
    done: set[str] = set()
    before: dict[str, tuple[int, int]] = {}
    while True:
        now = {}
        for path in files_below(root):
            if _is_image(str(path)) and str(path) not in done:
                try:
                    status = path.stat()
                except OSError:  # the file was removed meanwhile
                    continue
                now[str(path)] = (status.st_size, status.st_mtime_ns)
        settled = [path for path, state in now.items() if before.get(path) == state]
        done.update(settled)
        yield [Given(path, _name(os.path.relpath(path, folder))) for path in settled]
        before = now
        time.sleep(seconds)


def prepared(images: Iterable[Given], size: Sides | None, threads: int) -> Iterator[Prepared]:
    """Reads images with threads, a few ahead of their use, and yields them in order.

    Args:
        images: input images.
        size: height and width to resize to, or the side of a square, as for training; None keeps images as they are.
        threads: number of threads.
    """
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(lambda image: pool.submit(_prepare, image, size).result, images, ahead=2 * threads)


def _prepare(given: Given, size: Sides | None) -> Prepared:
    started = time.monotonic()
    try:
        image = read_checked_image(unlisted(Path(given.path)))
    except NfbenchError as error:
        return Prepared(given, None, (0, 0), str(error), time.monotonic() - started)
    square = image if size is None else to_size(image, size)
    return Prepared(given, square, image.size, "", time.monotonic() - started)


def _images_below(folder: Path) -> list[Path]:
    found = [path for path in files_below(folder) if _is_image(str(path))]
    if not found:
        raise NfbenchError(f"no image in {folder} ({' '.join(IMAGE_ENDINGS)})")
    return found


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_ENDINGS)


def _name(path: str) -> str:
    """Returns the path without parts that lead out of a folder, ending in ``.png``."""
    parts = [part for part in Path(path).parts if part not in ("/", "..", "~")]
    name = os.path.join(*parts) if parts else "image"
    return name if name.lower().endswith(".png") else f"{name}.png"
