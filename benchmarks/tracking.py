"""Time of importing 500 made-up runs into MLflow, into a database and a server, and of repeating it."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.made_up import MadeUp
from tests.mlflow_server import Server, Tracked

BACKBONES = ("resnet18.tv_in1k", "wide_resnet50_2.tv_in1k")
METHODS = ("uflow", "fastflow", "cflow", "patchcore", "padim")
RULES = ("", "_max", "_mean", "_top1", "_pooled", "_transductive")  # 48 metrics per selection, as for U-Flow


def main():
    """Tracks the runs three times: all are new, none has changed, one has changed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        methods = {method: method for method in METHODS}
        made = MadeUp(folder, methods, ("bottle", "cable", "carpet", "grid", "pill"), BACKBONES, seeds=10).write()
        records = [made.paths.run_record(cell) for cell in made.cells]
        for path in records:
            _widen(path)
        (folder / "server").mkdir()
        server = Server(folder / "server")
        try:
            for store, uri in (("database", ""), ("server", server.uri)):
                for what in ("all", "nothing", "one changed"):
                    if what == "one changed":
                        record = json.loads(records[0].read_text())
                        records[0].write_text(json.dumps({**record, "contour": record["contour"] + 1}))
                    seconds, cpu, said = _track(folder, uri)
                    print(f"{store}, {what}: {seconds:.1f} s, {cpu:.1f} s of a core; {said}", flush=True)
            print(f"{len(Tracked(server.uri, 'made_up').of_kind('run'))} runs on the server")
            size = (made.paths.tracking / "mlflow.db").stat().st_size
            print(f"database of {size / 1e6:.0f} MB")
        finally:
            server.kill()


def _widen(path):
    record = json.loads(path.read_text())
    for selection in record["selections"].values():
        selection["metrics"] = {f"{n}{rule}": v for n, v in selection["metrics"].items() for rule in RULES}
        if isinstance(selection["epoch"], dict):
            selection["epoch"] = {f"{n}{rule}": v for n, v in selection["epoch"].items() for rule in RULES}
    record["settings"] |= {f"setting_{number}": number for number in range(28)}
    path.write_text(json.dumps(record))


def _track(folder, uri):
    """Returns wall seconds, the command's own CPU seconds, and the end of its output."""
    command = [sys.executable, "-m", "nfbench", "track_runs"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    variables = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, done.stdout.partition(": ")[2].partition(";")[0]


if __name__ == "__main__":
    main()
