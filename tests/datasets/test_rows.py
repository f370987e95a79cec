"""Text tables of readers: every fault is one line that names the file."""

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.datasets._manifest import Entry, read_manifest, write_manifest
from nfbench.datasets._rows import read_table

WRONG = {
    "empty": b"",
    "blank": b"\n\n",
    "utf16": "object,split,label,image,mask\n".encode("utf-16"),
    "latin1": b"object,split,label,image,mask\n\xfcber,test,normal,a.png,\n",
    "null": b"object,split\0label\n",
    "binary": bytes(range(256)),
}
HEADER = b"object,split,label,image,mask\n"


def wrong_tables(header):
    return {
        **WRONG,
        "header": header,
        "short": header + b"candle,test\n",
        "long": header + b"candle,test,normal,a.png,,more,and,more,of,it\n",
        "quote": header + b'candle,"test,normal,a.png,\n',
    }


@pytest.mark.parametrize("kind", wrong_tables(HEADER))
def test_wrong_splits_of_visa_are_named(tmp_path, kind):
    find_dataset("visa").miniature(tmp_path)
    (tmp_path / "split_csv/1cls.csv").write_bytes(wrong_tables(HEADER)[kind])
    with pytest.raises(NfbenchError, match=r"split_csv/1cls\.csv"):
        find_dataset("visa").samples(tmp_path, "candle")


@pytest.mark.parametrize(
    "content",
    [
        *WRONG.values(),
        b"images/cell0001.png\n",
        b"images/cell0001.png 0.0\n",
        b"images/cell0001.png low mono\n",
        b"images/cell0001.png nan mono\n",
        b"images/cell0001.png 2.0 mono\n",
        b"images/cell0001.png,0.0,mono\n",
        b"a.png 0.0 mono\na.png 1.0 mono\n",
    ],
)
def test_wrong_labels_of_elpv_are_named(tmp_path, content):
    (tmp_path / "labels.csv").write_bytes(content)
    reader = find_dataset("elpv")
    with pytest.raises(NfbenchError, match=r"labels\.csv"):
        reader.samples(tmp_path, (*reader.available(tmp_path), "mono")[0])


def test_labels_of_elpv_that_leave_a_split_without_images_are_named(tmp_path):
    (tmp_path / "labels.csv").write_text("a.png 0.0 mono\nb.png 1.0 mono\nc.png 0.3 mono\n")
    with pytest.raises(NfbenchError, match=r"labels.csv leaves 'mono' without normal test images"):
        find_dataset("elpv").samples(tmp_path, "mono")
    assert find_dataset("elpv").available(tmp_path) == ["mono"]


def manifest(tmp_path):
    path = tmp_path / "part.csv"
    write_manifest(path, [Entry("train", 0, "good", "a.png", "", 4, 5, "0" * 64, "")])
    return path


@pytest.mark.parametrize("kind", [*wrong_tables(b""), "number", "cut"])
def test_wrong_manifests_are_named(tmp_path, kind):
    path = manifest(tmp_path)
    whole = path.read_bytes()
    header = whole[: whole.index(b"\n") + 1]
    wrong = {**wrong_tables(header), "number": whole.replace(b",4,", b",four,"), "cut": whole[:-80]}
    path.write_bytes(wrong[kind])
    with pytest.raises(NfbenchError, match=r"part\.csv.*create it again with 'nfbench prepare_data'") as refusal:
        read_manifest(path)
    assert "\n" not in str(refusal.value)


def test_a_manifest_that_is_a_folder_is_named(tmp_path):
    with pytest.raises(NfbenchError, match="cannot be read: Is a directory"):
        read_manifest(tmp_path)


def test_tables_of_spreadsheets_are_read(tmp_path):
    """With a byte order mark, and lines that end as on Windows."""
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfa,b\r\n1,2\r\n\r\n3,\r\n")
    assert read_table(tmp_path / "a.csv", ["a", "b"]) == [{"a": "1", "b": "2"}, {"a": "3", "b": ""}]
