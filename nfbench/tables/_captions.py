"""Captions of tables: what a reader must know before comparing, in the same order for all kinds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nfbench.metrics import BY_RULE, ThresholdSource, find_metric
from nfbench.tables._datasets import DatasetNotes, comparability, official_categories, subset
from nfbench.tables._titles import metric_title, sizes, titles

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "backbone_note",
    "caption_of_means",
    "caption_of_runs",
    "data_note",
    "image_score_note",
    "published_note",
    "search_note",
    "sentences",
    "spread",
    "threshold_note",
    "value_range",
]

_SELECTIONS = {
    "last": "the last epoch",
    "val": "checkpoint with the best likelihood on held-out normal images",
    "oracle": "best checkpoint on the test set (optimistic)",
}

_THRESHOLD_IMAGES: dict[ThresholdSource, str] = {
    "validation": "of the validation split, not used in training",
    "held out": "held out from training",
    "cross-fitted": "each scored by a model that was not fitted to it",
    "training": "that the model was trained on, as in the papers",
}


def caption_of_runs(
    title: str,
    results: pd.DataFrame,
    selections: Sequence[str],
    on: Sequence[str],
    more: Sequence[str],
    *,
    measured: str,
    setting: str | None = None,
) -> str:
    """Write the caption of a table of runs.

    Args:
        title: title, metrics and meaning of a cell.
        results: aggregated results of all runs shown.
        selections: of the checkpoints shown.
        on: data and backbones.
        more: further notes; empty notes are left out, also in other captions.
        measured: map size at which metrics are measured.
        setting: the setting in words, by default that of the results.
    """
    return sentences(
        title,
        _setting_note(results) if setting is None else setting,
        _anomalies_note(results),
        search_note(results),
        "; ".join(f"{selection}: {_SELECTIONS[selection]}" for selection in selections),
        *on,
        "; ".join(filter(None, (f"epochs {value_range(results.epochs)}", measured))),
        *more,
    )


def caption_of_means(
    title: str,
    metrics: Iterable[str],
    results: pd.DataFrame,
    notes: DatasetNotes,
    selections: Sequence[str],
    *,
    papers: str = "",
    tolerance: tuple[float, float] = (0, 0),
    cells: str = "{spread}, of means over categories",
    backbones: str = "",
    setting: str | None = None,
    more: Sequence[str] = (),
) -> str:
    """Write the caption of a table whose cells are means over categories.

    Args:
        title: title of the table.
        metrics: metrics of the table.
        results: aggregated results of all runs shown.
        notes: of datasets that are not official ones as they are.
        selections: of the checkpoints shown.
        papers: papers of the published means; empty without.
        tolerance: tolerances of the status of a cell.
        cells: meaning of a cell.
        backbones: the backbones in words, by default their tags.
        setting: the setting in words, by default that of the results.
        more: further notes.
    """
    published = ""
    if papers:
        published = published_note(papers, "the paper's own settings", comparability(results, notes), tolerance)
    metrics = list(metrics)
    return caption_of_runs(
        f"{title}: {titles(metrics)}, {cells.format(spread=spread(results))}",
        results,
        selections,
        (data_note(results, notes, named=True), backbones or backbone_note(results)),
        (image_score_note(results), threshold_note(results[results.metric.isin(metrics)]), *more, published),
        measured=sizes(metrics),
        setting=setting,
    )


def sentences(*notes: str) -> str:
    """Join notes that are not empty, one sentence each."""
    return ". ".join(note[0].upper() + note[1:] for note in notes if note) + "."


def spread(results: pd.DataFrame) -> str:
    """Describe a cell and its ± by the number of seeds."""
    n_seeds = results.seed.nunique()
    return f"mean and standard deviation over {n_seeds} seeds" if n_seeds > 1 else "one seed"


def _setting_note(results: pd.DataFrame) -> str:
    """Name the setting; explain few-anomaly and unified."""
    (setting,) = results.setting.unique()
    if setting == "unified":
        count = value_range(results.n_classes)
        return f"setting unified: one model for {count} categories"
    if setting != "few-anomaly":
        return f"setting {setting}"
    counts = {title: value_range(n_real) for title, n_real in results.groupby("title", sort=False).n_real}
    same = len(set(counts.values())) == 1
    count = next(iter(counts.values())) if same else ", ".join(f"{n} ({title})" for title, n in counts.items())
    by = "seed" if same else "seed and method"
    return (
        f"setting few-anomaly: {count} real anomalies per category, chosen by seed, are used for training and left out "
        f"of the test set, which thus differs by {by}; not comparable with one-class rows"
    )


def _anomalies_note(results: pd.DataFrame) -> str:
    """Name the methods trained with pseudo-anomalies, by generator; empty without."""
    made = results[results.generator != ""].groupby("generator", sort=False).title.unique()
    by_generator = (f"{generator} ({', '.join(titles)})" for generator, titles in made.items())
    return f"trained with pseudo-anomalies: {'; '.join(by_generator)}" if len(made) else ""


def search_note(results: pd.DataFrame) -> str:
    """Name methods with searched settings, the number of trials and their objective; empty without a search."""
    found = results[results.search != ""]
    if found.empty:  # true for each cell of most tables
        return ""
    notes = []
    for (objective, metric), part in found.groupby(["search", "search_metric"], sort=False):
        trials = value_range(part.search_trials)
        left_out = value_range(part.n_validation)
        judged = {
            "log_likelihood": "the likelihood of held-out normal images",
            "validation": f"{metric_title(metric)} on {left_out} test images that are left out of the test set",
            "test": f"{metric_title(metric)} ON THE TEST SET ITSELF (optimistic)",
        }
        names = ", ".join(part.title.unique())
        notes.append(f"settings of {names} searched per category with {trials} trials, judged by {judged[objective]}")
    return "; ".join(notes)


def image_score_note(results: pd.DataFrame) -> str:
    """Name the image score rule of each method that has a choice."""
    rules = sorted(filter(None, (BY_RULE.get(rule) for rule in results.image_score.unique())))
    return f"image score: {'; '.join(rules)}" if rules else ""


def threshold_note(shown: pd.DataFrame) -> str:
    """Name the normal images behind the thresholds of the shown metrics, by method; empty without such metrics."""
    needing = [metric for metric in shown.metric.unique() if find_metric(metric).metric.needs_normal]
    found = shown[shown.metric.isin(needing) & (shown.threshold_images != "")]
    by_source = found.groupby("threshold_images", sort=False).title.unique()
    notes = (f"{_THRESHOLD_IMAGES[source]} ({', '.join(titles)})" for source, titles in by_source.items())
    return f"threshold from normal images {'; or '.join(notes)}" if len(by_source) else ""


def published_note(source: str, own: str, over: str, tolerance: tuple[float, float]) -> str:
    """Explain the source of published values, their averages, and the status and marks of a cell."""
    reproduced, close = tolerance
    return (
        f"published values from {source}, obtained with {own} and selection; {over}; status by the absolute "
        f"difference: reproduced up to {reproduced:g} points, close up to {close:g}, else off; values marked ? are "
        "doubtful as printed"
    )


def backbone_note(results: pd.DataFrame) -> str:
    """Name backbones by their tags, with a warning if weights are random."""
    found = results[["backbone", "weights"]].drop_duplicates()
    random = " with RANDOM weights, for tests only"
    return "backbone " + ", ".join(f"{b}{random if w == 'random' else ''}" for b, w in found.itertuples(index=False))


def data_note(results: pd.DataFrame, notes: DatasetNotes, *, named: bool = False) -> str:
    """State how many of a dataset's categories were measured, and on which images.

    Args:
        results: aggregated results.
        notes: of datasets that are not official ones as they are.
        named: list the categories, for tables whose rows do not.
    """
    described = []
    for dataset, part in results.groupby("dataset", sort=False):
        categories = part.category.unique()
        official = len(official_categories(dataset, notes))
        count = f"{len(categories)} of {official} categories" if official else f"{len(categories)} categories"
        listed = f" ({', '.join(categories)})" if named else ""
        described.append(", ".join(filter(None, [dataset, count + listed, subset(dataset, notes)])))
    return "data: " + "; ".join(described)


def value_range(values: pd.Series) -> str:
    """Format the smallest and the largest value; once if they are equal."""
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"
