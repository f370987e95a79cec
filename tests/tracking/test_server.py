"""Imports into a real MLflow server that is down or killed half-way, importers that are killed, and MLflow's pages.

The commands of docs/tracking.md are run here too, since one of them needs a server.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner

from nfbench.cli import app
from nfbench.cli.load import load_plan
from nfbench.core.errors import NfbenchError
from nfbench.plan.paths import EVALUATED, TRAINED
from nfbench.stages.track import track_runs
from tests.in_process import run_nfbench
from tests.made_up import MadeUp, spoil
from tests.mlflow_server import Server, Tracked, complete_runs, free_port, wait_for
from tests.test_docs import commands
from tests.workflow.conftest import ROOT, Checkout, environment

pytestmark = pytest.mark.slow

ODD = "a #b's & ü 漢字 100%"


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_store):
    server = Server(tmp_path_factory.mktemp("server"), empty_store)
    yield server
    server.kill()


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Four runs in the folder that the commands are called in, one category with an odd name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    titles = {"fastflow-wide": '<img src=x onerror="alert(1)">'}
    methods = {"uflow": "uflow", "fastflow-wide": "fastflow"}
    return MadeUp(tmp_path, methods, categories=("bottle", "cable"), seeds=1, titles=titles).write()


def track(uri, monkeypatch, *arguments):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return CliRunner().invoke(app, ["track_runs", *arguments], catch_exceptions=True)


def start_tracking(folder, name, **environment):
    """The command in a process of its own, that can be killed."""
    command = [sys.executable, "-m", "nfbench", "track_runs", "--name", name]
    variables = {**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", **environment}
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=variables, **quiet)


def wait_until(importer, database, complete):
    while complete_runs(database) < complete:
        assert importer.poll() is None, importer.communicate()
        time.sleep(0.02)


def many(folder):
    return MadeUp(folder, {"uflow": "uflow"}, categories=("bottle", "cable"), seeds=6).write()


def test_odd_names_numbers_and_files_arrive_and_again_changes_nothing(server, made, monkeypatch):
    table = made.paths.table("made_up", "made_up_methods", "html")
    table.parent.mkdir(parents=True)
    table.write_text("<p>ü</p>")
    path = next(made.paths.root.glob("runs/*/*/bottle/uflow/*/*/run.json"))
    record = json.loads(path.read_text())
    record["selections"]["val"]["metrics"]["miou_fair"] = None
    spoil(path, **record)
    assert "4 new, 0 replaced" in track(server.uri, monkeypatch, "--name", ODD).output
    found = Tracked(server.uri, ODD)
    assert {run.data.tags["category"] for run in found.of_kind("run")} == {"bottle", "cable"}
    assert {run.data.tags["title"] for run in found.of_kind("run")} == {"uflow", '<img src=x onerror="alert(1)">'}
    (undefined,) = [run for run in found.runs if str(run.data.metrics.get("val/miou_fair")) == "nan"]
    assert undefined.data.tags["record"] == str(path)
    parent = found.of_kind("experiment")[0].info.run_id
    fetched = found.client.download_artifacts(parent, "tables/made_up_methods.html")
    assert Path(fetched).read_text() == "<p>ü</p>"
    assert "0 new, 0 replaced, 4 unchanged" in track(server.uri, monkeypatch, "--name", ODD).output
    after = Tracked(server.uri, ODD)
    assert (after.ids, after.content, after.deleted) == (found.ids, found.content, [])


def test_a_server_that_is_down_is_named_and_nothing_is_lost(server, made, monkeypatch):
    down = f"http://user:secret@127.0.0.1:{free_port()}"
    spec = load_plan().track("made_up").spec.model_copy(update={"name": "down"})
    summary = made.paths.tracking / "made_up.json"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", down)
    with pytest.raises(NfbenchError) as caught:
        track_runs(spec)
    assert down.replace("user:secret@", "") in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "run the same command again" in str(caught.value)
    assert not summary.exists()
    assert "4 of 4 runs" in track(server.uri, monkeypatch, "--spec", spec.to_json()).output
    assert len(Tracked(server.uri, "down").of_kind("run")) == 4
    assert json.loads(summary.read_text())["store"] == server.uri


@pytest.mark.slow
def test_an_import_that_is_killed_is_completed_by_the_next(server, tmp_path, monkeypatch):
    many(tmp_path)
    monkeypatch.chdir(tmp_path)
    importer = start_tracking(tmp_path, "killed", MLFLOW_TRACKING_URI=server.uri)
    wait_until(importer, server.database, complete_runs(server.database) + 3)
    importer.send_signal(signal.SIGKILL)
    importer.wait()
    before = Tracked(server.uri, "killed")
    whole = {run.data.tags["nfbench.key"] for run in before.runs if run.data.tags["nfbench.state"] == "complete"}
    assert 3 <= len(whole) < 12
    assert "0 replaced" in track(server.uri, monkeypatch, "--name", "killed").output
    after = Tracked(server.uri, "killed")
    assert len(after.of_kind("run")) == 12
    assert {run.data.tags["nfbench.state"] for run in after.runs} == {"complete"}
    assert {key: after.ids[key] for key in whole} == {key: before.ids[key] for key in whole}


@pytest.mark.slow
def test_a_server_that_is_killed_half_way_and_started_again(server, tmp_path, monkeypatch):
    many(tmp_path)
    monkeypatch.chdir(tmp_path)
    importer = start_tracking(tmp_path, "cut", MLFLOW_TRACKING_URI=server.uri)
    wait_until(importer, server.database, complete_runs(server.database) + 3)
    server.kill()
    _, said = importer.communicate(timeout=120)
    assert importer.returncode == 1
    assert f"error: MLflow store {server.uri}" in said
    assert "Traceback" not in said
    server.start()
    assert track(server.uri, monkeypatch, "--name", "cut").exit_code == 0
    found = Tracked(server.uri, "cut")
    assert len(found.ids) == 13
    assert {run.data.tags["nfbench.state"] for run in found.runs} == {"complete"}
    assert "0 new, 0 replaced, 12 unchanged" in track(server.uri, monkeypatch, "--name", "cut").output


@pytest.mark.slow
def test_pages_over_the_default_store(made, monkeypatch, empty_store):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    pages = [sys.executable, "-m", "nfbench", "mlflow", "--port", str(free_port())]
    early = subprocess.run(pages, capture_output=True, text=True, check=True)
    assert "nfbench track_runs" in early.stdout
    table = made.paths.table("made_up", "made_up_methods", "csv")
    table.parent.mkdir(parents=True)
    table.write_text("a table")
    made.paths.tracking.mkdir()
    shutil.copy(empty_store, made.paths.tracking)
    assert CliRunner().invoke(app, ["track_runs"]).exit_code == 0
    serving = subprocess.Popen(pages, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        serving.stdout.readline()
        address = serving.stdout.readline().split()[-1]
        assert address.startswith("http://127.0.0.1:")
        wait_for(f"{address}/health", serving)
        found = Tracked(address, "made_up")
        (parent,) = found.of_kind("experiment")
        assert len(found.of_kind("run")) == 4
        artifact = f"{address}/get-artifact?path=tables/made_up_methods.csv&run_uuid={parent.info.run_id}"
        assert urlopen(artifact).read() == b"a table"
        taken = subprocess.run(pages, capture_output=True, text=True)
        assert taken.returncode == 1
        assert "is taken; 'nfbench mlflow --port N'" in taken.stderr
    finally:
        os.killpg(serving.pid, signal.SIGKILL)
        serving.wait()


def test_pages_of_a_server_are_left_to_it(made, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org/mlflow")
    done = CliRunner().invoke(app, ["mlflow"])
    assert done.output.endswith("https://example.org/mlflow\n")


@pytest.mark.parametrize(("ours", "reports"), [(True, False), (False, True)])
def test_mlflow_does_not_report_its_use(ours, reports):
    """Without what is set, it would: outside of continuous integration, where it never does."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
    before = "from nfbench.tracking.store import set_environment; set_environment(); " if ours else ""
    check = f"{before}from mlflow.telemetry.utils import is_telemetry_disabled; print(not is_telemetry_disabled())"
    done = subprocess.run([sys.executable, "-c", check], env=kept, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(reports)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, empty_store):
    """A checkout with an experiment that is finished but for its features and models."""
    checkout = Checkout(tmp_path_factory.mktemp("page"))
    for path in (checkout.folder / "workflow" / "experiments").glob("*.yaml"):
        path.unlink()
    made = MadeUp(checkout.folder, {"uflow": "uflow"}, categories=("bottle",), seeds=2).write()
    tables = [made.paths.table("made_up", f"made_up_{name}", ending)
              for name in ("image_auroc", "pixel_auroc", "methods") for ending in ("csv", "tex", "html")]  # fmt: skip
    results = [made.paths.experiment("made_up", file) for file in ("results.parquet", "ledger.csv")]
    for path in (*results, *tables, made.paths.report("made_up")):  # in the order in which they are made
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"what is in {path.name}")
    made.paths.tracking.mkdir()
    shutil.copy(empty_store, made.paths.tracking)
    with chdir(checkout.folder):
        plan = load_plan()
        for cell in plan.cells("made_up"):  # records of these very runs, with the times that they had
            specs = {"evaluate": plan.evaluate(cell).spec.model_dump(mode="json")}
            train = plan.train(cell).spec.model_dump(mode="json")
            record = plan.paths.run_record(cell)
            for name in (*TRAINED, *EVALUATED):
                shutil.copystat(record, touched(record.with_name(name)))
            rewrite(record, {"specs": {**json.loads(record.read_text())["specs"], **specs}})
            rewrite(record.with_name("training.json"), {"spec": train})
    return checkout


