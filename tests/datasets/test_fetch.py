"""Download of a dataset by name: locks, records, kills, full disks, and archives downloaded by hand."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import file_sha256
from nfbench.datasets._base import find_dataset
from nfbench.datasets._check import check_dataset
from nfbench.datasets._download import Policy
from nfbench.datasets._fetch import fetch
from nfbench.datasets._sources import Source, find_source, record_path
from tests.datasets.loopback import loopback

NOWHERE = "http://127.0.0.1:1/btad.zip"
HASTY = Policy(attempts=2, timeout=2, wait=0.01, longest_wait=0.05)


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    """BTAD's miniature as an archive, in a folder of the archive's own."""
    folder = tmp_path_factory.mktemp("packed")
    find_dataset("btad").miniature(folder / "BTech_Dataset_transformed")
    with zipfile.ZipFile(folder / "btad.zip", "w") as opened:
        for path in sorted((folder / "BTech_Dataset_transformed").rglob("*")):
            opened.write(path, path.relative_to(folder))
    return folder / "btad.zip"


@pytest.fixture
def server():
    with loopback() as state:
        yield state


def source(*urls, **archive):
    values = find_source("btad").model_dump() | {"archives": [{"name": "btad.zip", "urls": urls, **archive}]}
    return Source(**values)


def left(data_root: Path) -> set[str]:
    """Files beside the datasets."""
    state = data_root / ".nfbench"
    return {str(path.relative_to(state)) for path in state.rglob("*") if path.is_file()}


def test_a_dataset_is_fetched_once_and_can_be_read(server, packed, tmp_path):
    where = source(server.serve("btad", packed.read_bytes()), sha256=file_sha256(packed))
    folder = fetch("btad", tmp_path, source=where, policy=HASTY)
    assert folder == tmp_path / "btad"
    assert find_dataset("btad").available(folder) == ["01", "02", "03"]
    assert check_dataset(find_dataset("btad"), folder).sound
    assert left(tmp_path) == {"btad.json", "btad.lock"}
    (described,) = json.loads(record_path("btad", tmp_path).read_text())["archives"]
    assert (described["sha256"], described["size"]) == (file_sha256(packed), packed.stat().st_size)
    fetch("btad", tmp_path, source=where, policy=HASTY)
    assert len(server.requests) == 1


def test_archives_are_kept_on_request(server, packed, tmp_path):
    fetch("btad", tmp_path, source=source(server.serve("btad", packed.read_bytes())), keep=True, policy=HASTY)
    assert (tmp_path / ".nfbench/downloads/btad.zip").read_bytes() == packed.read_bytes()


def test_the_first_download_records_a_checksum_that_is_not_published(server, packed, tmp_path, caplog):
    url = server.serve("btad", packed.read_bytes())
    fetch("btad", tmp_path, source=source(url), policy=HASTY)
    assert "btad.zip: no checksum is published; recorded its SHA-256" in caplog.text
    os.rename(tmp_path / "btad", tmp_path / "elsewhere")
    server.files["btad"] = packed.read_bytes() + b"changed"
    with pytest.raises(NfbenchError, match=rf"sha256 is .*, expected {file_sha256(packed)}; discarded"):
        fetch("btad", tmp_path, source=source(url), policy=HASTY)
    assert not (tmp_path / "btad").exists()
    server.files["btad"] = packed.read_bytes()
    assert fetch("btad", tmp_path, source=source(url), policy=HASTY).is_dir()


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", "half"])
def test_what_is_no_archive_is_neither_recorded_nor_kept(server, packed, tmp_path, content):
    body = packed.read_bytes()
    url = server.serve("btad", body[: len(body) // 2] if content == "half" else content, "unannounced")
    with pytest.raises(
        NfbenchError, match=r"were removed; run again to repeat them|sent a web page instead of an archive; discarded"
    ):
        fetch("btad", tmp_path, source=source(url), policy=HASTY)
    assert left(tmp_path) == {"btad.lock"}
    server.files["btad"] = body
    assert fetch("btad", tmp_path, source=source(url), policy=HASTY).is_dir()


@pytest.mark.parametrize("content", [b"PK no zip", b"<html>Please log in</html>", b"", "half", "other"])
def test_the_next_mirror_has_the_right_archive_where_no_checksum_is_published(server, packed, tmp_path, content):
    if content == "half":
        content = packed.read_bytes()[: packed.stat().st_size // 2]
    elif content == "other":
        with tarfile.open(tmp_path / "other.tar", "w") as opened:
            opened.add(__file__, "folder/test.py")
        content = (tmp_path / "other.tar").read_bytes()
    urls = server.serve("bad", content), server.serve("worse", content), server.serve("good", packed.read_bytes())
    assert fetch("btad", tmp_path / "data", source=source(*urls), policy=HASTY).is_dir()
    assert left(tmp_path / "data") == {"btad.json", "btad.lock", "checksums.json"}
    with pytest.raises(NfbenchError, match=r"btad.zip|not contain dataset 'btad'"):
        fetch("btad", tmp_path / "none", source=source(*urls[:2]), policy=HASTY)
    assert left(tmp_path / "none") == {"btad.lock"}


def test_an_archive_of_something_else_is_refused(server, tmp_path):
    with tarfile.open(tmp_path / "other.tar", "w") as opened:
        opened.add(__file__, "folder/test.py")
    url = server.serve("btad", (tmp_path / "other.tar").read_bytes())
    with pytest.raises(NfbenchError, match="the archive does not contain dataset 'btad'"):
        fetch("btad", tmp_path / "data", source=source(url), policy=HASTY)
    assert not (tmp_path / "data/btad").exists()


def test_what_was_put_there_by_hand_is_left_alone(server, tmp_path):
    (tmp_path / "btad").mkdir()
    assert fetch("btad", tmp_path, source=source(server.serve("btad", b""))) == tmp_path / "btad"
    assert not server.requests
    assert record_path("btad", tmp_path).exists()


@pytest.mark.parametrize("name", ["lgg_mri", "shanghaitech", "mpdd"])
def test_a_form_or_login_is_said_with_what_to_do(name, tmp_path):
    with pytest.raises(NfbenchError, match=rf"cannot be downloaded directly: .*Licence: .*data fetch {name} --archive"):
        fetch(name, tmp_path)


def test_archives_of_the_user_are_read_and_kept(packed, tmp_path):
    assert fetch("btad", tmp_path, by_hand=[packed], source=source(NOWHERE)).is_dir()
    assert packed.exists()
    with pytest.raises(NfbenchError, match=r"needs 1 archives \(btad.zip\), but got 2"):
        fetch("btad", tmp_path / "b", by_hand=[packed, packed], source=source(NOWHERE))
    with pytest.raises(NfbenchError, match=r"archive .*none.zip does not exist"):
        fetch("btad", tmp_path / "b", by_hand=[tmp_path / "none.zip"], source=source(NOWHERE))
    with pytest.raises(NfbenchError, match=r"differs from btad.zip, the published one: sha256 is"):
        fetch("btad", tmp_path / "b", by_hand=[packed], source=source(NOWHERE, sha256="0" * 64))
    assert not (tmp_path / "b/btad").exists()


FETCH = """
import sys
from pathlib import Path
from nfbench.datasets import _fetch as fetch, _unpack as unpack
from nfbench.datasets._sources import Source
{before}
fetch.fetch("btad", Path(sys.argv[2]), source=Source.model_validate_json(sys.argv[1]))
"""
DIE = """
import os, signal
check, seen = unpack._check, []
def dies(archive, member):
    seen.append(member)
    if len(seen) == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    check(archive, member)
