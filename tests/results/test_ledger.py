"""The ledger: status of each cell from its record and logs; aggregation refuses holes and says what to do."""

import json
import os
import socket
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from nfbench.cli import app
from nfbench.cli.load import load_plan
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.results.aggregate import holes_of, read_results
from nfbench.results.progress import describe_progress, seconds_left
from nfbench.stages import gather
from tests.made_up import MadeUp, spoil


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return MadeUp(tmp_path, {"uflow": "uflow", "fastflow": "fastflow"}, ("bottle", "cable"), seeds=2).write()


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def stock_of():
    return gather.stock_of(load_plan(), "made_up")


def account_of(made, cell):
    return next(account for account in stock_of().accounts if account.cell == cell)


def log_of(made, rule, cell, text):
    path = made.paths.run_log(rule, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_cell_is_accounted_for(made):
    stock = stock_of()
    assert [account.status for account in stock.accounts] == ["done"] * 8
    assert (stock.expected, stock.holes) == (8, ())
    assert list(stock.records) == made.cells


def planted(made):
    """A record deleted, one made invalid, one with NaN, one of another cell; by kind."""
    deleted, invalid, with_nan, other = made.cells[:4]
    made.paths.run_record(deleted).unlink()
    spoil(made.paths.run_record(invalid), settings=3)
    record = json.loads(made.paths.run_record(with_nan).read_text())
    record["selections"]["last"]["metrics"]["image_auroc"] = float("nan")
    made.paths.run_record(with_nan).write_text(json.dumps(record))
    made.paths.run_record(other).write_text(made.paths.run_record(made.cells[5]).read_text())
    return deleted, invalid, with_nan, other


def test_planted_holes_are_named_with_their_reasons(made):
    planted(made)
    found = {hole.cell: (hole.status, hole.reason) for hole in stock_of().holes}
    reasons = [("missing", "not run yet"), ("failed", "'settings'"), ("failed", "selections.last.metrics.image_auroc"),
               ("failed", "record of another cell")]  # fmt: skip
    assert list(found) == made.cells[:4]
    for (status, reason), (expected, part) in zip(found.values(), reasons, strict=True):
        assert status == expected
        assert part in reason


def test_aggregation_refuses_holes_and_says_what_to_do(made):
    _, invalid, with_nan, other = planted(made)
    with pytest.raises(NfbenchError) as caught:
        raise run("aggregate_results", "made_up").exception
    message = str(caught.value)
    assert f"4 of 8 cells are not done: {made.cells[0]} (missing: not run yet); " in message
    assert "1 more; " in message
    assert "ledger.csv lists all; " in message
    removed = " ".join(str(made.paths.run_record(cell)) for cell in (invalid, with_nan, other))
    assert f"to finish them, remove {removed} and run 'snakemake --cores all made_up'" in message
    assert not made.paths.experiment("made_up", "results.parquet").exists()
    ledger = pd.read_csv(made.paths.experiment("made_up", "ledger.csv"))
    assert ledger.status.tolist() == ["missing", "failed", "failed", "failed", *["done"] * 4]


def test_tables_made_with_holes_name_and_mark_them(made):
    planted(made)
    assert run("aggregate_results", "made_up", "--allow-holes").exit_code == 0
    for table in ("made_up_image_auroc", "made_up_methods"):
        assert run("build_table", "made_up", table).exit_code == 0
        for ending in ("tex", "html"):
            text = made.paths.table("made_up", table, ending).read_text().replace(r"$^\dagger$", "†")
            assert "NOT DONE, marked †: " in text
            assert "bottle/uflow" in text
    rows = pd.read_csv(made.paths.table("made_up", "made_up_image_auroc", "csv"))
    measured = rows[rows.n_seeds.notna()].set_index(["category", "method"])
    # both seeds of both methods on bottle are gone, so that this row is not there, and its average is marked
    assert "bottle" not in measured.index.get_level_values("category")
    assert measured.holes.loc["cable"].tolist() == [0, 0]
    html = made.paths.table("made_up", "made_up_image_auroc", "html").read_text()
    assert "–†" in html or "†" in html.split("NOT DONE")[1]


def test_a_mean_that_lacks_a_seed_is_marked(made):
    made.paths.run_record(made.cells[0]).unlink()
    run("aggregate_results", "made_up", "--allow-holes")
    run("build_table", "made_up", "made_up_image_auroc")
    rows = pd.read_csv(made.paths.table("made_up", "made_up_image_auroc", "csv"))
    measured = rows[rows.n_seeds.notna()].set_index(["category", "method"])
    assert measured.holes.to_dict() == {
        ("bottle", "uflow"): 1, ("bottle", "fastflow"): 0, ("cable", "uflow"): 0, ("cable", "fastflow"): 0,
        ("average", "uflow"): 1, ("average", "fastflow"): 0,
    }  # fmt: skip
    assert measured.n_seeds["bottle", "uflow"] == 1
    (hole,) = holes_of(read_results(made.paths.experiment("made_up", "results.parquet")))
    assert hole.cell == made.cells[0]
    made.paths.run_record(made.cells[4]).unlink()  # cable, where 12 regions are, for one seed
    run("aggregate_results", "made_up", "--allow-holes")
    run("build_table", "made_up", "made_up_pixel_auroc")
    assert ". 24 ground-truth regions. " in made.paths.table("made_up", "made_up_pixel_auroc", "html").read_text()


def test_errors_in_logs_are_failures_until_a_record_is_written(made):
    cell = made.cells[0]
    record = made.paths.run_record(cell)
    text = "2026-01-01 00:00:00,000 INFO process 1 on here: nfbench train_flow\n"
    text += "2026-01-01 00:00:01,000 ERROR loss is NaN at step 3; lower 'lr'\nTraceback\nNfbenchError: loss is NaN\n"
    log = log_of(made, "train_flow", cell, text)
    assert account_of(made, cell).status == "failed"  # the record is older than the failure
    record.unlink()
    account = account_of(made, cell)
    assert (account.status, account.reason) == ("failed", "loss is NaN at step 3; lower 'lr'")
    assert account.log == str(log)
    assert account.tail.splitlines()[-1] == "NfbenchError: loss is NaN"
    made.write()
    os.utime(log, (0, 0))
    assert account_of(made, cell).status == "done"


@pytest.mark.parametrize(
    ("pid", "host", "expected"),
    [(os.getpid(), socket.gethostname(), "running"), (2**22 + 1, socket.gethostname(), "failed"),
     (1, "another-machine", "running")],
    ids=["alive", "gone", "elsewhere"],
)  # fmt: skip
def test_a_job_runs_as_long_as_its_process_does(made, pid, host, expected):
    cell = made.cells[0]
    made.paths.run_record(cell).unlink()
    log = log_of(made, "train_flow", cell, f"2026-01-01 00:00:00,000 INFO process {pid} on {host}: nfbench x\n")
    account = account_of(made, cell)
    assert account.status == expected
    assert (account.reason == "train_flow: just started") == (expected == "running")
    os.utime(log, (0, 0))  # written long ago: by a process that is younger, or on a machine that says nothing more
    assert account_of(made, cell).status == "failed"


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("train_flow", "trained, not scored yet"),
        ("score_run", "scored, not evaluated yet"),
        ("evaluate_run", "evaluated, but its run record is gone"),
    ],
)
def test_cells_between_two_jobs_are_missing(made, rule, reason):
    cell = made.cells[0]
    made.paths.run_record(cell).unlink()
    log_of(
        made, rule, cell, "2026-01-01 00:00:00,000 INFO process 1 on here: x\n2026-01-01 00:00:01,000 INFO finished\n"
    )
    assert (account_of(made, cell).status, account_of(made, cell).reason) == ("missing", reason)


