"""Reading of text tables of splits and labels, with one-line errors."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from nfbench.core.errors import NfbenchError

__all__ = ["read_lines", "read_table"]


def read_table(path: str | Path, columns: Sequence[str], repair: str = "") -> list[dict[str, str]]:
    """Reads the rows of a CSV file with exactly these columns.

    Args:
        path: the file, in UTF-8.
        columns: expected first line.
        repair: advice to append to messages.

    Raises:
        NfbenchError: the file is missing, not UTF-8, not CSV, or has other columns, no row, or a row of another
            length.
    """
    end = f"; {repair}" if repair else ""
    try:
        reader = csv.reader(io.StringIO(_read_text(path, end), newline=""), strict=True)
        header, rows = next(reader, []), [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise NfbenchError(f"{path} is not a CSV file: {error}{end}") from None
    if header != list(columns):
        raise NfbenchError(f"{path} has columns {header}, expected {list(columns)}{end}")
    if not rows:
        raise NfbenchError(f"{path} has no rows{end}")
    for number, row in rows:
        if len(row) != len(columns):
            raise NfbenchError(f"{path}, line {number}: {len(row)} values, expected {len(columns)}{end}")
    return [dict(zip(columns, row, strict=True)) for _, row in rows]


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """Reads the non-empty lines of a text file, with their numbers.

    Raises:
        NfbenchError: the file is missing, not UTF-8, or has no line.
    """
    lines = [(number, line) for number, line in enumerate(_read_text(path, "").splitlines(), 1) if line.strip()]
    if not lines:
        raise NfbenchError(f"{path} has no rows")
    return lines


def _read_text(path: str | Path, end: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise NfbenchError(f"{path} is missing{end}") from None
    except UnicodeDecodeError:
        raise NfbenchError(f"{path} is not UTF-8; save it as UTF-8{end}") from None
    except (OSError, ValueError) as error:
        raise NfbenchError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}{end}") from None
