"""Servers that violate HTTP cost little time, and the next mirror provides the file."""

import contextlib
import hashlib
import itertools
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.datasets._download import Policy, download
from nfbench.datasets._sources import Archive

pytestmark = pytest.mark.slow

CONTENT = bytes(range(256)) * 600
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HASTY = Policy(attempts=2, timeout=0.3, wait=0.01, longest_wait=0.02, longest=1.2)
SECONDS = 15.0
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n"
END = b"Connection: close\r\n\r\n"


def headers(*lines: bytes, status: bytes = b"200 OK", body: bytes = b"abc") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + END + body


def drip(head: bytes, piece: bytes, pause: float = 0.02) -> Callable[[socket.socket], None]:
    """Send a piece, wait, and repeat forever."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in itertools.count():
            connection.sendall(piece)
            time.sleep(pause)

    return answer


def chunked(*chunks: bytes) -> bytes:
    return OK + b"Transfer-Encoding: chunked\r\n" + END + b"".join(chunks)


DIGITS = b"9" * 5000
ANSWERS = {
    "nothing": b"",
    "noise": b"\x00\xff\x13" * 100,
    "no status": b"Hello\r\n\r\n",
    "status of words": b"HTTP/1.1 two hundred\r\n\r\n",
    "status of superscripts": "HTTP/1.1 ²00 OK\r\n\r\n".encode("latin-1"),
    "status 0": headers(status=b"000 None"),
    "status 999": headers(status=b"999 Odd"),
    "status of 50 digits": headers(status=b"2" * 50 + b" OK"),
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "reason of two lines and colours": headers(status=b"404 \x1b[31mNot\x0bFound" + b"x" * 5000),
    "length of a superscript": headers(b"Content-Length: \xb2"),
    "length of 10^18": headers(b"Content-Length: 1000000000000000000"),
    "length of 10^17": headers(b"Content-Length: 100000000000000000"),
    "length of 5,000 digits": headers(b"Content-Length: " + DIGITS),
    "length below 0": headers(b"Content-Length: -5"),
    "length of words": headers(b"Content-Length: many"),
    "two lengths": headers(b"Content-Length: 3", b"Content-Length: 4"),
    "lengths with a comma": headers(b"Content-Length: 3, 4"),
    "length of 0": headers(b"Content-Length: 0", body=b""),
    "length with a plus": headers(b"Content-Length: +3"),
    "416 of nothing": headers(b"Content-Range: bytes */0", status=b"416 No", body=b""),
    "416 of superscripts": headers(b"Content-Range: bytes */\xb2", status=b"416 No", body=b""),
    "416 without a range": headers(status=b"416 No", body=b""),
    "206 without a question": headers(b"Content-Range: bytes 0-2/3", status=b"206 Partial"),
    "206 without a range": headers(status=b"206 Partial"),
    "206 of digits": headers(b"Content-Range: bytes \xb2-\xb3/\xb9", status=b"206 Partial"),
    "206 of 5,000 digits": headers(b"Content-Range: bytes 0-1/" + DIGITS, status=b"206 Partial"),
    "204": headers(status=b"204 No Content", body=b""),
    "304": headers(status=b"304 Not Modified", body=b""),
    "503 with an odd Retry-After": headers(b"Retry-After: \xb2", status=b"503 Busy"),
    "503 with a Retry-After of 5,000 digits": headers(b"Retry-After: " + DIGITS, status=b"503 Busy"),
    "503 with a date": headers(b"Retry-After: Fri, 31 Dec 1999 23:59:59 GMT", status=b"503 Busy"),
    "redirect without an address": headers(status=b"302 Found"),
    "redirect to an empty address": headers(b"Location: ", status=b"302 Found"),
    "redirect to itself": headers(b"Location: set.tar", status=b"302 Found"),
    "redirect to a file": headers(b"Location: file:///etc/passwd", status=b"302 Found"),
    "redirect to FTP": headers(b"Location: ftp://127.0.0.1/set.tar", status=b"301 Moved"),
    "redirect to a broken IPv6": headers(b"Location: http://[::1", status=b"301 Moved"),
    "redirect to a port of words": headers(b"Location: http://127.0.0.1:port/", status=b"307 Moved"),
    "redirect to port 99999": headers(b"Location: http://127.0.0.1:99999/", status=b"307 Moved"),
    "redirect to bytes": headers(b"Location: \xff\xfe\xfd", status=b"308 Moved"),
    "redirect to a long name": headers(b"Location: http://" + b"a" * 300 + b"/", status=b"302 Found"),
    "redirect to a dead port": headers(b"Location: http://127.0.0.1:1/", status=b"302 Found"),
    "redirect with an endless body": drip(b"HTTP/1.1 302 Found\r\nLocation: set.tar\r\n\r\n", b"x" * 65536, 0),
    "header without a colon": headers(b"no colon at all"),
    "header of 100 kB": headers(b"X: " + b"x" * 100_000),
    "1,000 headers": headers(*(b"X-%d: x" % n for n in range(1000))),
    "headers of bytes": headers(b"\xff\xfe: \x00\x01"),
    "headers that do not end": OK + b"X: x\r\n",
    "headers that drip": drip(OK + b"X: ", b"x"),
    "headers without end": drip(OK, b"X: x\r\n"),
    "continue for ever": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0),
    "body that drips": drip(OK + b"\r\n", b"x"),
    "announced body that drips": drip(OK + LENGTH % 10**6 + b"\r\n", b"x"),
    "body that stalls": OK + LENGTH % 10**6 + b"\r\nabc",
    "body cut short": headers(LENGTH.strip() % 10**6),
    "body that is too long": headers(LENGTH.strip() % 3, body=b"abcdef"),
    "another body": headers(LENGTH.strip() % len(CONTENT), body=CONTENT[::-1]),
    "a page": headers(body=b"<!DOCTYPE html><html>log in</html>"),
    "chunk of words": chunked(b"many\r\nabc\r\n"),
    "chunk below 0": chunked(b"-3\r\nabc\r\n"),
    "chunk of 5,000 digits": chunked(DIGITS + b"\r\nabc"),
    "chunk that is cut short": chunked(b"ff\r\nabc"),
    "chunks without end": drip(chunked(), b"1\r\nx\r\n"),
    "trailer without end": drip(chunked(b"3\r\nabc\r\n0\r\n"), b"X: x\r\n"),
    "gzip that is none": headers(b"Content-Encoding: gzip"),
    "an unknown encoding": headers(b"Content-Encoding: br, deflate, odd"),
    "an unknown transfer": headers(b"Transfer-Encoding: odd"),
    "cookies of bytes": headers(b"Set-Cookie: \xff=\x00; Expires=never"),
    "a byte for each request": headers(body=b"x"),
}
NO_SIZE = {
    "body without end": drip(OK + b"\r\n", b"x" * 65536, 0),
    "drip of 64 KiB": drip(OK + b"\r\n", b"x" * 40_000, 0.05),
}
"""Answers whose bytes come fast enough, and do not end."""


class Server(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 32

    def handle_error(self, *_: object) -> None:
        """Clients hang up on purpose."""


@contextlib.contextmanager
def serving(answer: bytes | Callable[[socket.socket], None]):
    """A server that gives one answer to all requests; yields its address."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            asked = b""
            while b"\r\n\r\n" not in asked:
                if not (got := self.request.recv(4096)):
                    return
                asked += got
            if callable(answer):
                answer(self.request)
                return
            self.request.sendall(answer)
            if b"Connection: close" not in answer and answer:
                time.sleep(1)  # does not hang up

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/set.tar"
        server.shutdown()


