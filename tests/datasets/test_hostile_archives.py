"""Malicious or damaged archives give one line, leave no files, and cost little memory and time."""

import gzip
import io
import random
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.datasets._fetch import fetch
from nfbench.datasets._sources import Source, find_source
from nfbench.datasets._unpack import BadArchive, unpack
from tests.datasets.test_unpack import SMALL, entry, tar, zip_entry, zipped

pytestmark = pytest.mark.slow

LIMIT = 200_000
SECONDS = 15.0
KINDS = {"tar": "w", "gz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}


def block(
    name: bytes = b"a",
    kind: bytes = b"0",
    size: bytes = b"00000000000\0",
    magic: bytes = b"ustar\x0000",
    checksum: bytes | None = None,
    rest: bytes = b"",
) -> bytes:
    """A header of a tar, byte by byte."""
    head = (
        name.ljust(100, b"\0")
        + b"0000644\0" * 3
        + size
        + b"00000000000\0"
        + b" " * 8
        + kind
        + bytes(100)
        + magic
        + rest
    )
    head = head.ljust(512, b"\0")[:512]
    found = checksum or b"%06o\0 " % sum(head)
    return head[:148] + found + head[156:]


def octal(number: int) -> bytes:
    return b"%011o\0" % number


def binary(number: int) -> bytes:
    """A number by the GNU form of 12 bytes, negative ones too."""
    return (b"\xff" if number < 0 else b"\x80") + (number % 256**11).to_bytes(11, "big")


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    body = b"".join(records)
    return block(b"pax", kind, octal(len(body))) + padded(body) + block(b"a", size=octal(1)) + padded(b"x")


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(b"%d" % length) + len(key) + len(value) + 3 != length:
        length = len(b"%d" % length) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def raw(content: bytes):
    return lambda path: written(path, content + bytes(1024))


def zeros(path: Path, first: bytes, n_bytes: int, last: bytes = b"") -> Path:
    """A gzip of a header and as many zeros."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(first)
        for _ in range(n_bytes >> 20):
            file.write(bytes(1 << 20))
        file.write(last)
    return path


def patched(path: Path, signature: bytes, offset: int, value: bytes) -> Path:
    """A zip with another value in each header of a kind."""
    content = bytearray(path.read_bytes())
    start = content.index(signature) + offset
    content[start : start + len(value)] = value
    return written(path, bytes(content))


GIB = 1 << 27  # stands for a gibibyte: enough to be seen in the memory, quickly compressed
DIGITS = b"9" * 5000
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
TARS = {
    "deep folders": lambda p: tar(p, *(entry("/".join("a" * n), tarfile.DIRTYPE) for n in range(1, 1001))),
    "one deep file": lambda p: tar(p, ("/".join("a" * 1500), b"x")),
    "deep by dots": lambda p: tar(p, ("/".join(["a", "."] * 40), b"x")),
    "part of 300 bytes": lambda p: tar(p, ("a" * 300, b"x")),
    "part of 200 letters of two bytes": lambda p: tar(p, ("ü" * 200, b"x")),
    "name of 5,000 bytes": lambda p: tar(p, ("/".join(["a" * 200] * 25), b"x")),
    "empty name": raw(block(b"", size=octal(1)) + padded(b"x")),
    "name of a dot": lambda p: tar(p, (".", b"x")),
    "name of bytes": raw(block(b"\xff\xfe", size=octal(1)) + padded(b"x")),
    "name with a NUL": lambda p: written(p, pax(record(b"path", b"a\0b")) + bytes(1024)),
    "name with a colour": lambda p: tar(p, ("\x1b[31mred", b"x")),
    "name turned round": lambda p: tar(p, ("a\u202egnp.exe", b"x")),
    "name of two lines": lambda p: tar(p, ("a\nb", b"x")),
    "GNU long name of a gibibyte": lambda p: zeros(p, block(kind=b"L", size=octal(GIB)), GIB, block()),
    "GNU long link of a gibibyte": lambda p: zeros(p, block(kind=b"K", size=octal(GIB)), GIB, block()),
    "PAX header of a gibibyte": lambda p: zeros(p, block(kind=b"x", size=octal(GIB)), GIB, block()),
    "global PAX header of a gibibyte": lambda p: zeros(p, block(kind=b"g", size=octal(GIB)), GIB, block()),
    "Solaris header of a gibibyte": lambda p: zeros(p, block(kind=b"X", size=octal(GIB)), GIB, block()),
    "second header of a gibibyte": lambda p: zeros(
        p, block(b"a", size=octal(1)) + padded(b"x") + block(kind=b"x", size=octal(GIB)), GIB, block()
    ),
    "GNU long name below 0": raw(block(kind=b"L", size=binary(-5)) + block()),
    "GNU long name of 10^18": raw(block(kind=b"L", size=binary(10**18)) + block()),
    "PAX header of 10^18": raw(block(kind=b"x", size=binary(10**18)) + block()),
    "1,000 long names": raw((block(kind=b"L", size=octal(2)) + padded(b"a\0")) * 1000 + block()),
    "1,000 PAX headers": raw((block(kind=b"x", size=octal(14)) + padded(record(b"a", b"b" * 8))) * 1000 + block()),
    "100 global headers": lambda p: written(
        p, (block(kind=b"g", size=octal(60_000)) + padded(record(b"a", b"b" * 59_990))) * 100 + block()
    ),
    "PAX length of 5,000 digits": raw(pax(DIGITS + b" a=b\n")),
    "PAX length of 0": raw(pax(b"0 a=b\n")),
    "PAX length below 0": raw(pax(b"-5 a=b\n")),
    "PAX length of superscripts": raw(pax("²³ a=b\n".encode())),
    "PAX length beyond the end": raw(pax(b"999999 a=b\n")),
    "PAX without an equals sign": raw(pax(b"6 ab\n")),
    "PAX size of 5,000 digits": raw(pax(record(b"size", DIGITS))),
    "PAX size of 10^18": raw(pax(record(b"size", b"1" + b"0" * 18))),
    "PAX size of 10^30": raw(pax(record(b"size", b"1" + b"0" * 30))),
    "PAX size below 0": raw(pax(record(b"size", b"-1000"))),
    "PAX path out": raw(pax(record(b"path", b"../../evil"))),
    "PAX absolute path": raw(pax(record(b"path", b"/tmp/nfbench-evil"))),
    "PAX path of 60,000 bytes": lambda p: written(p, pax(record(b"path", b"a/" * 30_000))),
    "PAX charset": raw(pax(record(b"hdrcharset", b"ODD"), record(b"path", b"\xff\xfe"))),
    "PAX sparse 0.0": raw(pax(record(b"GNU.sparse.size", b"1000000000000"), record(b"GNU.sparse.numblocks", b"1"))),
    "PAX sparse 0.1": raw(pax(record(b"GNU.sparse.size", b"1000000000000"), record(b"GNU.sparse.map", b"0,1"))),
    "PAX sparse map of words": raw(pax(record(b"GNU.sparse.size", b"9"), record(b"GNU.sparse.map", b"a,b"))),
    "PAX sparse 1.0": raw(
        pax(record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.minor", b"0"), record(b"GNU.sparse.realsize", b"9"))
    ),
    "GNU sparse": raw(block(kind=b"S", size=octal(1)) + padded(b"x")),
    "GNU sparse of a gibibyte": lambda p: zeros(p, block(kind=b"S", size=octal(0), rest=bytes(137) + b"\1") , GIB),
    "size of 10^18": raw(block(size=binary(10**18)) + padded(b"x")),
    "size of 8 GiB": raw(block(size=b"77777777777\0") + padded(b"x")),
    "size below 0": raw(block(size=binary(-1)) + padded(b"x")),
    "size far below 0": raw(block(size=binary(-(10**18))) + padded(b"x")),
    "size of letters": raw(block(size=b"lettersofsize") + padded(b"x")),
    "size of spaces": raw(block(size=b" " * 12) + padded(b"x")),
    "checksum of letters": raw(block(checksum=b"letters!")),
    "wrong checksum": raw(block(checksum=b"000001\0 ")),
    "folder with a size": raw(block(kind=b"5", size=binary(10**18)) + block(size=octal(1)) + padded(b"x")),
    "unknown kind": raw(block(kind=b"Z", size=octal(1)) + padded(b"x")),
    "contiguous file of 10^18": raw(block(kind=b"7", size=binary(10**18))),
    "multi-volume": raw(block(kind=b"M", size=octal(1)) + padded(b"x")),
    "volume label": raw(block(kind=b"V", size=octal(0))),
    "symbolic link": lambda p: tar(p, SMALL, entry("a", tarfile.SYMTYPE, "/etc/passwd")),
    "symbolic link to itself": lambda p: tar(p, SMALL, entry("a", tarfile.SYMTYPE, "a")),
    "link of a long name": lambda p: tar(p, SMALL, entry("a", tarfile.SYMTYPE, "x" * 60_000)),
    "hard link to a file before": lambda p: tar(p, SMALL, entry("a", tarfile.LNKTYPE, SMALL[0])),
    "hard link to itself": lambda p: tar(p, SMALL, entry("a", tarfile.LNKTYPE, "a")),
    "device": lambda p: tar(p, SMALL, entry("a", tarfile.BLKTYPE)),
    "pipe": lambda p: tar(p, SMALL, entry("a", tarfile.FIFOTYPE)),
    "file then folder": lambda p: tar(p, ("a", b"x"), entry("a", tarfile.DIRTYPE), ("a/b", b"x")),
    "folder then file": lambda p: tar(p, entry("a", tarfile.DIRTYPE), ("a", b"x")),
    "2,000 empty files": lambda p: tar(p, *((f"{n}", b"") for n in range(2_000)), mode="w:gz"),
    "2,000 folders": lambda p: tar(p, *(entry(f"{n}", tarfile.DIRTYPE) for n in range(2_000)), mode="w:gz"),
    "bomb": lambda p: zeros(p, block(size=octal(GIB)), GIB),
    "no entry": tar,
    "folders only": lambda p: tar(p, entry("a", tarfile.DIRTYPE)),
    "zeros only": lambda p: zeros(p, b"", GIB),
    "archive in an archive": lambda p: written(p, gzip.compress(gzip.compress(tar(p, SMALL).read_bytes()))),
    "gzip of nothing": lambda p: written(p, gzip.compress(b"")),
    "gzip with a wrong sum": lambda p: written(p, tar(p, ("a", bytes(9999)), mode="w:gz").read_bytes()[:-8] + bytes(8)),
    "empty": lambda p: written(p, b""),
    "page": lambda p: written(p, b"<html>log in</html>"),
    "noise": lambda p: written(p, random.Random(0).randbytes(5000)),
}  # fmt: skip
ZIPS = {
    "link": lambda p: zipped(p, (zip_entry("a", stat.S_IFLNK), b"/etc/passwd")),
    "pipe": lambda p: zipped(p, (zip_entry("a", stat.S_IFIFO), b"")),
    "socket": lambda p: zipped(p, (zip_entry("a", stat.S_IFSOCK), b"")),
    "deep": lambda p: zipped(p, ("/".join("a" * 1500), b"x")),
    "long name": lambda p: zipped(p, ("a" * 300, b"x")),
    "name of 60,000 bytes": lambda p: zipped(p, ("a/" * 30_000 + "b", b"x")),
    "absolute": lambda p: zipped(p, ("/tmp/nfbench-evil", b"x")),
    "drive": lambda p: zipped(p, ("c:/evil", b"x")),
    "share": lambda p: zipped(p, ("\\\\server\\evil", b"x")),
    "out": lambda p: zipped(p, ("a/../../evil", b"x")),
    "out by a backslash": lambda p: zipped(p, ("a\\..\\evil", b"x")),
    "control character": lambda p: zipped(p, ("a\x07", b"x")),
    "twice": lambda p: zipped(p, SMALL, SMALL),
    "file and folder": lambda p: zipped(p, ("a", b"x"), ("a/b", b"x")),
    "folders only": lambda p: zipped(p, ("a/", b"")),
    "no entry": zipped,
    "bomb": lambda p: zipped(p, ("a", bytes(GIB))),
    "2,000 empty files": lambda p: zipped(p, *((f"{n}", b"") for n in range(2_000))),
    "NUL in a name": lambda p: patched(zipped(p, ("aXb", b"x")), CENTRAL, 46, b"a\0b"),
    "names that differ": lambda p: patched(zipped(p, ("aaa", b"x")), LOCAL, 30, b"bbb"),
    "name of bytes as UTF-8": lambda p: patched(zipped(p, ("ü", b"x")), CENTRAL, 46, b"\xff\xff"),
    "unknown method": lambda p: patched(zipped(p, SMALL), CENTRAL, 10, struct.pack("<H", 77)),
    "version 25.5": lambda p: patched(zipped(p, SMALL), CENTRAL, 6, struct.pack("<H", 255)),
    "encrypted": lambda p: patched(zipped(p, SMALL), CENTRAL, 8, struct.pack("<H", 1)),
    "patched data": lambda p: patched(zipped(p, SMALL), CENTRAL, 8, struct.pack("<H", 0x20)),
    "wrong CRC": lambda p: patched(zipped(p, SMALL), CENTRAL, 16, bytes(4)),
    "size of 0": lambda p: patched(zipped(p, SMALL), CENTRAL, 24, bytes(4)),
    "size of 4 GiB": lambda p: patched(zipped(p, SMALL), CENTRAL, 24, b"\xfe\xff\xff\xff"),
    "compressed size of 4 GiB": lambda p: patched(zipped(p, SMALL), CENTRAL, 20, b"\xfe\xff\xff\xff"),
    "zip64 without its field": lambda p: patched(zipped(p, SMALL), CENTRAL, 20, b"\xff" * 8),
    "extra field beyond the end": lambda p: patched(zipped(p, SMALL), CENTRAL, 30, b"\xff\xff"),
    "comment beyond the end": lambda p: patched(zipped(p, SMALL), CENTRAL, 32, b"\xff\xff"),
    "offset beyond the end": lambda p: patched(zipped(p, SMALL), CENTRAL, 42, b"\xfe\xff\xff\xff"),
    "directory of 4 GiB": lambda p: patched(zipped(p, SMALL), END, 12, b"\xfe\xff\xff\xff"),
    "directory beyond the end": lambda p: patched(zipped(p, SMALL), END, 16, b"\xfe\xff\xff\xff"),
    "another disk": lambda p: patched(zipped(p, SMALL), CENTRAL, 34, b"\x07\0"),
    "no directory": lambda p: written(p, zipped(p, SMALL).read_bytes().split(CENTRAL)[0]),
    "end only": lambda p: written(p, END + bytes(18)),
}
TOLERATED = {
    *(f"tar PAX {what}" for what in ("length below 0", "length of superscripts", "length beyond the end")),
    "tar PAX without an equals sign", "tar gzip with a wrong sum", "zip size of 4 GiB", "zip compressed size of 4 GiB",
    "zip zip64 without its field", "zip extra field beyond the end", "zip comment beyond the end", "zip another disk",
}  # fmt: skip
"""Faults that some versions of Python's readers pass over; the one file that is in these archives may come out."""
HOSTILE = {f"tar {name}": make for name, make in TARS.items()} | {f"zip {name}": make for name, make in ZIPS.items()}


def refused(archive: Path, folder: Path) -> str:
    """Return the error for a refused archive; check that no files are left and little memory and time was used."""
    started = time.monotonic()
    with pytest.raises(BadArchive) as raised:
        unpack(archive, folder / "out", LIMIT)
    assert time.monotonic() - started < SECONDS
    assert not (folder / "out").exists()
    line = str(raised.value)
    assert line.isprintable(), line
    assert str(archive) in line
    assert len(line) < 600
    return line


@pytest.fixture(autouse=True)
def few_files(monkeypatch):
    """The least number of files that is allowed, so that archives with more are soon made."""
    monkeypatch.setattr("nfbench.datasets._unpack._FEWEST_FILES", 100)


@pytest.mark.parametrize("name", sorted(TOLERATED))
def test_oddities_are_refused_or_do_no_harm(tmp_path, name):
    archive = HOSTILE[name](tmp_path / "archive")
    try:
        unpack(archive, tmp_path / "out", LIMIT)
    except BadArchive:
        assert [path.name for path in tmp_path.iterdir()] == ["archive"]
    else:
        assert [path.name in ("a", SMALL[0]) for path in (tmp_path / "out").iterdir()] == [True]


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in TOLERATED])
def test_hostile_archives_are_refused_in_one_line(tmp_path, name):
    refused(HOSTILE[name](tmp_path / "archive"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]
    assert not Path("/tmp/nfbench-evil").exists()


@pytest.mark.parametrize("kind", [*KINDS, "zip"])
def test_damaged_archives_are_refused_or_give_what_was_in_them(tmp_path, kind):
    """Cut at 10 places, and one byte flipped at 20: an archive that still unpacks has the same files."""
    files = {f"folder/{n}": random.Random(n).randbytes(300) for n in range(4)}
    path = tmp_path / "whole"
    whole = (
        zipped(path, *files.items()) if kind == "zip" else tar(path, *files.items(), mode=KINDS[kind])
    ).read_bytes()
    pick = random.Random(7)
    damaged = [whole[: len(whole) * n // 10] for n in range(10)]
    for _ in range(20):
        content = bytearray(whole)
        content[pick.randrange(len(whole))] ^= 1 << pick.randrange(8)
        damaged.append(bytes(content))
    for number, content in enumerate(damaged):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            unpack(written(folder / "archive", content), folder / "out", LIMIT)
        except BadArchive:
            assert [left.name for left in folder.iterdir()] == ["archive"]
        else:
            assert sum(found.is_file() for found in (folder / "out").rglob("*")) <= len(files)


@pytest.mark.parametrize("name", [name for name in HOSTILE if "gibibyte" in name or "bomb" in name])
def test_little_memory_is_taken(tmp_path, name):
    """In a process that may take little more than Python itself does."""
    archive = HOSTILE[name](tmp_path / "archive")
    code = (
        "import resource, sys; from pathlib import Path; from nfbench.datasets._unpack import unpack;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: unpack(Path(sys.argv[1]), Path(sys.argv[1] + '.out'), 200_000)\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, archive], capture_output=True, text=True, check=True)
    kind, grown = done.stdout.split()
    assert kind == "BadArchive"
    assert int(grown) < 30_000 * (1024 if sys.platform == "darwin" else 1)


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    find_dataset("mpdd").miniature(folder / "MPDD")
    with tarfile.open(folder / "mpdd.tar", "w") as opened:
        opened.add(folder / "MPDD", "MPDD")
    return folder / "mpdd.tar"


@pytest.mark.parametrize(
    "name", ["tar deep folders", "tar PAX size of 5,000 digits", "tar file then folder", "zip wrong CRC", "tar page"]
)
def test_the_next_fetch_works(tmp_path, packed, name):
    data = tmp_path / "data"
    archive = HOSTILE[name](tmp_path / "archive")
    with pytest.raises(NfbenchError):
        fetch("mpdd", data, by_hand=[archive])
    assert not [path for path in (data / ".nfbench").iterdir() if path.is_dir()]
    assert fetch("mpdd", data, by_hand=[packed]).is_dir()


def test_a_deep_folder_of_an_earlier_unpacking_is_removed(tmp_path, packed):
    left = tmp_path / ".nfbench/mpdd.unpacking"
    left.mkdir(parents=True)
    for _ in range(12):
        left = left / "/".join("a" * 100)
        left.mkdir(parents=True)
    assert fetch("mpdd", tmp_path, by_hand=[packed]).is_dir()
    assert not (tmp_path / ".nfbench/mpdd.unpacking").exists()


@pytest.mark.parametrize("content", ["{", "[]", "5", '{"a": 5}', '{"mpdd.tar": "x"}', "\x00", ""])
def test_a_garbled_file_of_checksums_is_named_with_what_to_do(tmp_path, packed, content):
    (tmp_path / ".nfbench").mkdir()
    written(tmp_path / ".nfbench/checksums.json", content.encode())
    values = find_source("mpdd").model_dump()
    values["archives"] = [{"name": "mpdd.tar", "urls": ["http://127.0.0.1:1/"]}]
    with pytest.raises(NfbenchError, match=r"checksums.json.*; delete (it|the file)"):
        fetch("mpdd", tmp_path, by_hand=[packed], source=Source(**values))
    assert not (tmp_path / ".nfbench/mpdd.unpacking").exists()


def test_archives_of_all_kinds_are_unpacked_after_all_that(tmp_path):
    for kind, mode in KINDS.items():
        with tarfile.open(tmp_path / kind, mode) as opened:
            info = entry("a/" + "long " * 30 + "/ü.png")  # takes a header of its own
            info.size = 5
            opened.addfile(info, io.BytesIO(b"image"))
        assert unpack(tmp_path / kind, tmp_path / f"{kind}.out", 100) == 5
    with zipfile.ZipFile(tmp_path / "zip", "w") as opened:
        opened.writestr("a/ü.png", b"image")
    assert unpack(tmp_path / "zip", tmp_path / "zip.out", 100) == 5
