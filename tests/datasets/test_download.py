"""Downloads from servers with all kinds of behaviour, and the files that each leaves."""

import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nfbench.core.errors import NfbenchError
from nfbench.datasets._download import Policy, download
from nfbench.datasets._sources import Archive
from tests.datasets.loopback import loopback

CONTENT = np.random.default_rng(0).bytes(400_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HASTY = Policy(attempts=2, timeout=1.5, wait=0.01, longest_wait=0.05)


@pytest.fixture
def server():
    with loopback() as state:
        yield state


def archive(*urls, sha256=SHA256, **values):
    return Archive(name="set.tar", urls=urls, sha256=sha256, **values)


def got(folder, *urls, policy=HASTY, **values):
    path = download(archive(*urls, **values), folder, policy=policy)
    assert path.read_bytes() == CONTENT
    assert [file.name for file in folder.iterdir()] == ["set.tar"]
    return path


@pytest.mark.parametrize(
    ("script", "ranges"),
    [
        (["ok"], [None]),
        (["truncates", "ok"], [None, "bytes=200000-"]),
        (["stalls", "ok"], [None, "bytes=196608-"]),  # three pieces of 64 KiB
        (["truncates", "ignores range"], [None, "bytes=200000-"]),
        (["truncates", "wrong range", "ok"], [None, "bytes=200000-", None]),
        (["429", "ok"], [None, None]),
        (["500", "ok"], [None, None]),
        (["503", "truncates", "503", "ok"], [None, None, "bytes=200000-", "bytes=200000-"]),
        (["unannounced"], [None]),
    ],
    ids=lambda value: " then ".join(value) if isinstance(value[0], str) else "",
)
def test_one_mirror_that_recovers(server, tmp_path, script, ranges):
    got(tmp_path, server.serve("set", CONTENT, *script))
    assert [asked for _, asked in server.requests] == ranges


@pytest.mark.parametrize(
    ("script", "tries", "message"),
    [
        (["403"], 1, "403 Forbidden"),
        (["404"], 1, "404 Not Found"),
        (["410"], 1, "410 Gone"),
        (["429"], 2, "429 Too Many Requests"),
        (["500"], 2, "500 Internal Server Error"),
        (["wrong bytes"], 1, "sha256 is .*, expected .*; discarded"),
        (["unannounced half"], 1, "sha256 is .*, expected .*; discarded"),
        (["truncates", "500"], 3, "500 Internal Server Error"),
    ],
)
def test_one_mirror_that_fails_is_named_and_the_next_is_taken(server, tmp_path, caplog, script, tries, message):
    bad, good = server.serve("bad", CONTENT, *script), server.serve("good", CONTENT)
    with pytest.raises(NfbenchError, match=rf"^set.tar could not be downloaded: {bad}: {message}$"):
        download(archive(bad), tmp_path / "alone", policy=HASTY)
    assert not (tmp_path / "alone/set.tar").exists()
    assert [path for path, _ in server.requests] == ["bad"] * tries
    server.scripts["bad"] = list(script)
    got(tmp_path / "both", bad, good)
    assert bad in caplog.text


def test_nobody_listens(server, tmp_path):
    dead = "http://127.0.0.1:1/set"
    with pytest.raises(NfbenchError, match=rf"{dead}: no connection \(ConnectionError\)"):
        download(archive(dead), tmp_path, policy=HASTY)
    got(tmp_path, dead, "not a valid address", server.serve("set", CONTENT))


def test_a_part_of_one_mirror_is_completed_by_another(server, tmp_path):
    first, second = server.serve("a", CONTENT, "truncates", "404"), server.serve("b", CONTENT)
    got(tmp_path, first, second)
    assert server.requests[-1] == ("b", "bytes=200000-")


def test_a_part_of_another_file_is_thrown_away(server, tmp_path):
    (tmp_path / "set.tar.part").write_bytes(bytes(1000))
    got(tmp_path, server.serve("set", CONTENT))
    assert [asked for _, asked in server.requests] == ["bytes=1000-", None]


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_that_has_all_bytes_or_more(server, tmp_path, length):
    (tmp_path / "set.tar.part").write_bytes((CONTENT + b"extra")[:length])
    got(tmp_path, server.serve("set", CONTENT, "no such range"))
    assert len(server.requests) == (1 if length == len(CONTENT) else 2)


def test_what_is_complete_is_not_asked_for_again(server, tmp_path):
    url = server.serve("set", CONTENT)
    got(tmp_path, url)
    got(tmp_path, url)
    assert len(server.requests) == 1


def test_a_file_of_another_size_than_stated_is_refused_before_it_is_read(server, tmp_path):
    with pytest.raises(NfbenchError, match="has 400000 bytes, 5 are stated"):
        download(archive(server.serve("set", CONTENT), size=5), tmp_path, policy=HASTY)
    assert not list(tmp_path.iterdir())


def test_too_little_space_is_seen_before(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 399_999}))
    with pytest.raises(NfbenchError, match=r"400,000 bytes are needed, 399,999 are free"):
        download(archive(server.serve("set", CONTENT)), tmp_path, policy=HASTY)
    assert not list(tmp_path.iterdir())


def test_md5_is_checked_where_it_is_what_is_published(server, tmp_path):
    url, md5 = server.serve("set", CONTENT), hashlib.md5(CONTENT).hexdigest()
    got(tmp_path / "right", url, sha256=None, md5=md5)
    with pytest.raises(NfbenchError, match="md5 is"):
        download(archive(url, sha256=None, md5="0" * 32), tmp_path / "wrong", policy=HASTY)


def test_a_checksum_recorded_earlier_is_held_to(server, tmp_path):
    url = server.serve("set", CONTENT)
    with pytest.raises(NfbenchError, match="sha256 is"):
        download(archive(url, sha256=None), tmp_path / "other", known="0" * 64, policy=HASTY)
    assert download(archive(url, sha256=None), tmp_path / "same", known=SHA256, policy=HASTY).exists()


def test_waits_grow_and_keep_to_what_a_server_asks(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    url = server.serve("set", CONTENT, "500", "500", "500", "429", "ok")
    got(tmp_path, url, policy=Policy(attempts=5, timeout=1, wait=1, longest_wait=3))
    assert waits == [1, 2, 3, 0]


def test_progress_is_logged(server, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    url = server.serve("set", CONTENT, "truncates", "ok")
    got(tmp_path, url)
    assert "set.tar.part: closed the connection; resuming from byte 200000" in caplog.text
    assert f"set.tar: 400000 bytes from {url}" in caplog.text


def test_a_killed_download_goes_on_where_it_was(server, tmp_path):
    url = server.serve("set", CONTENT, "stalls", "ok")
    code = "import sys; from pathlib import Path; from nfbench.datasets._download import download; " \
        "from nfbench.datasets._sources import Archive; " \
        "download(Archive(name='set.tar', urls=(sys.argv[1],)), Path(sys.argv[2]))"  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", code, url, str(tmp_path)])
    part = tmp_path / "set.tar.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size >= 65_536) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    assert not (tmp_path / "set.tar").exists()
    got(tmp_path, url)
    assert server.requests[-1] == ("set", f"bytes={have}-")


def test_nothing_is_asked_of_an_archive_without_mirrors(tmp_path):
    with pytest.raises(NfbenchError, match=r"set.tar could not be downloaded: no mirror is known"):
        download(archive(), Path(tmp_path), policy=HASTY)
