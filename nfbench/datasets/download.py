"""Downloads that resume, retry over mirrors, and are checked before anyone reads them.

A file grows as ``<name>.part``; a killed or failed download goes on from there, whatever the mirror. What a server does
decides what is next:

=====================================  =======================================================================
no connection, stall, closed midway,   the same mirror again, later and later, from where it stopped; after
408, 425, 429, 5xx, wrong range        ``attempts`` without a new byte, the next mirror. ``Retry-After`` is kept
403, 404, 410 and other 4xx            the next mirror
200 to a request for a range           from the first byte again
416                                    checked if all bytes are there, from the first byte again if not
all bytes, wrong checksum              thrown away; once more where a part came of an earlier try, else the next mirror
=====================================  =======================================================================
"""

import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
import tenacity

from nfbench.core.errors import NfbenchError
from nfbench.core.files import full_disk
from nfbench.core.provenance import file_hash
from nfbench.datasets.sources import Archive

__all__ = ["Policy", "download", "require_space"]

_log = logging.getLogger(__name__)
_CHUNK = 1 << 16
_TRY_AGAIN = (408, 425, 429)


@dataclass(frozen=True)
class Policy:
    """How patient a download is, in seconds.

    Attributes:
        attempts: tries of one mirror without a new byte.
        timeout: for a connection, and for each piece of an answer.
        wait: before the second try, doubled with each.
        longest_wait: limit of that, and of what a server may ask for.
    """

    attempts: int = 5
    timeout: float = 30.0
    wait: float = 1.0
    longest_wait: float = 60.0


class _TryAgain(Exception):
    """This mirror may work later."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class _NextMirror(Exception):
    """This mirror will not work."""


def download(archive: Archive, folder: Path, known: str | None = None, policy: Policy | None = None) -> Path:
    """Downloads an archive, from the first mirror that has it right.

    Args:
        archive: what to get.
        folder: where it goes, and where its ``.part`` is.
        known: SHA-256 that an earlier download recorded, where none is published.
        policy: how patient to be.

    Returns:
        The complete file; a checksum that is published or known is that of the file.

    Raises:
        NfbenchError: no mirror has the file right, saying what each answered; or the disk is full, of which nothing
            is left.
    """
    path, part = folder / archive.name, folder / f"{archive.name}.part"
    folder.mkdir(parents=True, exist_ok=True)
    expected = archive.expected(known)
    outcomes: list[str] = []
    for url in () if path.exists() else archive.urls:
        try:
            _from_mirror(url, part, archive.size, expected, policy or Policy())
            part.replace(path)
            _log.info("%s: %d bytes from %s", archive.name, path.stat().st_size, url)
            break
        except (_NextMirror, _TryAgain) as failure:
            outcomes.append(f"{url}: {failure}")
            _log.warning("%s", outcomes[-1])
        except OSError as error:
            if full := full_disk(folder, error):
                part.unlink(missing_ok=True)
                raise full from error
            raise
    if not path.exists():
        raise NfbenchError(f"{archive.name} could not be downloaded: {'; '.join(outcomes) or 'it has no mirror'}")
    return path


def _from_mirror(url: str, part: Path, size: int | None, expected: tuple[str, str] | None, policy: Policy) -> None:
    """Completes ``part`` from one mirror; anew where what was there does not go together with it."""
    resumed = part.exists()
    _retrying(policy, part, lambda: _fetch(url, part, size, policy))
    try:
        _check(part, expected)
    except _NextMirror as failure:
        if not resumed:
            raise
        _log.warning("%s: %s; it was begun by an earlier try, so once more", url, failure)
        _retrying(policy, part, lambda: _fetch(url, part, size, policy))
        _check(part, expected)


def _retrying(policy: Policy, part: Path, fetch: Callable[[], None]) -> None:
    """Calls ``fetch`` until it ends well; the count of tries begins anew with each that brought new bytes."""
    while True:
        before = _size(part)
        try:
            _rounds(policy, part, before)(fetch)
            return
        except _TryAgain as failure:
            if _size(part) <= before:
                raise
            _log.info("%s: %s; going on from byte %d", part.name, failure, _size(part))
            time.sleep(policy.wait)


def _rounds(policy: Policy, part: Path, before: int) -> tenacity.Retrying:
    """Tries until one ends well, brings a byte more than ``before``, or is the last."""

    def wait(state: tenacity.RetryCallState) -> float:
        asked = state.outcome.exception().after
        doubled = policy.wait * 2 ** (state.attempt_number - 1)
        return min(policy.longest_wait, doubled if asked is None else asked)

    return tenacity.Retrying(
        stop=lambda state: state.attempt_number >= policy.attempts or _size(part) > before,
        wait=wait,
        retry=tenacity.retry_if_exception_type(_TryAgain),
        reraise=True,
    )


def _fetch(url: str, part: Path, size: int | None, policy: Policy) -> None:
    """One request for what is missing of a file."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=policy.timeout) as answer:
            _receive(answer, part, have, size, policy)
    except (requests.RequestException, ConnectionError, TimeoutError) as error:
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
            raise _NextMirror(f"no address to download from ({error})") from None
        raise _TryAgain(_reason(error)) from None


