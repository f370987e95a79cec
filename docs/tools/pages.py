"""Write the generated parts of the documentation: ``python docs/tools/pages.py``.

A page holds each generated part between ``<!-- generated: NAME -->`` and ``<!-- end -->``; the rest of the page is
written by hand. ``tests/test_pages.py`` fails when a part is out of date or a method has no page.
"""

import csv
import json
import re
import typing
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import yaml

from nfbench.backbones._base import Level, backbone_names, find_backbone
from nfbench.blocks.anomalib import page as peers
from nfbench.blocks.method import PACKAGE, Method
from nfbench.blocks.settings import EpochSettings, FittedSettings, MethodSettings, TrainedSettings
from nfbench.config import BackboneConfig, Bench, Config, Experiment, VariantConfig, load_bench, read_config
from nfbench.config.conditions import ShiftConfig
from nfbench.config.grid import AnomaliesConfig, DatasetConfig, GridBlock
from nfbench.config.tiles import TilesConfig
from nfbench.core.registry import exported
from nfbench.metrics import metric_list

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
REFERENCE = ROOT / "nfbench" / "reference"
FACTS: dict[str, dict[str, Any]] = yaml.safe_load((DOCS / "tools" / "methods.yaml").read_text())
ORIGINS = ("paper", "code", "ours")
METRICS = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "pixel_aupro": "AUPRO",
    "miou_oracle": "mean IoU, best threshold",
    "miou_fair": "mean IoU, fair threshold",
}
SHARED = (MethodSettings, FittedSettings, EpochSettings, TrainedSettings)
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_STEPS = ("step", "warmup_step")
_READ_BY = {"gamma": _STEPS, "milestones": _STEPS, "meta_epochs": ("warmup_cosine",)}
"""Schedules that read a setting, of settings that others do not read."""
_SOURCES = (
    "[Errata](../errata.md) lists doubtful numbers, [coverage](../coverage.md) names the experiment of each table.\n"
)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(header)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines) + "\n"


def method_type(name: str) -> type[Method]:
    """The class of a method."""
    found: type[Method] = exported(PACKAGE, name, "METHOD", subclass_of=Method)
    return found


def value_text(value: Any) -> str:
    """A value as YAML writes it, in the style of code."""
    if isinstance(value, str):
        return f"`{value}`" if value else "–"
    if isinstance(value, float):
        return f"`{value:.4g}`"
    if isinstance(value, tuple | list):
        return f"`[{', '.join(value_text(item).strip('`') for item in value)}]`"
    if value is None or isinstance(value, bool):
        return f"`{json.dumps(value)}`"
    return "`{}`" if isinstance(value, Mapping) else f"`{value}`"


def meaning(annotation: Any, description: str | None) -> str:
    """The description of a field; allowed words that it does not name follow it."""
    text = description or ""
    words = [word for word in _words(annotation) if not re.search(rf"\b{re.escape(word)}\b", text)]
    return f"{text}; one of {', '.join(f'`{word}`' for word in _words(annotation))}" if words else text


