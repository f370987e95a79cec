"""Downloads that resume, try several mirrors, and are verified before use.

A file is written to ``<name>.part``. A killed or failed download resumes from there, on any mirror. The server's
behaviour determines the next step:

=====================================  =======================================================================
no connection, stall, closed midway,   resume on the same mirror after growing waits; after ``attempts`` tries with
408, 425, 429, 5xx, wrong range        less than 64 KiB more, the next mirror. ``Retry-After`` is respected
403, 404, 410 and other 4xx            the next mirror
redirects                              followed ten times; without a valid address, the next mirror
200 to a request for a range           restart from the first byte
416                                    verify if complete, otherwise restart from the first byte
all bytes, wrong checksum              discard; repeat once if an earlier try left a part, else the next mirror
no byte, a page, more than announced   discard; the next mirror
not done after ``longest`` seconds     the next mirror
=====================================  =======================================================================
"""

import logging
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import requests
import tenacity
import urllib3

from nfbench.core.deadline import deadline
from nfbench.core.errors import NfbenchError, one_line
from nfbench.core.files import full_disk, sync
from nfbench.core.provenance import file_hash
from nfbench.datasets._sources import Archive

__all__ = ["Policy", "download", "require_space"]

_log = logging.getLogger(__name__)
_CHUNK = 1 << 16
_LARGEST = 1 << 38
_TRY_AGAIN = (408, 425, 429)
_REDIRECTS, _MOST_REDIRECTS = (301, 302, 303, 307, 308), 10
_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE)


@dataclass(frozen=True)
class Policy:
    """Limits and waits of a download, in seconds.

    Attributes:
        attempts: number of consecutive tries of one mirror that yield less than 64 KiB.
        timeout: limit for the response headers, including redirects, and for each 64 KiB of the body.
        wait: wait before the second try; doubles with each further try.
        longest_wait: upper limit of a wait, including one that the server requests.
        longest: limit for one mirror in total.
    """

    attempts: int = 5
    timeout: float = 60.0
    wait: float = 1.0
    longest_wait: float = 60.0
    longest: float = 24 * 3600.0


class _TryAgain(Exception):
    """The mirror may work later."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class _NextMirror(Exception):
    """The mirror will not work."""


class _Session(requests.Session):
    """Does not follow redirects: requests would read the whole body of one, which may never end."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Returns None, so that requests follows no redirect."""


def download(archive: Archive, folder: Path, known: str | None = None, policy: Policy | None = None) -> Path:
    """Downloads an archive from the first mirror that serves the right file.

    Args:
        archive: the archive to download.
        folder: destination of the archive and of its ``.part``.
        known: SHA-256 recorded by an earlier download, if none is published.
        policy: limits and waits.

    Returns:
        Path of the complete file. Its checksum is verified if one is published or known.

    Raises:
        NfbenchError: no mirror serves the right file (the message lists what each answered), or the disk is full (the
            partial file is removed).
    """
    path, part = folder / archive.name, folder / f"{archive.name}.part"
    folder.mkdir(parents=True, exist_ok=True)
    expected = archive.expected(known)
    outcomes: list[str] = []
    for url in () if path.exists() else archive.urls:
        try:
            _from_mirror(url, part, archive.size, expected, policy or Policy())
            sync(part)
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
        raise NfbenchError(f"{archive.name} could not be downloaded: {'; '.join(outcomes) or 'no mirror is known'}")
    return path


def _from_mirror(url: str, part: Path, size: int | None, expected: tuple[str, str] | None, policy: Policy) -> None:
    """Completes ``part`` from one mirror; restarts if the existing part turns out to be wrong."""
    resumed, ends = part.exists(), time.monotonic() + policy.longest
    _retrying(policy, part, lambda: _fetch(url, part, size, policy, ends))
    try:
        _check(part, expected)
    except _NextMirror as failure:
        if not resumed:
            raise
        _log.warning("%s: %s; an earlier try began this file, so it is downloaded once more", url, failure)
        _retrying(policy, part, lambda: _fetch(url, part, size, policy, ends))
        _check(part, expected)


def _retrying(policy: Policy, part: Path, fetch: Callable[[], None]) -> None:
    """Calls ``fetch`` until it succeeds; a try that makes progress resets the count."""
    while True:
        before = _size(part)
        try:
            _rounds(policy, part, before)(fetch)
            return
        except _TryAgain as failure:
            if not _got_on(part, before):
                raise
            _log.info("%s: %s; resuming from byte %d", part.name, failure, _size(part))
            time.sleep(policy.wait)


def _rounds(policy: Policy, part: Path, before: int) -> tenacity.Retrying:
    """Retries until a try succeeds, progresses beyond byte ``before``, or is the last."""

    def wait(state: tenacity.RetryCallState) -> float:
        failure = state.outcome and state.outcome.exception()
        asked = failure.after if isinstance(failure, _TryAgain) else None
        doubled = policy.wait * 2 ** (state.attempt_number - 1)
        return min(policy.longest_wait, doubled if asked is None else asked)

    return tenacity.Retrying(
        stop=lambda state: state.attempt_number >= policy.attempts or _got_on(part, before),
        wait=wait,
        retry=tenacity.retry_if_exception_type(_TryAgain),
        reraise=True,
    )


def _got_on(part: Path, before: int) -> bool:
    """Whether a try made enough progress; otherwise a server that sends single bytes would never end."""
    return _size(part) >= before + _CHUNK