def _receive(answer: requests.Response, part: Path, have: int, size: int | None, policy: Policy) -> None:
    """Writes what a server sends behind what is there, or anew; the file is complete afterwards."""
    status = answer.status_code
    if status == 416:  # nothing is missing, or the file is another one
        if have != _total(answer):
            part.unlink(missing_ok=True)
            raise _TryAgain("416, what was there is of another file")
        return
    if status in _TRY_AGAIN or status >= 500:
        raise _TryAgain(f"{status} {answer.reason}", _retry_after(answer))
    if status not in (200, 206):
        raise _NextMirror(f"{status} {answer.reason}")
    if status == 206 and _first(answer) != have:
        part.unlink(missing_ok=True)
        raise _TryAgain("206 with another range than asked for")
    start = have if status == 206 else 0
    total = _total(answer) or size
    if size is not None and total != size:
        raise _NextMirror(f"has {total} bytes, {size} are stated")
    require_space(part.parent, (total or 0) - start)
    with part.open("ab" if start else "wb") as file:
        for chunk in _with_bar(answer.iter_content(_CHUNK), part, start, total):
            file.write(chunk)
    if total is not None and _size(part) != total:
        if _size(part) > total:
            part.unlink()
        raise _TryAgain(f"ended at byte {_size(part)} of {total}")


def _check(part: Path, expected: tuple[str, str] | None) -> None:
    if expected is None:
        return
    algorithm, checksum = expected
    found = file_hash(part, algorithm)
    if found != checksum:
        part.unlink()
        raise _NextMirror(f"{algorithm} is {found}, expected {checksum}; thrown away")


def require_space(folder: Path, needed: int) -> None:
    """Refuses to write ``needed`` bytes into a folder whose disk has fewer.

    Raises:
        NfbenchError: says how many there are.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NfbenchError(f"{folder}: {needed:,} bytes are to come, {free:,} are free; free some space")


def _with_bar(chunks: Iterator[bytes], part: Path, start: int, total: int | None) -> Iterator[bytes]:
    """Passes pieces on, and shows on a terminal how far it is."""
    from tqdm import tqdm

    bar = tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=not sys.stderr.isatty())
    with bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))


def _total(answer: requests.Response) -> int | None:
    """Size of the whole file, as the server says."""
    within = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if within.isdigit():
        return int(within)
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() and answer.status_code == 200 else None


def _first(answer: requests.Response) -> int | None:
    """First byte of the range that the server sends."""
    first = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else None


def _retry_after(answer: requests.Response) -> float | None:
    seconds = answer.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else None


def _reason(error: Exception) -> str:
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    return "closed the connection" if "Connection broken" in str(error) else f"no connection ({type(error).__name__})"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
