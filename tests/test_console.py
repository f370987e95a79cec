"""What a run prints: one line per job, progress of long jobs, failures with the end of their log."""

import io
import logging

import pytest

from nfbench.core import console as module
from nfbench.core.console import Console, duration, last_progress, log_excerpt

TRAINING = "2026-11-28 04:00:00,1 INFO one-class/x/bottle: 12 of 400, about 95 s left log-likelihood 3.2\n"
USER_ERROR = """2026-11-28 04:00:00,1 INFO process 1 on host: nfbench train_flow
2026-11-28 04:00:01,1 ERROR image 7.png is damaged
Traceback (most recent call last):
nfbench.core.errors.NfbenchError: image 7.png is damaged
"""


@pytest.fixture
def printed():
    return io.StringIO()


@pytest.fixture
def console(printed):
    return Console(logging.StreamHandler(printed))


def send(console, event=None, level=logging.INFO, message=None, **values):
    record = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    vars(record).update(values, event=event)
    console.emit(record)


def begin(console, number, title, rule="train_flow", log=()):
    send(console, "job_info", jobid=number, rule_name=rule, rule_msg=title, log=list(log))


def end(console, number, done, total):
    send(console, "job_finished", job_id=number)
    send(console, "progress", done=done, total=total)


def test_a_job_is_one_line_when_it_has_finished(console, printed, monkeypatch):
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    send(console, "run_info", stats={"train_flow": 3, "score_run": 1, "total": 4})
    console._began = now
    begin(console, 7, "Train fastflow on bottle, seed 0")
    now += 20
    end(console, 7, 1, 4)
    begin(console, 8, "Score fastflow on bottle, seed 0", "score_run")
    now += 2
    end(console, 8, 2, 4)
    begin(console, 9, "Train fastflow on cable, seed 0")
    now += 20
    end(console, 9, 3, 4)
    begin(console, 10, "Train fastflow on hazelnut, seed 0")
    end(console, 10, 4, 4)
    assert printed.getvalue().splitlines() == [
        "4 jobs: 3 train_flow, 1 score_run",
        "[1/4, more than 40 s left] Train fastflow on bottle, seed 0 (20 s)",
        "[2/4, 40 s left] Score fastflow on bottle, seed 0 (2 s)",
        "[3/4, 20 s left] Train fastflow on cable, seed 0 (20 s)",
        "[4/4] Train fastflow on hazelnut, seed 0 (0 s)",
    ]


def test_jobs_at_once_shorten_the_time_left(console, printed, monkeypatch):
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    send(console, "run_info", stats={"train_flow": 4, "total": 4})
    console._began = now
    for number in (1, 2):
        begin(console, number, f"Train {number}")
    now += 10
    for number in (1, 2):
        end(console, number, number, 4)
    assert "[2/4, 10 s left] Train 2 (10 s)" in printed.getvalue()


def test_what_snakemake_says_of_itself_is_left_out_and_the_rest_is_kept(console, printed):
    for text in ("Building DAG of jobs...", "Select jobs to execute...", "Using shell: /bin/bash"):
        send(console, message=text)
    send(console, "shellcmd", message="Shell command: python")
    send(console, "error", logging.ERROR, "RuleException:\nCalledProcessError in file x")
    send(console, message="Nothing to be done (all requested files are present and up to date).")
    send(console, level=logging.WARNING, message="Provided cores are too few")
    send(console, "error", logging.ERROR, "MissingInputException in rule x")
    assert printed.getvalue().splitlines() == [
        "Nothing to be done (all requested files are present and up to date).",
        "Provided cores are too few",
        "MissingInputException in rule x",
    ]


def test_a_record_that_the_wrapped_handler_filters_is_not_printed(console, printed):
    console._wrapped.addFilter(lambda record: record.event != "progress")
    begin(console, 1, "Train")
    end(console, 1, 1, 1)
    assert printed.getvalue() == ""


def test_a_failure_shows_the_job_and_the_end_of_its_log(console, printed, tmp_path):
    log = tmp_path / "train.log"
    log.write_text(USER_ERROR)
    begin(console, 1, "Train fastflow on bottle, seed 0", log=[str(log)])
    send(
        console, "job_error", logging.ERROR, jobid=1, rule_name="train_flow", rule_msg="SLURM: TIMEOUT", log=[str(log)]
    )
    console.print_failures()
    assert printed.getvalue().splitlines() == [
        "FAILED  Train fastflow on bottle, seed 0 (0 s)",
        "  SLURM: TIMEOUT",
        f"  {log}:",
        "    2026-11-28 04:00:01,1 ERROR image 7.png is damaged",
        "1 job failed:",
        "  Train fastflow on bottle, seed 0",
        "Fix the cause and run the same command again: finished jobs are kept.",
    ]


def test_a_job_that_succeeds_in_a_later_attempt_has_not_failed(console, printed):
    for attempt in (1, 2):
        begin(console, 1, "Train")
        if attempt == 1:
            send(console, "job_error", logging.ERROR, jobid=1, rule_name="train_flow", log=[])
    end(console, 1, 1, 1)
    console.print_failures()
    assert printed.getvalue().splitlines() == ["FAILED  Train (0 s)", "[1/1] Train (0 s)"]


def test_without_failures_nothing_is_said_of_them(console, printed):
    console.print_failures()
    assert printed.getvalue() == ""


def test_long_jobs_show_their_progress(console, printed, tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    log = tmp_path / "train.log"
    log.write_text(TRAINING)
    begin(console, 1, "Train fastflow on bottle, seed 0", log=[str(log)])
    for number in range(2, 7):
        begin(console, number, f"Train {number}")
    console.print_updates()
    assert printed.getvalue() == ""
    now += 40
    begin(console, 7, "Train 7")
    console.print_updates()
    first, *_, last = printed.getvalue().splitlines()
    progress = "12 of 400, about 95 s left log-likelihood 3.2"
    assert first == f"  in progress for 40 s: Train fastflow on bottle, seed 0: {progress}"
    assert last == "  and 2 more"


def test_updates_begin_and_end_with_the_run(console, printed, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_UPDATES", 0.01)
    begin(console, 1, "Train")
    console.start()
    while "in progress" not in printed.getvalue():
        pass
    console.close()
    assert console._ended.is_set()


def test_the_end_of_a_log_is_its_trace_or_its_last_lines(tmp_path):
    log = tmp_path / "job.log"
    assert log_excerpt(log) == ["(no log)"]
    log.write_text("\n".join(f"line {number}" for number in range(20)))
    assert log_excerpt(log) == [f"line {number}" for number in range(14, 20)]
    log.write_text("x\n1 ERROR division by zero\nTraceback\n" + "y" * 999 + "\nZeroDivisionError: division by zero")
    error, _, long, last = log_excerpt(log)
    assert (error, len(long), last) == ("1 ERROR division by zero", 200, "ZeroDivisionError: division by zero")
    assert last_progress(log) == ""


@pytest.mark.parametrize(("seconds", "text"), [(4.4, "4 s"), (89, "89 s"), (150, "2 min"), (5400, "1.5 h")])
def test_durations_are_short(seconds, text):
    assert duration(seconds) == text
