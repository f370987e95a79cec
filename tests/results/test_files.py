"""The CSV files of a run: rows come back as they were written, and a file that is not whole is one clear line."""

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.core.seals import verified
from nfbench.results.files import Epoch, ImageScore, read_rows, write_rows
from tests.made_up import write_listing

HISTORY = [Epoch(1, 2.5, None, 0.1, 3.0), Epoch(2, -1.5, 0.25, None, 3.0)]


def test_rows_come_back_with_their_types(tmp_path):
    write_rows(Epoch, tmp_path, HISTORY)
    assert (tmp_path / "history.csv").read_text().splitlines()[0] == "epoch,loss,val_log_likelihood,lr,seconds"
    write_listing(tmp_path / "training.json")
    assert read_rows(Epoch, tmp_path) == HISTORY
    scores = [ImageScore("a, b.png", 1, "cut", 0.5, 0.75, 0.25, 0.625)]
    write_rows(ImageScore, tmp_path, scores)
    write_listing(tmp_path / "run.json")
    assert read_rows(ImageScore, tmp_path) == scores


def test_a_file_of_no_rows_has_none(tmp_path):
    write_rows(Epoch, tmp_path, [])
    write_listing(tmp_path / "training.json")
    assert read_rows(Epoch, tmp_path) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: None, r"history\.csv is missing; 'snakemake --cores all .*history\.csv' makes it again"),
        (lambda text: "", r"history\.csv does not have the columns epoch, loss, .*; remove it and run again"),
        (lambda text: text.replace("loss", "cost"), r"history\.csv does not have the columns epoch, loss, "),
        (lambda text: text[:-6], r"history\.csv, line 3 is damaged or cut short; remove it and run again"),
        (lambda text: text.replace("2.5", "x"), r"history\.csv, line 2 is damaged or cut short"),
        (lambda text: text.replace("2.5", ""), r"history\.csv, line 2 is damaged or cut short"),
    ],
    ids=["missing", "empty", "other columns", "cut short", "no number", "no value"],
)
def test_a_file_that_is_not_whole_is_an_error_that_names_it(tmp_path, spoil, message):
    write_rows(Epoch, tmp_path, HISTORY)
    path = tmp_path / "history.csv"
    text = spoil(path.read_text())
    path.unlink() if text is None else path.write_text(text)
    write_listing(tmp_path / "training.json")
    with pytest.raises(NfbenchError, match=message):
        read_rows(Epoch, tmp_path)


CHANGES = {
    "empty": lambda data: b"",
    "a row less": lambda data: data[: data.rindex(b"\n", 0, -1) + 1],
    "another digit": lambda data: data.replace(b"0.25", b"0.75"),
    "no text": lambda data: b"\xff\x00" + data,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_has_changed_since_its_record_was_written_is_refused(tmp_path, change):
    write_rows(Epoch, tmp_path, HISTORY)
    write_listing(tmp_path / "training.json")
    assert read_rows(Epoch, tmp_path) == HISTORY
    path = tmp_path / "history.csv"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(NfbenchError, match=r"history\.csv has changed since .*, or training\.json has; remove both"):
        read_rows(Epoch, tmp_path)


@pytest.mark.parametrize("record", [None, b"", b"[]", b"{}", b'{"written": {"history.csv": 3}, "seal": "x"}'])
def test_a_file_whose_record_does_not_tell_of_it_is_refused(tmp_path, record):
    write_rows(Epoch, tmp_path, HISTORY)
    if record is not None:
        (tmp_path / "training.json").write_bytes(record)
    with pytest.raises(NfbenchError, match=r"training\.json"):
        verified(tmp_path / "history.csv", tmp_path / "training.json")
