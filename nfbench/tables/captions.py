"""What a reader must know before comparing: names of metrics, and captions that say what was measured on what."""

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

import pandas as pd

from nfbench.config import (
    BackbonesTableConfig,
    MethodsTableConfig,
    ParametersTableConfig,
    SettingsTableConfig,
    TableConfig,
)
from nfbench.metrics import BY_RULE, Named, find_metric, known_metrics
from nfbench.tables.datasets import DatasetNotes, comparability, official_categories, subset

__all__ = [
    "backbones_caption",
    "methods_caption",
    "metric_title",
    "parameters_caption",
    "results_caption",
    "search_note",
    "settings_caption",
    "short_metric",
]

_SELECTIONS = {
    "last": "the last epoch",
    "val": "checkpoint with the best likelihood on held-out normal images",
    "oracle": "best checkpoint on the test set (optimistic)",
}


def metric_title(metric: str) -> str:
    """A metric's name as it is printed, with the rule of the image score where it is not the method's own."""
    return known_metrics()[metric].title if metric in known_metrics() else metric


def short_metric(metric: str) -> str:
    """A metric's name for the heading of a column."""
    return known_metrics()[metric].short if metric in known_metrics() else metric


def results_caption(config: TableConfig, results: pd.DataFrame, notes: DatasetNotes, source: str) -> str:
    """Caption of a table of results.

    Args:
        config: metric, selection, published values.
        results: aggregated results of all methods shown.
        notes: of datasets that are not official ones as they are.
        source: paper and number of the published table, empty without.
    """
    named = find_metric(config.metric)
    more = [named.metric.note]
    if named.metric.needs_masks:
        more.append(_regions_note(results))
    if named.metric.variants == BY_RULE and named.plain:
        more.append(_image_score_note(results))
    if source:
        own = "the papers' own backbones, input sizes, settings"
        more.append(_published_note(source, own, "averages over the categories shown", config.tolerance))
    return _caption(
        f"{config.title}: {_metric_titles(config, results)}, {_spread(results)}",
        results,
        config.selections,
        (_backbone_note(results), _data_note(results, notes)),
        measured=_sizes([config.metric]),
        more=more,
    )


def backbones_caption(
    config: BackbonesTableConfig, results: pd.DataFrame, notes: DatasetNotes, sources: Collection[str]
) -> str:
    """Caption of a table of backbones; ``sources`` are the papers of its published values."""
    return _caption(
        f"{_title_and_metrics(config)}, means over categories, {_spread(results)}",
        results,
        config.selections,
        (_data_note(results, notes, named=True), _backbone_note(results)),
        measured=_sizes(config.metrics),
        more=(_image_score_note(results), _published_means_note(config, results, notes, sources)),
    )


def methods_caption(
    config: MethodsTableConfig, results: pd.DataFrame, notes: DatasetNotes, sources: Collection[str]
) -> str:
    """Caption of a table of methods; ``sources`` are the papers of its published values."""
    by_method = results.drop_duplicates(["method", "backbone"]).groupby("backbone", sort=False).title
    backbones = "; ".join(f"{', '.join(found)} on {backbone}" for backbone, found in by_method)
    costs = []
    if config.costs:
        costs.append("scoring starts from cached features; memory is the largest of training and evaluation")
        costs.append(f"measured on {', '.join(sorted(results.machine.unique()))}")
    published = _published_means_note(config, results, notes, sources)
    caption = _caption(
        f"{_title_and_metrics(config)}, {_spread(results)}, of means over categories",
        results,
        (config.selection,),
        (_data_note(results, notes, named=True), backbones),
        measured=_sizes(config.metrics),
        more=(_image_score_note(results), *costs, published),
    )
    return caption + (" RANDOM weights, for tests only." if "random" in set(results.weights) else "")


def settings_caption(config: SettingsTableConfig, results: pd.DataFrame, notes: DatasetNotes) -> str:
    """Caption of a table of the settings one-class and unified."""
    return _caption(
        f"{_title_and_metrics(config)}, {_spread(results)}, of means over categories",
        results,
        (config.selection,),
        (_data_note(results, notes, named=True), _backbone_note(results)),
        setting="one-class: a model for each category; unified: one for all; difference: unified minus one-class, "
        "by seed",
        measured=_sizes(config.metrics),
        more=(_image_score_note(results),),
    )


def parameters_caption(config: ParametersTableConfig, sources: Collection[str]) -> str:
    """Caption of a table of parameters; ``sources`` are the papers of its published numbers."""
    title = f"{config.title}: trainable parameters, counted in the models that are built here, by part and in total"
    published = (
        f"published numbers from {_joined(sources)}",
        "'Equal' names the counts that are the published number at its printed precision; the notes tell of the others",
    )
    return _sentences((title, *(published if sources else ())))


def _caption(
    title: str,
    results: pd.DataFrame,
    selections: Sequence[str],
    on: Sequence[str],
    *,
    measured: str,
    setting: str | None = None,
    more: Sequence[str] = (),
) -> str:
    """The caption of a table of runs.

    Args:
        title: title, metrics and what a cell is.
        results: aggregated results of all runs shown.
        selections: of the checkpoints shown.
        on: data and backbones.
        measured: size of the maps that metrics are measured at.
        setting: the setting in words, by default that of the results.
        more: further notes; empty ones are left out, as everywhere.
    """
    notes = (
        title,
        _setting_note(results) if setting is None else setting,
        _anomalies_note(results),
        search_note(results),
        "; ".join(f"{selection}: {_SELECTIONS[selection]}" for selection in selections),
        *on,
        "; ".join(filter(None, (f"epochs {_range(results.epochs)}", measured))),
        *more,
    )
    return _sentences(notes)


