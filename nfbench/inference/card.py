"""Model card of a packed model: training, measurements, thresholds and licences."""

from collections.abc import Iterable, Iterator, Sequence

import nfbench
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.inference.decisions import DecisionRule, Decisions
from nfbench.metrics import SHARE, known_metrics
from nfbench.metrics._rates import RATES
from nfbench.metrics._thresholds import ALPHA, SIGMAS
from nfbench.results.record import RunRecord
from nfbench.results.thresholds import ThresholdsRecord
from nfbench.training.record import TrainingRecord

__all__ = ["model_card"]

_RULES: dict[DecisionRule, tuple[str, str]] = {
    "conformal": (f"conformal, at most {100 * ALPHA:g} % false alarms", ""),
    "sigma": (f"mean + {SIGMAS:g} standard deviations", "_sigma"),
    "quantile": (f"{100 * (1 - ALPHA):g} % quantile of images, 99.9 % of pixels", "_quantile"),
}
"""Title of each rule, and the suffix of the metrics for its error rates."""
_UNDEFINED = "–"


def model_card(
    record: RunRecord, training: TrainingRecord, thresholds: ThresholdsRecord, reader: str | None, weights: bool
) -> str:
    """Returns the card as Markdown. It has no date, so the same run always has the same card.

    Args:
        record: record of the run.
        training: record of its training.
        thresholds: scores of normal images.
        reader: name of the dataset reader; None if it is no longer known.
        weights: whether the package includes the weights of the backbone.
    """
    cell = record.cell
    parts = [
        f"# {cell.title} on {cell.dataset}/{cell.category}",
        "Scores images like those that it was trained on; higher scores are more anomalous. Most methods also return a "
        "map that localizes the anomaly.",
        "```sh\nnfbench predict FILE.nfbench IMAGES\n```",
        "## Training\n",
        _bullets(_trained(record, training)),
        "## Evaluation\n",
        _measured(record),
        "## Thresholds\n",
        _thresholds(record, thresholds),
        "## Licences\n",
        _bullets(_licences(record, reader, weights)),
        "## Versions\n",
        _bullets(_versions(record)),
        "## Citation\n",
        _bullets(_citations(record, reader)),
    ]
    return "\n".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


def _trained(record: RunRecord, training: TrainingRecord) -> Iterator[str]:
    cell, data, backbone = record.cell, record.data, record.features.recipe.backbone
    classes = ", ".join(training.classes)
    yield f"Images: {training.n_train} normal images of {cell.dataset} ({classes}), setting {cell.setting}"
    if training.n_val or data.n_validation:
        yield f"Not trained on: {training.n_val} normal images held out, {data.n_validation} of a validation split"
    if data.anomalies:
        yield f"Anomalies: generator {data.anomalies.generator or 'none'}, {len(data.anomalies.real)} real ones"
    yield f"Method: {cell.method_title} (`{cell.variant_of}`), epochs: {training.epochs}, seed: {cell.seed}"
    yield f"Parameters: {record.parameters['total']:,}"
    tiles = f", on tiles of {backbone.tiles.size} pixels" if backbone.tiles else ""
    yield f"Backbone: `{backbone.name}` at {backbone.size.height} × {backbone.size.width} pixels{tiles}, frozen"
    yield f"Cell: `{cell.cell}`"


def _measured(record: RunRecord) -> str:
    data, last = record.data, record.selections["last"]
    title = f"On {data.n_test_normal} normal and {data.n_test_anomalous} anomalous test images, after the last epoch."
    known = known_metrics()
    shown = {name: value for name, value in last.metrics.items() if name in known and known[name].plain}
    rows = [(known[name].title, _percent(value, name)) for name, value in shown.items() if value is not None]
    if missing := [known[name].title for name, value in shown.items() if value is None]:
        title += f" Undefined: {', '.join(missing)}."
    return f"{title}\n\n{_table(('metric', 'value'), rows)}"


def _thresholds(record: RunRecord, thresholds: ThresholdsRecord) -> str:
    metrics = record.selections["last"].metrics
    rows = []
    for rule, (title, ending) in _RULES.items():
        try:
            decisions = Decisions.of(thresholds, rule)
            values = [_number(decisions.image), _number(decisions.pixel)]
        except NfbenchError:  # too few normal images
            values = [_UNDEFINED, _UNDEFINED]
        rates = [_percent(metrics.get(f"{rate}{ending}"), rate) for rate in RATES]
        rows.append((title, *values, *rates))
    heads = ("rule", "image", "pixel", "false alarms, images", "misses, images", "false alarms, pixels",
             "misses, pixels")  # fmt: skip
    source = f"From {len(thresholds.images)} normal images ({thresholds.source}). Error rates are from the test set"
    return f"{source}, {_UNDEFINED} is undefined.\n\n{_table(heads, rows)}"


def _licences(record: RunRecord, reader: str | None, weights: bool) -> Iterator[str]:
    recipe = record.features.recipe
    yield f"Images: {find_dataset(reader).licence if reader else 'unknown; ask the authors of the dataset'}"
    if recipe.weights == "none":
        yield "Backbone: no weights"
        return
    if recipe.weights == "random":
        yield "Backbone: random weights, for tests"
    else:
        yield (
            f"Backbone: weights of `{recipe.backbone.described.timm_name}` (`{recipe.backbone.weights}`); their "
            "publisher sets the licence, see timm's model card of that name"
        )
    where = "included as `backbone.safetensors`" if weights else "not included; they are loaded where the model runs"
    yield f"Weights of the backbone are {where}, and verified: SHA-256 of the state `{recipe.weights_sha256}`"
    yield "The model was trained on these images: their licence may also restrict its use"


def _versions(record: RunRecord) -> Iterator[str]:
    yield f"Packed by nfbench {nfbench.__version__}"
    made = record.provenance.get("train", {})
    if made:
        commit = f" ({made['commit'][:12]})" if made.get("commit") else ""
        yield f"Trained by nfbench {made.get('nfbench', '?')}{commit}, Python {made.get('python', '?')}"
        packages = {name: found for name, found in made.get("packages", {}).items() if found}
        yield ", ".join(f"{name} {found}" for name, found in packages.items())


def _citations(record: RunRecord, reader: str | None) -> Iterator[str]:
    yield f"The paper of {record.cell.method_title}; docs/methods.md of nfbench names it"
    dataset = find_dataset(reader) if reader else None
    if dataset and dataset.citation != "none":
        yield f"Images, {dataset.title}: {dataset.citation}"
    yield "nfbench: CITATION.cff of its repository"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["--"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _percent(value: float | None, metric: str) -> str:
    if value is None:
        return _UNDEFINED
    unit = known_metrics()[metric].metric.unit
    return f"{value * unit.factor:.2f}{' %' if unit is SHARE else ''}"


def _number(value: float | None) -> str:
    return _UNDEFINED if value is None else f"{value:.6g}"