def test_what_the_configuration_leaves_out_is_skipped_with_the_reason(made):
    stock = gather.stock_of(load_plan('{"categories": ["cable"]}'), "made_up")
    assert [a.status for a in stock.accounts] == ["done"] * 4 + ["skipped"] * 4
    assert stock.expected == 4
    assert stock.accounts[-1].reason == "excluded by 'categories' in the configuration"


def test_categories_that_are_not_on_disk_are_skipped(made, tmp_path):
    (tmp_path / "data/mvtec_ad/bottle/train/good").mkdir(parents=True)
    text = made.experiment_file.read_text()
    made.experiment_file.write_text(text.replace("mvtec_ad:\n    - bottle\n    - cable", "mvtec_ad: available"))
    stock = stock_of()
    assert stock.expected == 4
    skipped = [account for account in stock.accounts if account.status == "skipped"]
    assert len(skipped) == 14 * 4
    assert {account.reason for account in skipped} == {"not on disk in data/mvtec_ad"}


def skipped_of_union(made, union):
    """Reasons by category of the cells that are skipped, where the experiment is of a union."""
    experiment = yaml.safe_load(made.experiment_file.read_text())
    experiment["grid"][0]["datasets"] = {"joined": "available"}
    made.experiment_file.write_text(yaml.safe_dump({**experiment, "datasets": {"joined": {"union": union}}}))
    accounts = stock_of().accounts
    return {account.cell.category: account.reason for account in accounts if account.status == "skipped"}


