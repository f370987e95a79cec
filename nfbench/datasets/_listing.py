"""Listing of a dataset's folders. Hidden files and folders, and those of operating systems, are ignored."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nfbench.core.errors import NfbenchError, valid_utf8
from nfbench.datasets._images import IMAGE_ENDINGS

__all__ = ["files_below", "files_in", "folders_in", "group_left_out", "images_below", "list_images"]

_LEFT_BY_SYSTEMS = {
    "@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX",
    "Thumbs.db", "desktop.ini",
}  # fmt: skip
_NAMED = 3


def files_in(folder: Path, endings: Sequence[str]) -> list[Path]:
    """Lists entries directly in a folder that have one of these endings, sorted.

    Broken links and folders with such a name are included, so that reading them reports an error.

    Raises:
        NfbenchError: the folder is missing or cannot be read.
    """
    return [Path(entry.path) for entry in _entries(folder) if entry.name.lower().endswith(tuple(endings))]


def folders_in(folder: Path) -> list[Path]:
    """Lists folders directly in a folder, sorted.

    Raises:
        NfbenchError: the folder is missing or cannot be read.
    """
    return [Path(entry.path) for entry in _entries(folder) if entry.is_dir()]


def list_images(folder: Path) -> list[Path]:
    """Lists images directly in a folder, sorted.

    Raises:
        NfbenchError: there is none.
    """
    found = files_in(folder, IMAGE_ENDINGS)
    if not found:
        raise NfbenchError(f"folder {folder} has no image ({' '.join(IMAGE_ENDINGS)})")
    return found


def files_below(folder: Path) -> list[Path]:
    """Lists all files below a folder, following links, sorted; none if the folder does not exist."""
    return sorted(_walk(folder, frozenset())) if folder.is_dir() else []


def images_below(folder: Path) -> list[Path]:
    """Lists the images among ``files_below``."""
    return [path for path in files_below(folder) if path.suffix.lower() in IMAGE_ENDINGS]


def group_left_out(root: Path, used: Iterable[Path]) -> list[str]:
    """Summarizes the files below ``root`` that are not ``used``.

    Returns one line per folder; for folders with used files, one line per ending.
    """
    used = set(used)
    with_used = {parent for path in used for parent in path.parents}
    groups: dict[tuple[Path, str], list[str]] = {}
    for path in files_below(root):
        if path in used:
            continue
        parts = path.relative_to(root).parts[:-1]
        inside = (root.joinpath(*parts[: depth + 1]) for depth in range(len(parts)))
        unused = next((parent for parent in inside if parent not in with_used), None)
        group = (unused, "") if unused else (path.parent, path.suffix.lower() or path.name)
        groups.setdefault(group, []).append(str(path.relative_to(group[0])))
    return [valid_utf8(_line(folder, root, names)) for (folder, _), names in groups.items()]


def _line(folder: Path, root: Path, names: list[str]) -> str:
    count = "1 file" if len(names) == 1 else f"{len(names):,} files"
    return f"{folder.relative_to(root)}: {count} ({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not _is_hidden(entry.name)]
    except FileNotFoundError:
        raise NfbenchError(f"folder {folder} is missing{_other_spelling(folder)}") from None
    except OSError as error:
        raise NfbenchError(f"folder {folder} cannot be read: {error.strerror}") from None
    return sorted(found, key=lambda entry: entry.name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _LEFT_BY_SYSTEMS


def _other_spelling(folder: Path) -> str:
    """Returns the end of a message that names a folder whose name differs only in case."""
    try:
        names = [name for name in os.listdir(folder.parent) if name.casefold() == folder.name.casefold()]
    except OSError:
        return ""
    return f"; rename '{names[0]}'" if names else ""


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Yields files below a folder; ``above`` has its parents, so that circular links end."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _walk(Path(entry.path), above | {here})
        else:
            yield Path(entry.path)
