"""A local web page to try a model."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from nfbench.cli.options import Device, Threads
from nfbench.cli.pages import HOST, Port, require_free
from nfbench.core.extras import require

__all__ = ["demo"]


def demo(
    run: Annotated[str, typer.Argument(help="Folder of a finished run, or an exported or packed file.")],
    port: Port = 8000,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Serve a local page that scores the images dropped on it, until Ctrl-C."""
    require("demo")
    require_free(port, "nfbench demo")

    import uvicorn

    from nfbench.core.device import pick_device
    from nfbench.inference.demo import Demo, demo_app
    from nfbench.inference.load import load_model

    model = load_model(run, pick_device(device, threads))
    with tempfile.TemporaryDirectory(prefix="nfbench-demo-") as folder:
        app = demo_app(Demo(model, Path(folder), getattr(model, "title", Path(run).stem)))
        typer.echo(f"nfbench demo: http://{HOST}:{port} (stop with Ctrl-C)")
        uvicorn.run(app, host=HOST, port=port, log_level="warning")
