"""What a reader must know before comparing: names of metrics, and captions that say what was measured on what."""

from collections.abc import Sequence

import pandas as pd

from nfbench.config import TRANSDUCTIVE, TableConfig
from nfbench.tables.datasets import DatasetNotes, official_categories, subset

__all__ = [
    "METRICS",
    "anomalies_note",
    "backbone_notes",
    "data_notes",
    "epochs_note",
    "image_score_note",
    "join_notes",
    "metric_title",
    "results_caption",
    "search_note",
    "selections_note",
    "setting_note",
    "short_metric",
    "spread",
    "status_note",
]

METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "image_f1": "image F1 at the best threshold",
    "pixel_f1": "pixel F1 at the best threshold",
    "pixel_aupro": "AUPRO",
    "pixel_aupro_05": "AUPRO up to a false positive rate of 0.05",
    "miou_oracle": "mean IoU of the anomaly map at the best threshold on the test set",
    "miou_fair": "mean IoU of the anomaly map at one false positive pixel per normal training image",
    "miou_nfa": "mean IoU of the a contrario mask, NFA < 1",
    "miou_nfa_guard": "mean IoU of the a contrario mask, NFA < 1, with the Chernoff guard",
    "miou_nfa_oracle": "mean IoU of the log-NFA map at the best threshold on the test set",
    "false_alarms_fair": "detected regions per 100 normal test images, at one false positive pixel per training image",
    "false_alarms_nfa": "detected regions per 100 normal test images, NFA < 1",
    "false_alarms_nfa_guard": "detected regions per 100 normal test images, NFA < 1, with the Chernoff guard",
}
_RULES = {"max": "maximum of the map", "mean": "mean of the map", "top1": "mean of the map's top 1 %"}
_AGGREGATIONS = {"anomalous": "anomalous images", "pooled": "pixels pooled"}
_SHORT = {"miou_nfa": "NFA < 1", "miou_nfa_guard": "NFA < 1, guard", "miou_nfa_oracle": "best NFA"}
_SELECTIONS = {
    "last": "the last epoch",
    "val": "checkpoint with the best likelihood on held-out normal images",
    "oracle": "best checkpoint on the test set (optimistic)",
}


def metric_title(metric: str) -> str:
    """A metric's name as it is printed, with the rule of the image score where it is not the method's own."""
    if metric.endswith(TRANSDUCTIVE):
        own = metric_title(metric.removesuffix(TRANSDUCTIVE))
        return f"{own} of scores relative to the test set's maximum, as published"
    base, _, suffix = metric.rpartition("_")
    qualified = {**_RULES, **_AGGREGATIONS}.get(suffix)
    return f"{METRICS[base]} ({qualified})" if qualified else METRICS.get(metric, metric)


def short_metric(metric: str) -> str:
    """A metric's name for the heading of a column."""
    return "transductive" if metric.endswith(TRANSDUCTIVE) else _SHORT.get(metric, metric)


def results_caption(config: TableConfig, results: pd.DataFrame, notes: DatasetNotes, source: str) -> str:
    """Caption of a table of results.

    Args:
        config: metric, selection, published values.
        results: aggregated results of all methods shown.
        notes: of datasets that are not official ones as they are.
        source: paper and number of the published table, empty without.
    """
    counts = config.metric.startswith("false_alarms")
    size = "method's own map" if counts else "original image"
    parts = [
        f"{config.title}: {_metric_titles(config, results)}, {spread(results)}",
        setting_note(results),
        anomalies_note(results),
        search_note(results),
        selections_note(config.selections),
        "backbone " + ", ".join(backbone_notes(results)),
        "data: " + "; ".join(data_notes(results, notes)),
        f"{epochs_note(results)}; {'counted' if counts else 'metrics'} at the {size} size",
    ]
    if config.metric.startswith("miou"):
        parts.append("mean over all test images, good ones included, unless said otherwise")
    if config.metric.startswith("pixel"):
        parts.append(_regions_note(results))
    if config.metric in ("image_auroc", "image_ap"):
        parts.append(image_score_note(results))
    if source:
        parts.append(
            f"published values from {source}, obtained with the papers' own backbones, input sizes, settings and "
            f"selection; averages over the categories shown; {status_note(config.tolerance)}"
        )
    return join_notes(parts)


def join_notes(notes: Sequence[str]) -> str:
    """Notes as sentences; empty ones are left out."""
    return ". ".join(note[0].upper() + note[1:] for note in notes if note) + "."


def spread(results: pd.DataFrame) -> str:
    """What a cell and its ± are, by the number of seeds."""
    n_seeds = results.seed.nunique()
    return f"mean and standard deviation over {n_seeds} seeds" if n_seeds > 1 else "one seed"