@contextmanager
def _asking(policy: Policy, ends: float) -> Iterator[None]:
    """Limits the time of a request, and turns its errors into ``_TryAgain`` or ``_NextMirror``."""
    left = ends - time.monotonic()
    if left <= 0:
        raise _NextMirror(f"not complete after {policy.longest:g} s")
    try:
        with deadline(min(policy.timeout, left)):
            yield
    except _NextMirror:
        raise
    except ValueError as error:
        raise _NextMirror(f"not a valid address ({one_line(error)})") from None
    except Exception as error:  # of the connection, or an invalid response
        _log.info("the request failed", exc_info=True)
        raise _TryAgain(_reason(error)) from None


def _fetch(url: str, part: Path, size: int | None, policy: Policy, ends: float) -> None:
    """Requests the missing part of a file once."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with _Session() as session:
        with _asking(policy, ends):
            answer = _open(session, url, headers, policy.timeout)
        with answer:
            pieces = _pieces(answer, policy, ends)
            _receive(answer, pieces, part, have, size)


def _open(session: requests.Session, url: str, headers: dict[str, str], timeout: float) -> requests.Response:
    """Follows all redirects and returns the final response; reads only the headers of redirects."""
    for _ in range(_MOST_REDIRECTS + 1):
        answer = session.get(url, headers=headers, stream=True, timeout=timeout)
        if answer.status_code not in _REDIRECTS:
            return answer
        answer.close()
        target = answer.headers.get("Location", "").encode("latin-1").decode(errors="replace")
        if not target:
            raise _NextMirror(f"{answer.status_code} without an address")
        url = urljoin(url, target)
    raise _NextMirror(f"more than {_MOST_REDIRECTS} redirects")


def _pieces(answer: requests.Response, policy: Policy, ends: float) -> Iterator[bytes]:
    """Yields the body as sent, without decompressing it."""
    while True:
        with _asking(policy, ends):
            piece = answer.raw.read(_CHUNK, decode_content=False)
        if not piece:
            return
        yield piece


def _receive(answer: requests.Response, pieces: Iterator[bytes], part: Path, have: int, size: int | None) -> None:
    """Appends the response to the file, or restarts it; the file is complete afterwards."""
    status, total = answer.status_code, _total(answer)
    if status == 416:  # nothing is missing, or the partial file belongs to another file
        if have and have == total == (size or total):
            return
        part.unlink(missing_ok=True)
        raise _TryAgain("416, the partial file is of another file") if have else _NextMirror("416 to a whole file")
    if status in _TRY_AGAIN or status >= 500:
        raise _TryAgain(_status(answer), _retry_after(answer))
    if status not in (200, 206):
        raise _NextMirror(_status(answer))
    if status == 206 and _first(answer) != have:
        part.unlink(missing_ok=True)
        raise _TryAgain("206 with another range than requested")
    start = have if status == 206 else 0
    total = size if total is None else total
    if size is not None and total != size:
        raise _NextMirror(f"has {total} bytes, {size} are stated")
    limit, why = _limit(part.parent, total, start)
    with part.open("ab" if start else "wb") as file:
        written = start
        for piece in _with_bar(pieces, part, start, total):
            written += len(piece)
            if written > limit:
                part.unlink()
                raise _NextMirror(f"sends more than the {limit:,} bytes that {why}")
            file.write(piece)
    if not written:
        part.unlink()
        raise _NextMirror("sent no byte")
    if total is not None and written != total:
        raise _TryAgain(f"ended at byte {written} of {total}")


def _limit(folder: Path, total: int | None, start: int) -> tuple[int, str]:
    """Returns how many bytes a server may send and why: as announced, otherwise as the disk can hold."""
    if total is None:
        free = start + shutil.disk_usage(folder).free
        return (free, "are free; free some space") if free < _LARGEST else (_LARGEST, "any dataset has")
    try:
        require_space(folder, total - start)
    except NfbenchError as error:
        raise _NextMirror(str(error)) from None
    return total, "are announced"


def _check(part: Path, expected: tuple[str, str] | None) -> None:
    """Discards a wrong file. Without a checksum, it only recognizes an HTML page."""
    if expected is None:
        with part.open("rb") as file:
            if not _PAGE.match(file.read(_CHUNK)):
                return
        part.unlink()
        raise _NextMirror("sent a web page instead of an archive; discarded")
    algorithm, checksum = expected
    found = file_hash(part, algorithm)
    if found != checksum:
        part.unlink()
        raise _NextMirror(f"{algorithm} is {found}, expected {checksum}; discarded")


def require_space(folder: Path, needed: int) -> None:
    """Checks that the disk of a folder has ``needed`` bytes free.

    Raises:
        NfbenchError: it has fewer; the message gives both numbers.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NfbenchError(f"{folder}: {needed:,} bytes are needed, {free:,} are free; free some space")


def _with_bar(chunks: Iterator[bytes], part: Path, start: int, total: int | None) -> Iterator[bytes]:
    """Passes pieces on and shows the progress on a terminal."""
    from tqdm import tqdm

    bar = tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=not sys.stderr.isatty())
    with bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))


def _total(answer: requests.Response) -> int | None:
    """Returns the size of the whole file according to the server."""
    within = _number(answer.headers.get("Content-Range", "").rpartition("/")[2])
    if within is None and answer.status_code == 200:
        return _number(answer.headers.get("Content-Length", ""))
    return within


def _first(answer: requests.Response) -> int | None:
    """Returns the first byte of the range that the server sends."""
    return _number(answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0])


def _retry_after(answer: requests.Response) -> float | None:
    return _number(answer.headers.get("Retry-After", ""))


def _number(text: str) -> int | None:
    """Parses a number in a header; None if it is not a number."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text.strip()) else None


def _status(answer: requests.Response) -> str:
    return f"{answer.status_code} {one_line(answer.reason or 'without a reason', 60)}"


def _reason(error: Exception) -> str:
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(error, urllib3.exceptions.ProtocolError) or "Connection broken" in str(error):
        return "closed the connection"
    return f"no connection ({type(error).__name__})"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
