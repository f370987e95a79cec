"""Data of the page, as plain lists and dictionaries that are compact as JSON."""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

import nfbench
from nfbench.core.provenance import describe_machine
from nfbench.metrics import SHARE, Named, known_metrics
from nfbench.plan.cells import Cell
from nfbench.plan.paths import Paths
from nfbench.report.analysis import DIGITS, intervals, tests
from nfbench.results.aggregate import of_unchanged
from nfbench.results.files import Epoch, file_of, read_rows
from nfbench.results.ledger import Stock
from nfbench.results.record import CellRecord, RunRecord
from nfbench.tables._captions import search_note
from nfbench.tables._explain import commands_of
from nfbench.tables._holes import without_images
from nfbench.tables._model import PUBLISHED_ONLY, Table

__all__ = ["Index", "ReportSource", "collect", "printed"]

SELECTIONS = ("last", "val", "oracle")
_CURVE_POINTS = 40
_ORIGIN = re.compile(',"origin":"[0-9a-f]*"')
_SHARED = ("setting", "method", "backbone", "title", "variant_of", "method_title")


@dataclass(frozen=True)
class ReportSource:
    """Inputs of a report.

    Attributes:
        name: name of the experiment.
        title: title of the experiment.
        stock: cells of the experiment and their run records.
        results: aggregated results of the run records.
        tables: tables of results.
        unmade: reasons why other tables could not be built.
        notes: notes on datasets by name, such as the use of a subset.
        paths: locations of all files.
        remark: sentence below the title.
        bundles: bundle of each run by its cell, in a merged set.
    """

    name: str
    title: str
    stock: Stock
    results: pd.DataFrame
    tables: Sequence[Table]
    unmade: Sequence[str]
    notes: Mapping[str, str]
    paths: Paths
    remark: str = ""
    bundles: Mapping[str, str] = field(default_factory=dict)


