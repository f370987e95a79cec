"""Trials that fail, however they do, and journals that were damaged: the rest of the search goes on."""

import errno
import os
import random

import numpy as np
import pytest
import torch
from optuna.trial import TrialState

from nfbench.core.errors import NfbenchError
from nfbench.plan.specs import SearchSpec, SummarizeSpec
from nfbench.search import objective
from nfbench.search.record import read_study
from nfbench.search.study import SharedStudy
from nfbench.stages.search import create_study, search_hyperparameters, summarize_study
from tests.search.test_searching import extracted, search, study_spec  # noqa: F401 a fixture
from tests.search.test_study import SPACE, open_study, value_of, work

pytestmark = pytest.mark.slow

ERRORS = {
    "GPU memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 18.30 GiB.\nGPU 0 has a total"),
    "host memory of torch": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    "host memory of Python": MemoryError(),
    "a matrix that is singular": np.linalg.LinAlgError("Singular matrix"),
    "a matrix of torch's that is singular": torch.linalg.LinAlgError("linalg.cholesky: not positive-definite"),
    "shapes": RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    "a division": ZeroDivisionError("division by zero"),
    "a setting": NfbenchError("setting 'batch_size' is too large"),
    "a value": ValueError("Expected more than 1 value per channel"),
    "a missing likelihood": TypeError("unsupported operand"),
    "an assertion": AssertionError(),
    "a recursion": RecursionError("maximum recursion depth exceeded"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_a_trial_fails_and_the_search_goes_on(extracted, tmp_path, monkeypatch, kind):  # noqa: F811
    fit, calls = objective.fit, []

    def fails_at_first(*arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise ERRORS[kind]
        return fit(*arguments, **options)

    monkeypatch.setattr(objective, "fit", fails_at_first)
    found = search(extracted, tmp_path, trials=3)
    assert [trial.state for trial in found.trials] == ["failed", "complete", "complete"]
    assert found.trials[0].message.isprintable()
    assert (str(ERRORS[kind]).split("\n")[0] or type(ERRORS[kind]).__name__) in found.trials[0].message
    assert not list(tmp_path.glob(".study/worker*"))


@pytest.mark.parametrize("kind", ["OSError", "full disk"])
def test_a_fault_of_the_machine_ends_the_worker_and_the_trial_is_begun_again(
    extracted,  # noqa: F811
    tmp_path,
    monkeypatch,
    kind,
):
    def fails(*_, **__):
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")
        except OSError as error:
            raise (error if kind == "OSError" else NfbenchError("x: the disk is full")) from None

    with monkeypatch.context() as patch:
        patch.setattr(objective, "fit", fails)
        with pytest.raises((OSError, NfbenchError)):
            search(extracted, tmp_path, trials=2)
    found = search(extracted, tmp_path, trials=2)
    assert [trial.state for trial in found.trials] == ["complete", "complete"]


def test_a_trial_that_kills_its_workers_fails_in_the_end(tmp_path):
    for _ in range(10):
        study = open_study(tmp_path)
        with study.worker(0):
            assert study.claim(0, SPACE, 2, None).number < 10
    work(tmp_path, 0, 2)
    failed, complete = open_study(tmp_path).trials()
    assert (failed.state, complete.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert failed.user_attrs["failure"] == "its worker was killed 10 times; too little memory?"
    assert failed.user_attrs["seconds"] == 0


def garble(lines: list[bytes], kind: str) -> bytes:
    """The content of a journal after an accident."""
    pick = random.Random(3)
    middle = len(lines) // 2
    changed = {
        "a line of words": [*lines[:middle], b"words", *lines[middle:]],
        "a line cut short": [*lines[:middle], lines[middle][:9], *lines[middle + 1 :]],
        "two lines as one": [*lines[:middle], lines[middle] + lines[middle + 1], *lines[middle + 2 :]],
        "another JSON": [*lines[:middle], b"5", *lines[middle:]],
        "an empty object": [*lines[:middle], b"{}", *lines[middle:]],
        "an unknown operation": [*lines[:middle], b'{"op_code": 99, "worker_id": "x"}', *lines[middle:]],
        "times are lost": [line for line in lines if b'"seconds"' not in line],
        "zeros": [bytes(len(b"\n".join(lines)))],
        "noise": [pick.randbytes(500)],
        "noise in the middle": [*lines[:middle], pick.randbytes(50).replace(b"\n", b""), *lines[middle:]],
        "another file": [b"<html>", b"</html>"],
        "deep": [b"[" * 100_000],
    }[kind]
    return b"\n".join(changed) + b"\n"


KINDS = [
    "a line of words", "a line cut short", "two lines as one", "another JSON", "an empty object",
    "an unknown operation",
    "times are lost", "zeros", "noise", "noise in the middle", "another file",
    "deep",
]  # fmt: skip


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("journal")
    work(folder, 0, 4)
    return (folder / "a/journal.log").read_bytes().splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_a_garbled_journal_is_named_set_aside_and_made_again(tmp_path, caplog, journal, kind):
    path = tmp_path / "a/journal.log"
    path.parent.mkdir()
    path.write_bytes(garble(journal, kind))
    work(tmp_path, 0, 4)
    trials = open_study(tmp_path).trials()
    assert [trial.value for trial in trials] == [value_of(trial.params) for trial in trials]
    assert len(trials) == 4
    assert (path.parent / "journal.log.damaged-1").read_bytes().startswith(garble(journal, kind))
    (line,) = (message for message in caplog.messages if "cannot be read" in message)
    assert line.startswith(f"{path}: the journal of the study cannot be read")
    assert line.isprintable()


@pytest.mark.parametrize("content", [b"", b"no end of line", b"\x00" * 10, "without its head", "without its half"])
def test_a_journal_with_nothing_to_go_on_with_is_begun_again(tmp_path, journal, content):
    path = tmp_path / "a/journal.log"
    path.parent.mkdir()
    lost = {"without its head": 1, "without its half": len(journal) // 2}.get(content)
    path.write_bytes(b"\n".join(journal[lost:]) + b"\n" if lost else content)
    work(tmp_path, 0, 2)
    assert len(open_study(tmp_path).trials()) == 2


def test_a_second_damage_is_set_aside_too(tmp_path):
    path = tmp_path / "a/journal.log"
    path.parent.mkdir()
    for number in (1, 2):
        path.write_bytes(b"words\n")
        open_study(tmp_path)
        assert path.with_name(f"journal.log.damaged-{number}").exists()


def test_a_journal_that_may_not_be_read_is_left_alone(tmp_path):
    (tmp_path / "a/journal.log").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        SharedStudy(tmp_path / "a/journal.log", 0, True)


def test_workers_run_again_where_the_journal_was_lost(extracted, tmp_path):  # noqa: F811
    """With the method's own settings first, as before."""
    spec = study_spec(extracted, tmp_path, trials=3)
    create_study(spec)
    search_hyperparameters(SearchSpec(study=spec), "cpu", 1)
    (path,) = tmp_path.glob(".study/*/journal.log")
    first = path.read_bytes()
    path.write_bytes(b"words\n" + first)
    with pytest.raises(NfbenchError, match="0 of 3 trials have finished; run the workers again"):
        summarize_study(SummarizeSpec(study=spec))
    assert not (tmp_path / "worker0.json").exists()
    search_hyperparameters(SearchSpec(study=spec), "cpu", 1)
    summarize_study(SummarizeSpec(study=spec))
    assert len(read_study(tmp_path / "study.json").trials) == 3
