"""Unpacking: what is in the archive and nothing else, and hostile archives of many kinds."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.datasets._unpack import BadArchive, unpack

FILES = {"a/train/good/000.png": b"image", "a/empty": b"", "b.csv": b"x,y\n" * 1000}
LIMIT = 10_000


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, size, 0o6755
    return info


def tar(path: Path, *entries: tarfile.TarInfo | tuple[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as opened:
        for item in entries:
            info, content = (item, None) if isinstance(item, tarfile.TarInfo) else (entry(item[0]), item[1])
            if content is not None:
                info.size = len(content)
            opened.addfile(info, content and io.BytesIO(content))
    return path


def zipped(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in entries:
            opened.writestr(name, content)
    return path


def zip_entry(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o644) << 16
    return info


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_files_come_out_as_they_went_in(tmp_path, kind):
    path = tmp_path / "archive"
    made = zipped(path, *FILES.items()) if kind == "zip" else tar(path, *FILES.items(), mode=kind)
    assert unpack(made, tmp_path / "out", LIMIT) == sum(map(len, FILES.values()))
    found = {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == FILES
    assert not any(
        p.stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR) for p in (tmp_path / "out").glob("*.csv")
    )


SMALL = ("first.png", b"image")
HOSTILE = {
    "absolute path": lambda p: tar(p, SMALL, ("/tmp/nfbench-evil", b"x")),
    "parent folder": lambda p: tar(p, SMALL, ("a/../../evil", b"x")),
    "symbolic link out": lambda p: tar(p, SMALL, entry("a", tarfile.SYMTYPE, "/etc/passwd")),
    "relative link out": lambda p: tar(p, SMALL, entry("a/b", tarfile.SYMTYPE, "../../evil")),
    "file through a link": lambda p: tar(p, SMALL, entry("a", tarfile.SYMTYPE, "/tmp"), ("a/nfbench-evil", b"x")),
    "hard link out": lambda p: tar(p, SMALL, entry("a", tarfile.LNKTYPE, "/etc/passwd")),
    "character device": lambda p: tar(p, SMALL, entry("zero", tarfile.CHRTYPE)),
    "block device": lambda p: tar(p, SMALL, entry("disk", tarfile.BLKTYPE)),
    "pipe": lambda p: tar(p, SMALL, entry("pipe", tarfile.FIFOTYPE)),
    "bomb": lambda p: tar(p, SMALL, ("zeros", bytes(LIMIT)), mode="w:xz"),
    "many small files": lambda p: tar(p, *((f"{n}", bytes(500)) for n in range(21)), mode="w:gz"),
    "name twice": lambda p: tar(p, SMALL, SMALL),
    "folder over a file": lambda p: tar(p, SMALL, ("first.png/evil", b"x")),
    "control character": lambda p: tar(p, SMALL, ("evil\n.png", b"x")),
    "zip absolute path": lambda p: zipped(p, SMALL, ("/tmp/nfbench-evil", b"x")),
    "zip parent folder": lambda p: zipped(p, SMALL, ("../evil", b"x")),
    "zip parent folder of another system": lambda p: zipped(p, SMALL, ("a\\..\\..\\evil", b"x")),
    "zip drive": lambda p: zipped(p, SMALL, ("C:\\evil", b"x")),
    "zip link": lambda p: zipped(p, SMALL, (zip_entry("a", stat.S_IFLNK), b"/etc/passwd")),
    "zip device": lambda p: zipped(p, SMALL, (zip_entry("a", stat.S_IFCHR), b"")),
    "zip bomb": lambda p: zipped(p, SMALL, ("zeros", bytes(LIMIT))),
    "zip that is encrypted": lambda p: encrypted(zipped(p, SMALL)),
}


def encrypted(path: Path) -> Path:
    """Set the flag of encryption in both headers of the only file."""
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused_and_leave_nothing(tmp_path, kind):
    work = tmp_path / "work"
    work.mkdir()
    path = HOSTILE[kind](work / "archive")
    with pytest.raises(BadArchive, match="refused"):
        unpack(path, work / "out", LIMIT)
    assert [file.name for file in work.iterdir()] == ["archive"]
    assert [file.name for file in tmp_path.iterdir()] == ["work"]
    assert not os.path.exists("/tmp/nfbench-evil")


def test_what_a_header_says_of_a_size_does_not_count(tmp_path):
    """Two files of a zip that overlap, or one with a lying header, unpack to more than all headers say."""
    path = zipped(tmp_path / "archive", ("zeros", bytes(50_000)))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = content.index(signature) + offset
        content[start : start + 4] = (100).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(BadArchive):
        unpack(path, tmp_path / "out", LIMIT)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:xz", "zip"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_archives_that_are_cut_short_are_named(tmp_path, kind, share):
    path, content = tmp_path / "archive", os.urandom(5000)
    zipped(path, ("a", content)) if kind == "zip" else tar(path, ("a", content), mode=kind)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    if kind == "w" and share > 0.5:  # what is missing is filling of zeros alone
        path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BadArchive, match=r"archive (is truncated or damaged|is neither a tar nor a zip)"):
        unpack(path, tmp_path / "out", LIMIT)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", b""])
def test_a_page_instead_of_an_archive_is_named(tmp_path, content):
    (tmp_path / "set.tar").write_bytes(content)
    with pytest.raises(BadArchive, match=r"set.tar (is neither a tar nor a zip|contains no file)"):
        unpack(tmp_path / "set.tar", tmp_path / "out", LIMIT)


def test_too_little_space_is_seen_before(tmp_path, monkeypatch):
    path = tar(tmp_path / "archive", ("a", bytes(5000)))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 100}))
    with pytest.raises(NfbenchError, match="100 are free"):
        unpack(path, tmp_path / "out", LIMIT)
    assert not (tmp_path / "out").exists()
