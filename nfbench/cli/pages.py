"""MLflow's pages over the tracked runs."""

import os
import socket
import sys
from typing import Annotated

import typer

from nfbench.cli.load import Overrides, load_plan
from nfbench.core.errors import NfbenchError

__all__ = ["mlflow"]

_HOST = "127.0.0.1"


def mlflow(
    overrides: Overrides = "{}",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Serve MLflow's pages over the tracked runs, on this machine only, until Ctrl-C; say where they are."""
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
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            free.bind((_HOST, port))
        except OSError:
            raise NfbenchError(f"port {port} is taken; 'nfbench mlflow --port N' takes another") from None
    set_environment()
    typer.echo("MLflow is ready in some seconds and ends with Ctrl-C; choose 'Model training' at the top left")
    typer.echo(f"MLflow: http://{_HOST}:{port}")
    sys.stdout.flush()
    options = ["--backend-store-uri", store.uri, "--host", _HOST, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *options])
