"""Studies shared by several workers lose no trial and count none twice, even if workers are killed."""

import multiprocessing
import os
import signal
import time
from collections import Counter

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from nfbench.core.errors import NfbenchError
from nfbench.search.study import SharedStudy

SPACE = {"x": FloatDistribution(0, 1)}


def open_study(folder, **values):
    return SharedStudy(folder / "a" / "journal.log", **{"seed": 0, "pruning": True, **values})


def value_of(params):
    return 1 - (params["x"] - 0.3) ** 2


def work(folder, number, budget, seconds=0.0):
    study = open_study(folder)
    with study.worker(number):
        while trial := study.claim(number, SPACE, budget, None):
            time.sleep(seconds)
            study.end(trial, TrialState.COMPLETE, value_of(trial.params), seconds)


def test_one_worker_is_the_same_again(tmp_path):
    for name in ("first", "second"):
        work(tmp_path / name, 0, 14)
    points = [[t.params["x"] for t in open_study(tmp_path / name).trials()] for name in ("first", "second")]
    assert points[0] == points[1]
    assert len(set(points[0])) == 14


def test_another_seed_is_another_search(tmp_path):
    work(tmp_path, 0, 3)
    other = open_study(tmp_path / "other", seed=1)
    assert other.claim(0, SPACE, 3, None).params["x"] != open_study(tmp_path).trials()[0].params["x"]


def test_an_interrupted_search_goes_on_as_an_undisturbed_one(tmp_path):
    work(tmp_path / "whole", 0, 14)
    for budget in (5, 11, 14):
        work(tmp_path / "parts", 0, budget)
    points = [[t.params["x"] for t in open_study(tmp_path / name).trials()] for name in ("whole", "parts")]
    assert points[0] == points[1]


def test_a_killed_worker_loses_no_trial(tmp_path):
    budget, context = 24, multiprocessing.get_context("spawn")
    seconds = (0.3, 0.3, 60, 0.3)  # the third is killed in its first trial
    processes = [context.Process(target=work, args=(tmp_path, number, budget, s)) for number, s in enumerate(seconds)]
    for process in processes:
        process.start()
    study = open_study(tmp_path)
    while len(study.trials()) < 6 or len({t.user_attrs.get("worker", 0) for t in study.study.get_trials()}) < 4:
        time.sleep(0.05)
    os.kill(processes[2].pid, signal.SIGKILL)
    for process in processes:
        process.join()
    left = [t for t in study.study.get_trials() if t.state == TrialState.RUNNING]
    assert [t.user_attrs["worker"] for t in left] == [2]
    assert len(study.trials()) == budget - 1
    work(tmp_path, 2, budget)
    ended = study.trials()
    assert len(ended) == budget
    assert left[0].params in [trial.params for trial in ended]
    assert max(Counter(trial.params["x"] for trial in ended).values()) == 1
    assert all(trial.value == value_of(trial.params) for trial in ended)
    assert {trial.user_attrs["worker"] for trial in ended} == {0, 1, 2, 3}


def test_a_second_copy_of_a_worker_waits_for_the_first(tmp_path):
    context = multiprocessing.get_context("spawn")
    copies = [context.Process(target=work, args=(tmp_path, 0, 4, 0.2)) for _ in range(2)]
    for copy in copies:
        copy.start()
    for copy in copies:
        copy.join()
    assert [copy.exitcode for copy in copies] == [0, 0]
    assert [trial.number for trial in open_study(tmp_path).trials()] == [0, 1, 2, 3]


def test_a_trial_that_was_taken_back_cannot_be_ended(tmp_path):
    study = open_study(tmp_path)
    trial = study.claim(0, SPACE, 4, None)
    with study.worker(0):  # as another machine would, where locks of files do not reach
        again = study.claim(0, SPACE, 4, None)
    assert again.params == trial.params
    with pytest.raises(NfbenchError, match="trial 0 was requeued by another process"):
        study.end(trial, TrialState.COMPLETE, 1.0, 1.0)
    study.end(again, TrialState.COMPLETE, 1.0, 1.0)
    assert [ended.number for ended in study.trials()] == [again.number]


def test_a_line_cut_short_is_dropped(tmp_path, caplog):
    work(tmp_path, 0, 2)
    journal = tmp_path / "a" / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker_id":"x","tr')
    work(tmp_path, 0, 3)
    assert journal.read_bytes().startswith(whole)
    assert b'"x","tr' not in journal.read_bytes()
    assert len(open_study(tmp_path).trials()) == 3
    assert "truncated" in caplog.text


def test_points_suggested_first_come_first_and_once(tmp_path):
    study = open_study(tmp_path)
    for x in (0.25, 0.75, 0.25):
        study.suggest_first({"x": x})
    work(tmp_path, 0, 4)
    assert [trial.params["x"] for trial in study.trials()][:2] == [0.25, 0.75]
    study.suggest_first({"x": 0.5})
    work(tmp_path, 0, 5)
    assert 0.5 not in [trial.params["x"] for trial in study.trials()]


def test_time_is_a_budget_too(tmp_path):
    study = open_study(tmp_path)
    for _ in range(3):
        study.end(study.claim(0, SPACE, 10, 25.0), TrialState.COMPLETE, 0.5, 10.0)
    assert study.claim(0, SPACE, 10, 25.0) is None
    assert study.claim(0, SPACE, 10, 35.0) is not None


def test_trials_that_diverge_count_and_those_that_are_worse_are_pruned(tmp_path):
    study = open_study(tmp_path)
    for value in (1.0, 2.0, 3.0, 4.0, 5.0):
        trial = study.claim(0, SPACE, 7, None)
        assert not study.report(trial, value, 1)
        study.end(trial, TrialState.COMPLETE, value, 1.0)
    trial = study.claim(0, SPACE, 7, None)
    assert study.report(trial, 0.5, 1)
    study.end(trial, TrialState.PRUNED, None, 1.0)
    study.end(study.claim(0, SPACE, 7, None), TrialState.FAIL, None, 1.0, message="the loss is lost")
    assert study.claim(0, SPACE, 7, None) is None
    assert [t.state for t in study.trials()][-2:] == [TrialState.PRUNED, TrialState.FAIL]


def test_without_pruning_none_is_pruned(tmp_path):
    study = open_study(tmp_path, pruning=False)
    for value in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0):
        trial = study.claim(0, SPACE, 9, None)
        study.report(trial, value, 1)
        study.end(trial, TrialState.COMPLETE, value, 1.0)
    assert not study.report(study.claim(0, SPACE, 9, None), 0.5, 1)
