"""A real MLflow server on loopback, and the contents of a store, read by MLflow."""

import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

_SECONDS_TO_START = 120


class Server:
    """``mlflow server`` over a database in a folder; ``kill`` is a power cut, after which ``start`` goes on."""

    def __init__(self, folder: Path, empty_store: Path | None = None) -> None:
        self.folder, self.port, self._process = folder, free_port(), None
        if empty_store:  # which saves the server the seconds to make one
            shutil.copy(empty_store, self.database)
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        return self.folder / "server.db"

    def start(self) -> None:
        store = ["--backend-store-uri", f"sqlite:///{self.database}", "--artifacts-destination", f"{self.folder}/files"]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *store, *address],
                stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )  # fmt: skip
        wait_for(f"{self.uri}/health", self._process)

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def free_port() -> int:
    """A free port, below those that the system gives to connections, which might take it before the server does."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def wait_for(url: str, process: subprocess.Popen) -> None:
    for _ in range(_SECONDS_TO_START * 10):
        assert process.poll() is None, f"the process that is to answer at {url} has ended"
        try:
            urlopen(url, timeout=5).close()
        except (URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{url} does not answer")


def complete_runs(database: Path) -> int:
    """Number of runs that are marked as complete, asked of the database itself."""
    if not database.exists():
        return 0
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30) as connection:
        question = "select count(*) from tags where key = 'nfbench.state' and value = 'complete'"
        try:
            return connection.execute(question).fetchone()[0]
        except sqlite3.OperationalError:  # not made yet
            return 0


class Tracked:
    """All of one experiment in MLflow."""

    def __init__(self, uri: str, experiment: str) -> None:
        self.client = MlflowClient(tracking_uri=uri)
        number = self.client.get_experiment_by_name(experiment).experiment_id
        self.runs: list[Run] = list(self.client.search_runs([number], run_view_type=ViewType.ACTIVE_ONLY))
        self.deleted: list[Run] = list(self.client.search_runs([number], run_view_type=ViewType.DELETED_ONLY))

    def of_kind(self, kind: str) -> list[Run]:
        return [run for run in self.runs if run.data.tags["nfbench.kind"] == kind]

    def run(self, key: str) -> Run:
        (found,) = [run for run in self.runs if run.data.tags["nfbench.key"] == key]
        return found

    def history(self, run: Run, metric: str) -> dict[int, float]:
        return {point.step: point.value for point in self.client.get_metric_history(run.info.run_id, metric)}

    @property
    def ids(self) -> dict[str, str]:
        """Ids of the runs by their keys; fails where a key is there twice."""
        ids = {run.data.tags["nfbench.key"]: run.info.run_id for run in self.runs}
        assert len(ids) == len(self.runs), "a run is there twice"
        return ids

    @property
    def content(self) -> dict[str, Any]:
        """The contents without IDs, as text, so that NaN equals NaN."""
        names = {run.info.run_id: run.data.tags["nfbench.key"] for run in self.runs}
        content = {}
        for run in self.runs:
            tags = {name: names.get(value, value) for name, value in sorted(run.data.tags.items())}
            numbers = str(sorted(run.data.metrics.items()))
            content[tags["nfbench.key"]] = (
                run.info.run_name,
                run.info.status,
                sorted(run.data.params.items()),
                numbers,
                tags,
            )
        return dict(sorted(content.items()))
