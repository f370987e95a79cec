"""Where runs are tracked: a database below ``results_root``, or a server that the user provides.

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
    # MLflow reports its use over the network unless it is told not to
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # a server that is down is said to be so after seconds, not after minutes; nothing is lost by an error
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a second process of the server, of no use here
}

_SECONDS, _SECONDS_OF_A_FILE = 30.0, 600.0
_LARGEST_GREETING = 1 << 20


def set_environment() -> None:
    """Set what MLflow reads when it is imported, but for what the user has set."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@dataclass(frozen=True)
class Store:
    """A tracking store.

    Attributes:
        folder: of the database and its artifacts, and of what is known of imports; ``<results_root>/mlflow``.
        given: the user's ``MLFLOW_TRACKING_URI``, empty for the database in ``folder``.
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
        """Where MLflow finds the store."""
        return self.given or f"sqlite:///{self.database.absolute()}"

    @property
    def title(self) -> str:
        """The URI as it may be shown: without a password."""
        return _without_passwords(self.uri)

    @property
    def exists(self) -> bool:
        """Whether the store is there, as far as that can be told without asking a server."""
        return bool(self.given) or self.database.is_file()

    def artifacts(self, experiment: str) -> str | None:
        """Where files of an experiment go; None leaves that to the server."""
        return None if self.given else (self.folder.absolute() / "artifacts" / experiment).as_uri()

    def connect(self) -> "MlflowClient":
        """A client of the store, which is made where it is the one in ``folder`` and not there yet.

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
        """Whether the store answers by HTTP."""
        return self.given.startswith("http")

    def _greet(self) -> None:
        """Ask a server for a little: MLflow reads all that it is sent, however much and however slowly.

        Raises:
            NfbenchError: it sends too much, or does not end in time; other errors are left to MLflow.
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
        """Create the database under a temporary name, since an incomplete one can be neither used nor repaired."""
        from mlflow import MlflowClient

        self.folder.mkdir(parents=True, exist_ok=True)
        remove_stale(self.folder)
        with atomic_path(self.database) as temporary:
            MlflowClient(tracking_uri=f"sqlite:///{temporary}").search_experiments(max_results=1)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn exceptions of MLflow, also those from malformed answers, into an error that names the store."""
        try:
            yield
        except NfbenchError:
            raise
        except Exception as error:  # of MLflow, requests, SQLAlchemy, Alembic, or of a parser of theirs
            reason = _without_passwords(str(error)).strip().partition("\n")[0] or type(error).__name__
            raise NfbenchError(f"MLflow store {self.title}: {one_line(reason)}; {self._cure}") from error

    @property
    def _cure(self) -> str:
        if self.is_server:
            return "nothing is lost: see that the server runs and is the one meant, and run the same command again"
        if self.given:
            return "set MLFLOW_TRACKING_URI to a server or database, or unset it for one below results_root"
        return f"run the same command again; if that does not help, remove {self.folder}, which is made again"


class _LimitedClient:
    """MLflow's client with a limit of time for each request: its own begins again with every byte of an answer."""

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