def _sentences(notes: Iterable[str]) -> str:
    return ". ".join(note[0].upper() + note[1:] for note in notes if note) + "."


def _joined(sources: Collection[str]) -> str:
    return " and ".join(sorted(sources))


def _title_and_metrics(config: BackbonesTableConfig | MethodsTableConfig | SettingsTableConfig) -> str:
    return f"{config.title}: {_titles(map(find_metric, config.metrics))}"


def _titles(metrics: Iterable[Named]) -> str:
    """Titles of metrics, with the unit after those that share it."""
    by_unit = groupby(metrics, lambda named: named.metric.unit.suffix)
    return ", ".join(f"{', '.join(named.title for named in shared)}{suffix}" for suffix, shared in by_unit)


def _sizes(metrics: Iterable[str]) -> str:
    """Sizes of maps that metrics are measured at."""
    return ", ".join(filter(None, dict.fromkeys(find_metric(metric).metric.size for metric in metrics)))


def _spread(results: pd.DataFrame) -> str:
    """What a cell and its ± are, by the number of seeds."""
    n_seeds = results.seed.nunique()
    return f"mean and standard deviation over {n_seeds} seeds" if n_seeds > 1 else "one seed"


def _setting_note(results: pd.DataFrame) -> str:
    """The setting, and in words what sets few-anomaly apart."""
    (setting,) = results.setting.unique()
    if setting == "unified":
        count = _range(results.n_classes)
        return f"setting unified: one model for {count} categories"
    if setting != "few-anomaly":
        return f"setting {setting}"
    counts = {title: _range(n_real) for title, n_real in results.groupby("title", sort=False).n_real}
    same = len(set(counts.values())) == 1
    count = next(iter(counts.values())) if same else ", ".join(f"{n} ({title})" for title, n in counts.items())
    by = "seed" if same else "seed and method"
    return (
        f"setting few-anomaly: {count} real anomalies per category, chosen by seed, were learned from and are left out "
        f"of the test set, which thus differs by {by}; not comparable with one-class rows"
    )


def _anomalies_note(results: pd.DataFrame) -> str:
    """Methods that were trained with pseudo-anomalies, by generator; empty without."""
    made = results[results.generator != ""].groupby("generator", sort=False).title.unique()
    by_generator = (f"{generator} ({', '.join(titles)})" for generator, titles in made.items())
    return f"trained with pseudo-anomalies: {'; '.join(by_generator)}" if len(made) else ""


def search_note(results: pd.DataFrame) -> str:
    """Methods whose settings were searched for, by how many trials, and by what these were judged; empty without."""
    notes = []
    found = results[results.search != ""]
    for (objective, metric), part in found.groupby(["search", "search_metric"], sort=False):
        trials = _range(part.search_trials)
        left_out = _range(part.n_validation)
        judged = {
            "log_likelihood": "the likelihood of held-out normal images",
            "validation": f"{metric_title(metric)} on {left_out} test images that are left out of the test set",
            "test": f"{metric_title(metric)} ON THE TEST SET ITSELF (optimistic)",
        }
        names = ", ".join(part.title.unique())
        notes.append(f"settings of {names} searched in each category, {trials} trials, by {judged[objective]}")
    return "; ".join(notes)


def _image_score_note(results: pd.DataFrame) -> str:
    """Rules of the image scores of methods that have a choice."""
    rules = sorted(filter(None, (BY_RULE.get(rule) for rule in results.image_score.unique())))
    return f"image score: {'; '.join(rules)}" if rules else ""


def _published_note(source: str, own: str, over: str, tolerance: tuple[float, float]) -> str:
    """Where published values are from, what they are means over, and what the status and marks of a cell say."""
    reproduced, close = tolerance
    return (
        f"published values from {source}, obtained with {own} and selection; {over}; status by the absolute "
        f"difference: reproduced up to {reproduced:g} points, close up to {close:g}, else off; values marked ? are "
        "doubtful as printed"
    )


def _published_means_note(
    config: BackbonesTableConfig | MethodsTableConfig,
    results: pd.DataFrame,
    notes: DatasetNotes,
    sources: Collection[str],
) -> str:
    over = comparability(results, notes)
    return _published_note(_joined(sources), "the paper's own settings", over, config.tolerance) if sources else ""


def _backbone_note(results: pd.DataFrame) -> str:
    """Backbones by their tags, with a warning where weights are random."""
    found = results[["backbone", "weights"]].drop_duplicates()
    random = " with RANDOM weights, for tests only"
    return "backbone " + ", ".join(f"{b}{random if w == 'random' else ''}" for b, w in found.itertuples(index=False))


def _data_note(results: pd.DataFrame, notes: DatasetNotes, *, named: bool = False) -> str:
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
    return "data: " + "; ".join(described)


def _regions_note(results: pd.DataFrame) -> str:
    """Ground-truth regions of the test set, less those of images that were learned or validated with."""
    taken = ["n_real", "n_validation"]
    images = results.dropna(subset="n_regions").drop_duplicates([*taken, "seed", "dataset", "category"])
    if images.empty:
        return ""
    if not images.n_real.any():  # the test set is the same for all seeds, also where runs are lacking
        images = images.drop_duplicates(["n_validation", "dataset", "category"]).assign(seed=0)
    regions = images.groupby([*taken, "seed"]).n_regions.sum()
    count = _range(regions)
    by = ", by the anomalies left out of the test set" if regions.nunique() > 1 else ""
    return f"{count} ground-truth regions{by}"


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _metric_titles(config: TableConfig, results: pd.DataFrame) -> str:
    names = results.drop_duplicates("variant_of").set_index("variant_of").method_title
    others = [f"; of {names[method]}, {metric_title(m)}" for method, m in config.metric_of.items() if method in names]
    return _titles([find_metric(config.metric)]) + "".join(others)