def setting_note(results: pd.DataFrame) -> str:
    """The setting, and in words what sets few-anomaly apart."""
    (setting,) = results.setting.unique()
    if setting == "unified":
        count = _range(int(results.n_classes.min()), int(results.n_classes.max()))
        return f"setting unified: one model for {count} categories"
    if setting != "few-anomaly":
        return f"setting {setting}"
    by_title = results.groupby("title", sort=False).n_real.agg(["min", "max"])
    counts = {title: _range(int(row["min"]), int(row["max"])) for title, row in by_title.iterrows()}
    same = len(set(counts.values())) == 1
    count = next(iter(counts.values())) if same else ", ".join(f"{n} ({title})" for title, n in counts.items())
    by = "seed" if same else "seed and method"
    return (
        f"setting few-anomaly: {count} real anomalies per category, chosen by seed, were learned from and are left out "
        f"of the test set, which thus differs by {by}; not comparable with one-class rows"
    )


def anomalies_note(results: pd.DataFrame) -> str:
    """Methods that were trained with pseudo-anomalies, by generator; empty without."""
    made = results[results.generator != ""].groupby("generator", sort=False).title.unique()
    by_generator = (f"{generator} ({', '.join(titles)})" for generator, titles in made.items())
    return f"trained with pseudo-anomalies: {'; '.join(by_generator)}" if len(made) else ""


def search_note(results: pd.DataFrame) -> str:
    """Methods whose settings were searched for, by how many trials, and by what these were judged; empty without."""
    notes = []
    found = results[results.search != ""]
    for (objective, metric), part in found.groupby(["search", "search_metric"], sort=False):
        trials = _range(int(part.search_trials.min()), int(part.search_trials.max()))
        left_out = _range(int(part.n_validation.min()), int(part.n_validation.max()))
        judged = {
            "log_likelihood": "the likelihood of held-out normal images",
            "validation": f"{metric_title(metric)} on {left_out} test images that are left out of the test set",
            "test": f"{metric_title(metric)} ON THE TEST SET ITSELF (optimistic)",
        }
        names = ", ".join(part.title.unique())
        notes.append(f"settings of {names} searched in each category, {trials} trials, by {judged[objective]}")
    return "; ".join(notes)


def selections_note(selections: Sequence[str]) -> str:
    """What each selection of a checkpoint means."""
    return "; ".join(f"{selection}: {_SELECTIONS[selection]}" for selection in selections)


def epochs_note(results: pd.DataFrame) -> str:
    """Epochs of all methods shown."""
    low, high = int(results.epochs.min()), int(results.epochs.max())
    return f"epochs {low}" if low == high else f"epochs {low} to {high}"


def image_score_note(results: pd.DataFrame) -> str:
    """Rules of the image scores of methods that have a choice."""
    rules = sorted(_RULES[rule] for rule in results.image_score.unique() if rule in _RULES)
    return f"image score: {'; '.join(rules)}" if rules else ""


def status_note(tolerance: tuple[float, float]) -> str:
    """What the status of a cell says, and what a mark of doubt says."""
    reproduced, close = tolerance
    return (
        f"status by the absolute difference: reproduced up to {reproduced:g} points, close up to {close:g}, else off; "
        "values marked ? are doubtful as printed"
    )


def backbone_notes(results: pd.DataFrame) -> list[str]:
    """Backbones by their tags, with a warning where weights are random."""
    found = results[["backbone", "weights"]].drop_duplicates()
    random = " with RANDOM weights, for tests only"
    return [f"{row.backbone}{random if row.weights == 'random' else ''}" for row in found.itertuples()]


def data_notes(results: pd.DataFrame, notes: DatasetNotes, *, named: bool = False) -> list[str]:
    """How many of a dataset's categories were measured, and on which of its images.

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
    return described


def _regions_note(results: pd.DataFrame) -> str:
    """Ground-truth regions of the test set, less those of images that were learned or validated with."""
    taken = ["n_real", "n_validation"]
    images = results.dropna(subset="n_regions").drop_duplicates([*taken, "seed", "dataset", "category"])
    if images.empty:
        return ""
    if not images.n_real.any():  # the test set is the same for all seeds, also where runs are lacking
        images = images.drop_duplicates(["n_validation", "dataset", "category"]).assign(seed=0)
    regions = images.groupby([*taken, "seed"]).n_regions.sum()
    count = _range(int(regions.min()), int(regions.max()))
    by = ", by the anomalies left out of the test set" if regions.nunique() > 1 else ""
    return f"{count} ground-truth regions{by}"


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _metric_titles(config: TableConfig, results: pd.DataFrame) -> str:
    unit = "" if config.metric.startswith("false_alarms") else " in percent"
    names = results.drop_duplicates("variant_of").set_index("variant_of").method_title
    others = [f"; of {names[method]}, {metric_title(m)}" for method, m in config.metric_of.items() if method in names]
    return metric_title(config.metric) + unit + "".join(others)