class Index:
    """Numbers for repeated values."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def __call__(self, value: Any) -> int:
        """Return the number of a value; equal values share a number."""
        if value not in self._numbers:
            self._numbers[value] = len(self.values)
            self.values.append(value)
        return self._numbers[value]


def collect(source: ReportSource) -> dict[str, Any]:
    """Collect all data of the page except pictures.

    A system is a method on a backbone in a setting; runs refer to their system and category by number. A condition is
    shown as a setting of its own. Intervals and tests are those of unchanged images.
    """
    records = source.stock.records
    results = source.results
    systems, categories, texts = Index(), Index(), Index()
    runs = [_run(record, systems, categories, texts, source.bundles) for record in records.values()]
    measured = set(results.metric) if len(results) else set()
    metrics = [named for named in known_metrics().values() if named.name in measured and named.plain]
    metrics = [named for named in metrics if not named.transductive]
    headline = [named for named in metrics if named.metric.headline]
    tested = [named for named in metrics if named.metric.headline or named.metric.by_image]
    titles = {(r.cell.setting, r.cell.method): r.cell for r in records.values()}
    plain = [cell for cell in records if not cell.condition]
    numbers = [_numbers(record, metrics) for record in records.values()]
    expected = [
        [systems(_system(cell, titles.get((cell.setting, cell.method)))), categories((cell.dataset, cell.category))]
        for cell in (account.cell for account in source.stock.accounts if account.status != "skipped")
    ]
    return {
        "name": source.name,
        "title": source.title,
        "remark": source.remark,
        "version": nfbench.__version__,
        "metrics": [_about(named) for named in metrics],
        "headline": [named.name for named in headline],
        "selections": list(SELECTIONS),
        "systems": [_described(system, results) for system in systems.values],
        "categories": [list(category) for category in categories.values],
        "notes": dict(source.notes),
        "lacking": without_images(results) if len(results) else "",
        "expected": expected,
        "runs": [{**run, "values": values} for run, values in zip(runs, numbers, strict=True)],
        "curves": [_curves(cell, record, source.paths, headline) for cell, record in records.items()],
        "intervals": intervals(plain, source.paths, systems, categories, of_unchanged(results)) if plain else [],
        "tests": tests(of_unchanged(results), tested, source.paths) if plain else [],
        "published": [row for table in source.tables for row in _published(table)],
        "unmade": list(source.unmade),
        "ledger": [{**_placed(a.cell), **_fate(a)} for a in source.stock.accounts if a.status != "done"],
        "texts": texts.values,
        "links": _links(source),
    }


def _links(source: ReportSource) -> dict[str, Any]:
    """Paths from the page to the folder of runs and to other files of the workflow."""
    paths, page = source.paths, source.paths.report(source.name).parent
    files = [
        *(paths.experiment(source.name, file) for file in ("results.parquet", "ledger.csv")),
        *(paths.table(source.name, table.name, ending) for table in source.tables for ending in ("html", "csv")),
    ]
    return {
        "runs": os.path.relpath(paths.root / "runs", page),
        "files": [os.path.relpath(path, page) for path in files],
    }


def _system(cell: Cell, known: CellRecord | None) -> tuple[str, ...]:
    """Values of ``_SHARED`` for a system; its name replaces its titles if no run of its method is done."""
    titles = (known.title, known.variant_of, known.method_title) if known else (cell.method,) * 3
    return (cell.shown_setting, cell.method, cell.backbone, *titles)


def _described(system: tuple[str, ...], results: pd.DataFrame) -> dict[str, Any]:
    """Describe a system; if its settings were searched, add the objective and its share of categories in tables."""
    described = dict(zip(_SHARED, system, strict=True))
    if not len(results):
        return {**described, "search": ""}
    setting = described["setting"].partition(", ")[0]
    of_method = results[(results.setting == setting) & (results.method == described["method"])]
    own = of_method[(of_method.search != "") & (of_method.backbone == described["backbone"])]
    categories = own.drop_duplicates(["dataset", "category"])
    several = of_method.backbone.nunique() > 1
    chosen = [int(categories.search_chosen.sum()), len(categories)] if several else None
    return {**described, "search": search_note(of_method) if len(own) else "", "chosen": chosen}


def _run(
    record: RunRecord, systems: Index, categories: Index, texts: Index, bundles: Mapping[str, str]
) -> dict[str, Any]:
    """Describe a run, its costs and its provenance; repeated texts are numbers."""
    cell, recipe = record.cell.cell, record.features.recipe
    made, found = record.provenance["train"], record.segmentation.threshold_images
    return {
        "system": systems(_system(cell, record.cell)),
        "category": categories((cell.dataset, cell.category)),
        "seed": cell.seed,
        "cost": [
            record.parameters["total"],
            round(record.seconds["train"], 1),
            round(record.images_per_second["score"], 1),
            round(max(record.peak_memory_mb.values())),
            round(record.latency.ms, 2) if record.latency else None,
        ],
        "epochs": record.epochs,
        "thresholds": texts(f"{found.n_images} images, {found.source}"),
        "bundle": texts(bundles.get(str(cell), "")),
        "commit": texts(f"{made['commit'] or 'unknown'}{' with uncommitted changes' if made['dirty'] else ''}"),
        "machine": texts(describe_machine(made)),
        "packages": texts(", ".join(f"{k} {v}" for k, v in {"nfbench": made["nfbench"], **made["packages"]}.items())),
        "weights": texts(f"{recipe.backbone.name}, {recipe.weights}: {recipe.weights_sha256}"),
        "images": texts(f"{record.data.manifest}: {record.data.manifest_sha256}"),
        "commands": [texts(_template(command, cell)) for command in commands_of(record)],
    }


def _template(command: str, cell: Cell) -> str:
    """Replace category, seed and origin of a command, so that all runs of a system share one text."""
    place = f"{cell.dataset}/{cell.category}"
    for given, marker in (
        (str(cell), "{cell}"),
        (f"/{place}", "/{place}"),
        (f'"{cell.category}"', '"{category}"'),
        (f'"seed":{cell.seed}', '"seed":{seed}'),
    ):
        command = command.replace(given, marker)
    return _ORIGIN.sub("", command)


def _about(named: Named) -> dict[str, Any]:
    """Describe a metric for the page."""
    unit = named.metric.unit
    return {"name": named.name, "title": named.title, "lowest": named.sign < 0, "share": unit is SHARE}


def _numbers(record: RunRecord, metrics: Sequence[Named]) -> list[list[float | None]]:
    """Printed values by selection and metric; None where undefined."""
    found = [record.selections[name].metrics if name in record.selections else {} for name in SELECTIONS]
    return [[printed(values.get(named.name), named) for named in metrics] for values in found]


def printed(value: float | None, named: Named) -> float | None:
    """Convert a value of a metric to its printed unit; None if undefined."""
    return None if value is None else _finite(named.metric.unit.factor * value)


def _curves(cell: Cell, record: RunRecord, paths: Paths, shown: Sequence[Named]) -> dict[str, Any]:
    """Loss and held-out log-likelihood by epoch, subsampled, and the metrics ``shown`` at the kept epochs."""
    folder = paths.run_record(cell.trained).parent
    history = read_rows(Epoch, folder) if (folder / file_of(Epoch)).is_file() else []
    step = max(1, -(-len(history) // _CURVE_POINTS))
    thin = [*history[step - 1 :: step]]
    held_out = [row.val_log_likelihood for row in thin if row.val_log_likelihood is not None]
    kept = dict(sorted(record.by_epoch.items()))
    return {
        "epochs": [row.epoch for row in thin],
        "loss": [_short(row.loss) for row in thin],
        "held_out": [_short(value) for value in held_out] if len(held_out) == len(thin) else [],
        "kept": list(kept),
        "metrics": [[printed(values.get(named.name), named) for values in kept.values()] for named in shown],
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _published(table: Table) -> Iterable[dict[str, Any]]:
    """Cells of a table that have a published value."""
    for row, column, cell in table.comparisons():
        if cell.published and not cell.published.is_lost and cell.status != PUBLISHED_ONLY:
            yield {
                "table": table.name,
                "source": table.source,
                "dataset": row.labels[0],
                "row": row.label,
                "column": column.title,
                "details": table.details(column),
                "mean": _finite(cell.mean),
                "std": _finite(cell.std),
                "published": cell.published.value,
                "doubt": "" if cell.published.trusted else cell.published.note or "doubtful",
                "difference": _finite(cell.difference),
                "status": cell.status,
                "holes": cell.holes,
                "search": search_note(cell.runs),
            }


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else round(value, DIGITS)


def _placed(cell: Cell) -> dict[str, Any]:
    """A cell, with its condition in the setting."""
    return {**{k: v for k, v in asdict(cell).items() if k != "condition"}, "setting": cell.shown_setting}


def _fate(account: Any) -> dict[str, str]:
    return {"status": account.status, "reason": account.reason, "log": account.log, "tail": account.tail}