def on_disk(folder, *categories):
    for category in categories:
        (folder / category / "train/good").mkdir(parents=True)


def test_categories_of_a_union_that_are_not_on_disk_are_skipped(made):
    on_disk(made.folder / "data/mvtec_ad", "bottle")
    on_disk(made.folder / "data/mpdd", "tubes")
    on_disk(made.folder / "data/folder", "own")
    union = {"mvtec_ad": {"available": ["bottle", "screw"]}, "mpdd": "available", "folder": "available"}
    assert skipped_of_union(made, union) == {
        "screw": "not on disk in data/mvtec_ad",
        **{c: "not on disk in data/mpdd" for c in find_dataset("mpdd").categories if c != "tubes"},
    }


def test_a_union_of_two_parts_of_a_dataset_lacks_nothing_that_either_has(made):
    for number, category in enumerate(["bottle", "cable"]):
        on_disk(made.folder / f"part{number}", category)
    parts = {f"part{number}": {"dataset": "mvtec_ad", "root": f"part{number}"} for number in range(2)}
    config = yaml.safe_load((made.folder / "config.yaml").read_text())
    (made.folder / "config.yaml").write_text(yaml.safe_dump({**config, "datasets": parts}))
    assert skipped_of_union(made, dict.fromkeys(parts, "available")) == {}


def test_status_estimates_the_rest_by_what_is_done(made):
    for cell in made.cells:
        for rule, seconds in (("train_flow", 100), ("score_run", 15), ("evaluate_run", 5)):
            path = made.paths.run_benchmark(rule, cell)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"s\th:m:s\n{seconds + 60 * (cell.method == 'uflow')}\t0:00:00\n")
    stock = stock_of()
    assert list(describe_progress(stock, made.paths))[-1].strip() == "all cells are done"
    uflow, fastflow = made.cells[0], made.cells[2]
    made.paths.run_record(uflow).unlink()  # trained: 75 s of scoring and 65 s of evaluation are left
    made.paths.run_record(fastflow).unlink()
    (made.paths.run_record(fastflow).parent / "training.json").unlink()  # 120 s
    stock = stock_of()
    assert seconds_left(stock, made.paths) == pytest.approx(260)
    lines = run("status").output
    assert "6 of 8 cells done (6 done, 2 missing)" in lines
    assert "uflow on resnet18.tv_in1k@256: 3 of 4" in lines
    assert "left: about 4 min" in lines


def test_logs_tell_of_errors_that_nobody_foresaw(tmp_path):
    program = "import sys; from nfbench import cli; sys.argv[1:] = ['--log', 'log', 'list', 'methods']\n"
    crash = "cli.explore.plugin_names = lambda package: 1 / 0\n"
    for code, returned, last in ((program, 0, "finished"), (program + crash, 1, "ZeroDivisionError: division by zero")):
        done = subprocess.run(
            [sys.executable, "-c", code + "cli.main()"], cwd=tmp_path, capture_output=True, check=False
        )
        assert done.returncode == returned
        lines = (tmp_path / "log").read_text().splitlines()
        assert f"on {socket.gethostname()}: nfbench --log log list methods" in lines[0]
        assert lines[-1].endswith(last)
    assert " ERROR division by zero" in (tmp_path / "log").read_text()