def _words(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return [word for word in typing.get_args(annotation) if isinstance(word, str)]
    return [word for part in typing.get_args(annotation) if not isinstance(part, str) for word in _words(part)]


def origin_of(method: str, setting: str) -> str:
    """Where the default of a setting comes from: ``paper``, ``code`` or ``ours``."""
    facts = FACTS[method]
    for found in (facts, FACTS["shared"]):
        for origin in ORIGINS:
            if setting in found.get(origin, ()):
                return origin
    return str(facts["origin"])


def settings(method: str) -> str:
    """The settings of a method: first those that it defines or overrides, then those that it shares unchanged."""
    kind = method_type(method).settings_type
    schedule = kind.model_fields["schedule"].default if issubclass(kind, TrainedSettings) else None
    own, shared = [], []
    for name, field in kind.model_fields.items():
        base = [model.model_fields[name] for model in SHARED if issubclass(kind, model) and name in model.model_fields]
        default = "required" if field.is_required() else value_text(field.default)
        unused = name in _READ_BY and schedule not in _READ_BY[name]
        origin = f"unused by `schedule: {schedule}`" if unused else origin_of(method, name)
        row = [f"`{name}`", default, meaning(field.annotation, field.description), origin]
        (shared if base and base[-1].default == field.default else own).append(row)
    header = ("setting", "default", "meaning", "origin")
    parts = [table(header, own)] if own else []
    parts += list(_overrides(method_type(method)))
    if shared:
        parts += ["Settings that many methods share, with their common default:\n", table(header, shared)]
    return "\n".join(parts)


def _overrides(kind: type[Method]) -> Iterable[str]:
    for backbone, given in kind.backbone_settings.items():
        changed = ", ".join(f"`{name}: {value_text(value).strip('`')}`" for name, value in given.items())
        yield f"On `{backbone}`, the default is {changed}.\n"
    for dataset, categories in kind.category_settings.items():
        names = sorted({name for given in categories.values() for name in given})
        header = ("category", *(f"`{name}`" for name in names))
        rows = [
            (category, *(value_text(given[name]).strip("`") if name in given else "–" for name in names))
            for category, given in categories.items()
        ]
        yield f"The repository's settings by category of `{dataset}`:\n\n{table(header, rows)}"


def published(method: str) -> str:
    """Published averages of a method on whole datasets, as printed, in percent."""
    names = FACTS[method].get("published", [method_type(method).title])
    found: dict[tuple[str, ...], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    places: dict[tuple[str, ...], dict[str, None]] = defaultdict(dict)
    captions = _ablations(names)
    for paper, caption, row in _of_datasets(names):
        if caption not in captions:
            key = (row["method"], row["dataset"], row.get("backbone", ""), row["setting"], paper)
            value = Decimal(row["value"]).scaleb(2 if row["unit"] == "fraction" else 0)
            found[key][row["metric"]].add(f"{value:f}" + (" (doubtful)" if row["trust"] != "trusted" else ""))
            places[key][caption.partition(":")[0]] = None
    if not found and not captions:
        return "The published tables that nfbench holds have no average of this method.\n"
    columns = [metric for metric in METRICS if any(metric in metrics for metrics in found.values())]
    first = 0 if len(names) > 1 else 1
    header = ("method", "dataset", "backbone", "setting", "source")[first:]
    lines = [
        [
            *key[first:-1],
            f"{key[-1]}: {', '.join(places[key])}",
            *(" ".join(metrics.get(each, "–")) for each in columns),
        ]
        for key, metrics in found.items()
    ]
    cells = [[cell or "–" for cell in line] for line in lines]
    text = table([*header, *(METRICS[metric] for metric in columns)], cells)
    if captions:
        text += f"\nThese tables have a row for each variant: {'; '.join(sorted(captions))}.\n"
    return f"{text}\n{_SOURCES}"


def _of_datasets(names: Iterable[str]) -> list[tuple[str, str, dict[str, str]]]:
    whole = ("average_total", "all")
    return [
        each for each in _printed() if each[2]["method"] in names and each[2]["category"] in whole and each[2]["value"]
    ]


def _ablations(names: Iterable[str]) -> set[str]:
    """Captions of the tables in which a row of the method is one of several variants."""
    columns = ("method", "dataset", "backbone", "setting", "metric")
    keys = Counter((caption, *(row.get(column) for column in columns)) for _, caption, row in _of_datasets(names))
    return {str(key[0]) for key, count in keys.items() if count > 1}


@cache
def _printed() -> list[tuple[str, str, dict[str, str]]]:
    with (REFERENCE / "index.csv").open(newline="") as file:
        index = list(csv.DictReader(file))
    found = []
    for entry in index:
        with (REFERENCE / entry["file"]).open(newline="") as file:
            found += [(entry["paper"], entry["table"], row) for row in csv.DictReader(file) if "method" in row]
    return [(paper, caption, row) for paper, caption, row in found if row.get("metric") in METRICS]


def measured(method: str) -> str:
    """Rows of the method in the comparisons of ``methods.md``."""
    names = FACTS[method].get("measured", [method_type(method).title])
    parts: dict[str, list[str]] = {}
    for experiment, header, rows in _comparisons():
        own = [row for row in rows if any(_is_of(row[0], name) for name in names)]
        if own:
            parts.setdefault(experiment, []).append(table(header, own))
    if not parts:
        return "The comparisons of [methods](../methods.md#measured) do not have this method.\n"
    text = "\n".join(f"From `{experiment}`:\n\n" + "\n".join(tables) for experiment, tables in parts.items())
    return text + "\n[Methods](../methods.md#measured) describes images, sizes and limits of these runs.\n"


def _is_of(cell: str, name: str) -> bool:
    if name.startswith("("):
        return name in cell
    return re.match(rf"{re.escape(name)}(?![\w-])", cell) is not None and "(anomalib)" not in cell


@cache
def _comparisons() -> list[tuple[str, list[str], list[list[str]]]]:
    """Tables below "Measured": the experiment that the text before names, the header and the rows."""
    text = (DOCS / "methods.md").read_text().partition("\n## Measured\n")[2]
    found: list[tuple[str, list[str], list[list[str]]]] = []
    experiment = ""
    for paragraph in text.split("\n\n"):
        lines = paragraph.strip().splitlines()
        if not lines or not lines[0].startswith("| "):
            named = re.search(r"Runs of `(\w+)`", paragraph)
            experiment = named[1] if named else experiment
            continue
        cells = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines]
        found.append((experiment, cells[0], cells[2:]))
    return found


@cache
def bench() -> Bench:
    """The experiments of this checkout over all official categories."""
    overrides = {"categories": None, "seeds": 1, "miniature": False}
    return load_bench(read_config(ROOT / "config.yaml", overrides), ROOT / "workflow" / "experiments")


def _methods_of(experiment: Experiment) -> set[str]:
    variants = {**bench().variants, **experiment.variants}
    names = {name for block in experiment.grid for name in block.methods}
    return {variants[name].method if name in variants else name for name in names}


def experiments_of(method: str) -> str:
    """Experiments whose grid has the method."""
    found = [name for name, experiment in _shown().items() if method in _methods_of(experiment)]
    if not found:
        return "No experiment of this repository has this method.\n"
    return f"Experiments with this method: {', '.join(f'[`{name}`](../experiments.md#{name})' for name in found)}.\n"


def _shown() -> dict[str, Experiment]:
    return {name: found for name, found in bench().experiments.items() if not name.startswith("smoke")}


def experiment_list() -> str:
    """A section for each experiment."""
    parts = []
    for name, experiment in _shown().items():
        made = [f"`{each}`" for each in (*experiment.tables, *experiment.figures)]
        lines = [f"### {name}", "", f"{experiment.title}.", ""]
        methods = sorted(_methods_of(experiment))
        if methods:
            lines.append(f"- methods: {', '.join(f'[{each}](methods/{each}.md)' for each in methods)}")
        backbones = dict.fromkeys(each.name for block in experiment.grid for each in block.backbones)
        datasets = dict.fromkeys(each for block in experiment.grid for each in block.datasets)
        for label, names in (("backbones", backbones), ("datasets", datasets)):
            if names:
                lines.append(f"- {label}: {', '.join(f'`{each}`' for each in names)}")
        lines += [f"- seeds: {experiment.seeds}", f"- tables and figures: {', '.join(made)}", ""]
        parts.append("\n".join(lines))
    return "\n" + "\n".join(parts)


def keys_of(model: type[Any]) -> str:
    """The keys of a model of the configuration."""
    rows = []
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else value_text(field.get_default(call_default_factory=True))
        rows.append((f"`{name}`", default, meaning(field.annotation, field.description)))
    return table(("key", "default", "meaning"), rows)


def _levels(same: Sequence[int], tap: Level, default: bool) -> str:
    """Levels in a row that are alike, in bold if they are used by default."""
    if default or len(same) == 1:
        return ", ".join(
            f"**{n}: {tap.channels} / {tap.stride}**" if default else f"{n}: {tap.channels} / {tap.stride}"
            for n in same
        )
    return f"{same[0]} to {same[-1]}: {tap.channels} / {tap.stride}"


def backbones() -> str:
    """All backbones with their levels."""
    rows = []
    for name in backbone_names():
        found = find_backbone(name)
        runs = groupby(found.taps, key=lambda level, found=found: (found.taps[level], level in found.levels))
        levels = ", ".join(_levels(list(same), *kind) for kind, same in runs)
        rows.append((f"`{name}`", str(found.input_size), levels or "none, the image alone", found.weights))
    return table(("name", "input", "levels: channels / stride", "weights"), rows)


def parts_of(page: Path) -> Mapping[str, Callable[[], str]]:
    """What can be generated on a page, by name."""
    if page.parent.name == "methods":
        makers = {"settings": settings, "published": published, "measured": measured, "experiments": experiments_of}
        return {name: lambda make=make: make(page.stem) for name, make in makers.items()}
    return {
        "experiments": experiment_list,
        "backbones": backbones,
        "anomalies": lambda: keys_of(AnomaliesConfig),
        "backbone": lambda: keys_of(BackboneConfig),
        "config": lambda: keys_of(Config),
        "dataset": lambda: keys_of(DatasetConfig),
        "experiment": lambda: keys_of(Experiment),
        "grid": lambda: keys_of(GridBlock),
        "metrics": metric_list,
        "shift": lambda: keys_of(ShiftConfig),
        "peers": peers.table,
        "peer_deviations": peers.deviations,
        "tiles": lambda: keys_of(TilesConfig),
        "variant": lambda: keys_of(VariantConfig),
    }


def generated(page: Path) -> str:
    """The text of a page with all its generated parts up to date."""
    makers = parts_of(page)
    return _PART.sub(lambda found: f"{found[1]}\n{makers[found[2]]().strip()}\n\n{found[3]}", page.read_text())


def pages() -> list[Path]:
    """Pages with generated parts."""
    return sorted(page for page in DOCS.rglob("*.md") if _PART.search(page.read_text()))


def main() -> None:
    """Bring all pages up to date."""
    for page in pages():
        text = generated(page)
        if text != page.read_text():
            page.write_text(text)
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