unpack._check = dies
"""


def start(where: Source, data_root: Path, before: str = "") -> subprocess.Popen:
    command = [sys.executable, "-c", FETCH.format(before=before), where.model_dump_json(), str(data_root)]
    return subprocess.Popen(command)


def test_a_process_that_is_killed_while_unpacking_is_made_good(server, packed, tmp_path):
    where = source(server.serve("btad", packed.read_bytes()))
    assert start(where, tmp_path, DIE).wait() == -signal.SIGKILL
    assert len(list((tmp_path / ".nfbench/btad.unpacking").rglob("*.*"))) > 5
    assert not (tmp_path / "btad").exists()
    fetch("btad", tmp_path, source=where, policy=HASTY)
    assert len(server.requests) == 1
    assert left(tmp_path) == {"btad.json", "btad.lock", "checksums.json"}
    assert check_dataset(find_dataset("btad"), tmp_path / "btad").sound


def test_two_processes_fetch_once(server, packed, tmp_path):
    where = source(server.serve("btad", packed.read_bytes(), "stalls", "ok"))  # the first holds the lock for a while
    both = [start(where, tmp_path) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert [asked is None for _, asked in server.requests] == [True, False]  # one download, resumed once
    assert find_dataset("btad").available(tmp_path / "btad") == ["01", "02", "03"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here (no permission)")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("behaviour", ["ok", "unannounced"])
def test_a_disk_that_is_too_small_for_the_archive_keeps_nothing(server, small_disk, behaviour):
    url = server.serve("btad", bytes(600_000), behaviour)
    with pytest.raises(NfbenchError, match=r"(600,000 bytes are needed|bytes that are free)"):
        fetch("btad", small_disk, source=source(url), policy=HASTY)
    assert left(small_disk) == {"btad.lock"}


def test_a_disk_that_is_too_small_for_the_images_keeps_the_archive_only(server, small_disk, tmp_path):
    with tarfile.open(tmp_path / "btad.tar.xz", "w:xz") as opened:
        (tmp_path / "zeros").write_bytes(bytes(600_000))
        opened.add(tmp_path / "zeros", "btad/01/train/ok/0000.bmp")
    url = server.serve("btad", (tmp_path / "btad.tar.xz").read_bytes())
    with pytest.raises(NfbenchError, match="the disk is full; free some space and run again"):
        fetch("btad", small_disk, source=source(url, unpacked=10**7), policy=HASTY)
    assert left(small_disk) == {"btad.lock", "downloads/btad.zip"}
    assert not (small_disk / "btad").exists()