def touched(path):
    if not path.exists():
        path.touch()
    return path


def rewrite(path, values):
    """Change keys of a JSON file, but not its times."""
    times = path.stat().st_atime, path.stat().st_mtime
    spoil(path, **values)
    os.utime(path, times)


def test_the_target_of_an_experiment_makes_first_what_it_lacks_and_no_more(checkout):
    assert checkout.jobs("track_made_up") == {"track_made_up": 1, "track_runs": 1, "total": 2}
    record = next((checkout.folder / "results" / "runs").rglob("run.json"))
    aside = record.rename(record.with_suffix(".aside"))
    jobs = checkout.jobs("track_made_up")
    aside.rename(record)
    # one run, which is trained
    wanted = {"train_flow": 0, "score_run": 1, "evaluate_run": 1, "build_report": 1, "track_runs": 1}
    assert {name: jobs.get(name, 0) for name in wanted} == wanted


@pytest.mark.slow
def test_commands_of_the_page(server, checkout):
    page = commands((ROOT / "docs" / "tracking.md").read_text())
    track, snakemake, make, served, remove, again = (line.replace("quickstart", "made_up") for line in page)
    default = f"sqlite:///{checkout.folder}/results/mlflow/mlflow.db"
    assert "2 of 2 runs" in run_nfbench(checkout.folder, *track.split()[1:])
    before = Tracked(default, "made_up")

    assert snakemake == "snakemake --cores all track_made_up"
    assert f"MLflow's experiment 'made_up' in {default}" in checkout.snakemake("track_made_up")
    after = Tracked(default, "made_up")
    assert (after.ids, after.content) == (before.ids, before.content)
    assert len(after.client.list_artifacts(after.ids["experiment made_up"], "tables")) == 9
    assert "Nothing to be done" in checkout.snakemake("track_made_up")
    assert re.search(r"^mlflow: .*\n\tnfbench mlflow$", (ROOT / "Makefile").read_text(), flags=re.M)
    assert make == "make mlflow"  # test_pages_over_the_default_store opens them

    setting, program, *arguments = served.replace("http://127.0.0.1:5000", server.uri).split()
    name, _, uri = setting.partition("=")
    variables = {**environment(), name: uri}
    subprocess.run([sys.executable, "-m", program, *arguments], cwd=checkout.folder, env=variables, check=True)
    assert Tracked(server.uri, "made_up").ids.keys() == after.ids.keys()

    subprocess.run(remove.split(), cwd=checkout.folder, check=True)
    run_nfbench(checkout.folder, *again.split()[1:])
    assert Tracked(default, "made_up").ids.keys() == after.ids.keys()
