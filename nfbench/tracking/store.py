"""The tracking store: a database below ``results_root``, or a server that the user provides.

Only this module sets MLflow's environment variables and handles its exceptions.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nfbench.core.deadline import deadline
from nfbench.core.errors import NfbenchError, one_line
from nfbench.core.extras import require
from nfbench.core.files import atomic_path, remove_stale

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Store", "set_environment"]

_ENVIRONMENT = {
    # MLflow reports usage over the network by default
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # report an unreachable server after seconds, not minutes; an error loses nothing
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a second server process that is not needed here
}

_SECONDS, _SECONDS_OF_A_FILE = 30.0, 600.0
_LARGEST_GREETING = 1 << 20


def set_environment() -> None:
    """Set environment variables that MLflow reads on import, except those set by the user."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@dataclass(frozen=True)
class Store:
    """A tracking store.

    Attributes:
        folder: folder of the database, its artifacts and the state of imports; ``<results_root>/mlflow``.
        given: the user's ``MLFLOW_TRACKING_URI``; empty for the database in ``folder``.
    """

    folder: Path
    given: str = ""

    @classmethod
    def of(cls, folder: Path) -> "Store":
        """The store that ``MLFLOW_TRACKING_URI`` names, or the one in ``folder``."""
        return cls(folder, os.environ.get("MLFLOW_TRACKING_URI", ""))

    @property
    def database(self) -> Path:
        """The database of the store in ``folder``."""
        return self.folder / "mlflow.db"

    @property
    def uri(self) -> str:
        """URI of the store for MLflow."""
        return self.given or f"sqlite:///{self.database.absolute()}"

    @property
    def title(self) -> str:
        """The URI without a password, for display."""
        return _without_passwords(self.uri)

    @property
    def exists(self) -> bool:
        """Whether the store exists; one that the user names counts as existing and is not contacted."""
        return bool(self.given) or self.database.is_file()

    def artifacts(self, experiment: str) -> str | None:
        """Location of an experiment's files; None lets the server choose."""
        return None if self.given else (self.folder.absolute() / "artifacts" / experiment).as_uri()

    def connect(self) -> "MlflowClient":
        """Return a client of the store; create the database in ``folder`` if needed.

        Raises:
            NfbenchError: MLflow is not installed, or the store cannot be used or does not answer.
        """
        set_environment()
        require("tracking")
        from mlflow import MlflowClient

        if self.is_server:
            self._greet()
        with self.errors():
            if not self.exists:
                self._make()
            client: Any = MlflowClient(tracking_uri=self.uri)
            if self.is_server:
                client = _LimitedClient(client)
            client.search_experiments(max_results=1)
        return client

    @property
    def is_server(self) -> bool:
        """Whether the store is an HTTP server."""
        return self.given.startswith("http")

    def _greet(self) -> None:
        """Send a small test request, because MLflow reads answers of any size and duration.

        Raises:
            NfbenchError: the answer is too large or too slow; other errors are left to MLflow.
        """
        import requests

        received = 0
        try:
            with deadline(_SECONDS), requests.get(f"{self.given}/health", stream=True, timeout=_SECONDS) as answer:
                while received <= _LARGEST_GREETING and (piece := answer.raw.read(1 << 16)):
                    received += len(piece)
        except Exception as error:
            if isinstance(error, TimeoutError | requests.Timeout) or "timed out" in str(error):
                raise NfbenchError(
                    f"MLflow store {self.title}: no answer within {_SECONDS:g} s; {self._cure}"
                ) from error
        if received > _LARGEST_GREETING:
            raise NfbenchError(f"MLflow store {self.title}: its answers do not end; {self._cure}")

    def _make(self) -> None:
        """Create the database under a temporary name, because an incomplete one cannot be used or repaired."""
        from mlflow import MlflowClient

        self.folder.mkdir(parents=True, exist_ok=True)
        remove_stale(self.folder)
        with atomic_path(self.database) as temporary:
            MlflowClient(tracking_uri=f"sqlite:///{temporary}").search_experiments(max_results=1)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Convert MLflow's exceptions, including those from malformed answers, to an error that names the store."""
        try:
            yield
        except NfbenchError:
            raise
        except Exception as error:  # from MLflow, requests, SQLAlchemy, Alembic or their parsers
            reason = _without_passwords(str(error)).strip().partition("\n")[0] or type(error).__name__
            raise NfbenchError(f"MLflow store {self.title}: {one_line(reason)}; {self._cure}") from error

    @property
    def _cure(self) -> str:
        if self.is_server:
            return "nothing is lost: check that the server runs and the URI is right, then run the same command again"
        if self.given:
            return "set MLFLOW_TRACKING_URI to a server or database, or unset it for one below results_root"
        return f"run the same command again; if that does not help, remove {self.folder}, which is rebuilt"


class _LimitedClient:
    """MLflow's client with a total time limit per request; its own limit restarts with every byte received."""

    def __init__(self, client: "MlflowClient") -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)

        def limited(*arguments: Any, **options: Any) -> Any:
            with deadline(_SECONDS_OF_A_FILE if name == "log_artifact" else _SECONDS):
                return found(*arguments, **options)

        return limited if callable(found) else found


def _without_passwords(text: str) -> str:
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)