@pytest.fixture(scope="module")
def good():
    with serving(headers(LENGTH.strip() % len(CONTENT), body=CONTENT)) as url:
        yield url


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def archive(*urls, sha256=SHA256):
    return Archive(name="set.tar", urls=urls, sha256=sha256)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_odd_server_is_one_line_and_the_next_mirror_is_taken(tmp_path, good, caplog, name):
    started = time.monotonic()
    with serving(ANSWERS[name]) as bad:
        path = download(archive(bad, good), tmp_path, policy=HASTY)
    assert path.read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["set.tar"]
    (line,) = (message for message in caplog.messages if message.startswith(f"{bad}: "))
    assert line.isprintable()
    assert len(line) < 600
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("name", ["nothing", "length of a superscript", "416 of nothing", "redirect to bytes"])
def test_where_there_is_no_other_mirror_all_is_said_in_one_line(tmp_path, name):
    with serving(ANSWERS[name]) as bad, pytest.raises(NfbenchError) as raised:
        download(archive(bad), tmp_path, policy=HASTY)
    assert str(raised.value).startswith(f"set.tar could not be downloaded: {bad}: ")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", NO_SIZE)
def test_a_server_that_never_ends_is_given_up_by_time_and_size(tmp_path, good, name, monkeypatch):
    monkeypatch.setattr("nfbench.datasets._download._LARGEST", 10**7)
    with serving(NO_SIZE[name]) as bad:
        path = download(archive(bad, good), tmp_path, policy=HASTY)
        with pytest.raises(NfbenchError, match=r"not complete after 1.2 s|sends more than the 10,000,000 bytes"):
            download(archive(bad), tmp_path / "alone", policy=HASTY)
    assert path.read_bytes() == CONTENT


def test_a_page_in_place_of_an_archive_without_a_checksum_is_seen(tmp_path, good):
    with serving(ANSWERS["a page"]) as bad:
        path = download(archive(bad, good, sha256=None), tmp_path, policy=HASTY)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["header without a colon", "headers of bytes"])
def test_the_command_prints_no_trace(tmp_path, good, name):
    """urllib3 logs odd headers with a trace of its own."""
    code = (
        "import sys; from pathlib import Path; from nfbench import cli; cli._configure(None);"
        "from nfbench.datasets._download import download; from nfbench.datasets._sources import Archive;"
        "print(download(Archive(name='set.tar', urls=sys.argv[2:], sha256=sys.argv[1]), Path()))"
    )
    with serving(ANSWERS[name]) as bad:
        command = [sys.executable, "-c", code, SHA256, bad, good]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "set.tar"
    assert "Traceback" not in done.stderr
