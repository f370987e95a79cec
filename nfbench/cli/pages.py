"""Show the tracked runs in MLflow."""

import os
import socket
import sys
from typing import Annotated

import typer

from nfbench.cli.load import Overrides, load_plan
from nfbench.core.errors import NfbenchError
from nfbench.core.extras import require

__all__ = ["HOST", "Port", "mlflow", "require_free"]

HOST = "127.0.0.1"
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")]


def mlflow(
    overrides: Overrides = "{}",
    port: Port = 5000,
) -> None:
    """Start MLflow's user interface for the tracked runs, on this machine only, until Ctrl-C."""
    from nfbench.tracking.store import Store, set_environment

    plan = load_plan(overrides)
    store = Store.of(plan.paths.tracking)
    if store.is_server:
        typer.echo(f"MLFLOW_TRACKING_URI names a server, which has pages of its own: {store.title}")
        return
    if not store.exists:
        typer.echo(
            f"no runs are tracked yet: {store.database} is not there; 'nfbench track_runs' brings those of the "
            f"experiment '{plan.bench.config.experiment}' there, 'nfbench track_runs EXPERIMENT' those of another"
        )
        return
    require("tracking")
    require_free(port, "nfbench mlflow")
    set_environment()
    typer.echo("MLflow starts in a few seconds (stop with Ctrl-C); choose 'Model training' at the top left")
    typer.echo(f"MLflow: http://{HOST}:{port}")
    sys.stdout.flush()
    options = ["--backend-store-uri", store.uri, "--host", HOST, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *options])


def require_free(port: int, command: str) -> None:
    """Check that a port is free.

    Raises:
        NfbenchError: it is taken; names the option.
    """
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            free.bind((HOST, port))
        except OSError:
            raise NfbenchError(f"port {port} is taken; '{command} --port N' takes another") from None
