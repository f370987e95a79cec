"""The table of ``docs/peers.md``: the rows of ``MODELS`` in words."""

from nfbench.blocks.anomalib.models import MODELS, PeerModel

__all__ = ["deviations", "table"]

_RANGES = {"unit": "[0, 1]", "imagenet": "ImageNet", "half": "[-1, 1]"}
_COLUMNS = (
    "`model`", "class", "backbone", "images", "size", "epochs × batch", "needs", "gives", "resumes after a kill"
)  # fmt: skip


def table() -> str:
    """Return all models as Markdown, one row each."""
    rows = [_COLUMNS, ["---"] * len(_COLUMNS), *(_cells(model, row) for model, row in MODELS.items())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def deviations() -> str:
    """Return the differences from the papers' code as Markdown, one entry per model with differences."""
    listed = ((row.title, row.deviations) for row in MODELS.values() if row.deviations)
    return "\n".join(f"- **{title}**: {'; '.join(found)}." for title, found in listed)


def _cells(model: str, row: PeerModel) -> list[str]:
    network = f"`{row.backbone}`" if row.network else "`image`"
    size = f"{row.size}" + (f", multiples of {row.multiple}" if row.multiple > 1 else "")
    gives = "maps, scores" if row.maps else "scores alone"
    resumes = "fitted in one pass, starts again" if row.fitted else "yes, bit-equal" if row.resumes else "starts again"
    needs = ", ".join(f"`{name}`" for name in row.needs) or "–"
    epochs = "1 pass" if row.fitted else f"{row.epochs} × {row.batch}"
    smallest = f", {row.smallest} or more" if row.smallest > 32 else ""
    return [f"`{model}`", row.name, network, _RANGES[row.input], size + smallest, epochs, needs, gives, resumes]
