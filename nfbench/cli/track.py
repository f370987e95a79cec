"""Tracking: the runs of an experiment in MLflow, and MLflow's pages over them."""

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from nfbench.cli.build import Overrides, load, take_stock_of
from nfbench.core.errors import NfbenchError
from nfbench.plan.paths import Paths

__all__ = ["mlflow", "track_runs"]

_HOST = "127.0.0.1"


def track_runs(
    experiment: Annotated[str | None, typer.Argument(help="Experiment, by default the configured one.")] = None,
    overrides: Overrides = "{}",
    name: Annotated[str | None, typer.Option(help="Name in MLflow, by default the experiment's.")] = None,
    summary: Annotated[Path | None, typer.Option(help="File that takes what is tracked and where, as JSON.")] = None,
) -> None:
    """Bring the runs of an experiment, its tables, figures and studies into MLflow, as they stand.

    They go to a database below results_root, or to the server that MLFLOW_TRACKING_URI names. Again changes nothing.
    """
    import filelock

    from nfbench.core.files import write_json
    from nfbench.tracking.entries import run_entry
    from nfbench.tracking.mirror import Parent, mirror, open_experiment
    from nfbench.tracking.store import Store
    from nfbench.tracking.studies import studies_of, study_entry

    bench = load(overrides)
    experiment = experiment or bench.config.experiment
    paths, config = Paths(bench.config.results_root), bench.experiment(experiment)
    title = config.title
    name = name or experiment + ("-miniature" if bench.config.miniature else "")
    stock = take_stock_of(bench, experiment)
    cells = [account.cell for account in stock.accounts if account.status != "skipped"]
    runs = [run_entry(cell, record, paths) for cell, record in stock.records.items()]
    studies = [study_entry(path) for path in studies_of(bench, cells, paths) if path.is_file()]
    gathered = paths.gathered(experiment, config.tables, config.figures)
    files = {kind: [path for path in found if path.is_file()] for kind, found in gathered.items()}
    if not stock.expected and not any(files.values()):
        raise NfbenchError(
            f"experiment '{experiment}' has no runs, and its tables are not made; 'snakemake --cores all {experiment}' "
            "makes them"
        )
    count = f"{len(runs)} of {stock.expected}"
    parent = Parent(
        name=name,
        note=f"{title}\n\nMade of run records by `nfbench track_runs {experiment}`, and made again by it at any time.",
        root=paths.root.absolute(),
        tags={"title": title, "runs": count},
        files=files,
    )
    store = Store.of(paths.tracking)
    paths.tracking.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(paths.tracking / ".lock"):  # two imports at a time would each write what the other lacks
        client = store.connect()
        with store.errors():
            number = open_experiment(client, name, store.artifacts(name))
            changes = mirror(client, number, parent, [*runs, *studies])
    if summary:
        done = {"store": store.title, "experiment": name, "id": number, "runs": len(runs), "studies": len(studies)}
        write_json(summary, done)
    tracked = (
        f"{count} runs and {len(studies)} studies of '{experiment}': {changes.new} new, {changes.replaced} replaced, "
        f"{changes.kept} as they were"
    )
    without_runs = f"the tables of '{experiment}', which has no runs"
    typer.echo(f"{tracked if stock.expected else without_runs}; MLflow's experiment '{name}' in {store.title}")


def mlflow(
    overrides: Overrides = "{}",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Serve MLflow's pages over the tracked runs, on this machine only, until Ctrl-C; say where they are."""
    from nfbench.tracking.store import Store, set_environment

    bench = load(overrides)
    store = Store.of(Paths(bench.config.results_root).tracking)
    if store.given.startswith("http"):
        typer.echo(f"MLFLOW_TRACKING_URI names a server, which has pages of its own: {store.title}")
        return
    if not store.exists:
        typer.echo(
            f"no runs are tracked yet: {store.database} is not there; 'nfbench track_runs' brings those of the "
            f"experiment '{bench.config.experiment}' there, 'nfbench track_runs EXPERIMENT' those of another"
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
