"""Resources: grow with the attempt, and stay within what clusters allow."""

import re

import pytest

from nfbench.core.resources import gpus_per_job, memory, time_limit


def test_memory_doubles_with_each_attempt():
    assert [memory(500)(None, attempt) for attempt in (1, 2, 3)] == [500, 1000, 2000]


@pytest.mark.parametrize(
    ("minutes", "expected"), [(30, [30, 60, 120]), (480, [480, 960, 1440]), (1440, [1440] * 3), (2880, [2880] * 3)]
)
def test_time_limits_grow_up_to_a_day(minutes, expected):
    """More than a day is what a rule or a user has asked for."""
    assert [time_limit(minutes)(None, attempt) for attempt in (1, 2, 3)] == expected


def test_gpus_follow_the_device():
    assert (gpus_per_job("cuda"), gpus_per_job("cpu")) == (1, 0)


def test_every_rule_with_a_job_says_what_it_needs(repository):
    """A rule without a time limit or memory would get a cluster's default."""
    for path in (repository / "workflow" / "rules").glob("*.smk"):
        rules = path.read_text().split("\nrule ")[1:]
        for rule in (rule for rule in rules if "shell:" in rule):
            assert re.search(r"mem_mb=memory(_of)?\(", rule), rule.partition(":")[0]
            assert "runtime=time_limit(" in rule, rule.partition(":")[0]


@pytest.mark.parametrize(
    ("files", "hidden", "expected"),
    [
        (["nvidia0"], None, 1),
        (["nvidia1"], None, 1),
        (["nvidia12", "nvidiactl", "nvidia-uvm"], None, 1),
        (["nvidia0"], "", 0),
        (["nvidia3"], "-1", 0),
        (["nvidia0", "nvidia1"], "1", 1),
        (["nvidiactl", "nvidia-uvm", "nvidia-caps"], None, 0),
        (["dxg"], None, 1),
        (["dxg"], "-1", 0),
        ([], "0", 0),
        ([], None, 0),
    ],
)
def test_a_gpu_with_any_number_is_found(tmp_path, monkeypatch, files, hidden, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    for name in files:
        (tmp_path / name).touch()
    assert gpus_per_job("auto", tmp_path) == expected
    assert (gpus_per_job("cuda", tmp_path), gpus_per_job("cpu", tmp_path)) == (1, 0)
