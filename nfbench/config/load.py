"""Reads and joins ``config.yaml`` and all experiments, and reports all faults of all files at once."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nfbench.config.backbone import BackboneConfig
from nfbench.config.bench import Bench, Config, Experiment
from nfbench.config.checks import Known, dataset_faults, grid_faults, variant_faults
from nfbench.config.names import name_fault
from nfbench.config.reading import read_mapping
from nfbench.config.runs import Runs
from nfbench.config.validation import Model, find_faults
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest
from nfbench.metrics import known_metrics

__all__ = ["load_bench", "read_config"]

_CONFIG = "config.yaml"
_FEW_SHOTS = 6
_RULE = re.compile(r"^\s*(?:rule|checkpoint)\s+(\w+)\s*:", re.MULTILINE)


def read_config(path: Path, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read the keys of a configuration file and apply overrides.

    Raises:
        NfbenchError: the file is missing, empty or cannot be read; the message names it.
    """
    return {**read_mapping(path), **(overrides or {})}


def load_bench(values: Mapping[str, Any], experiments_folder: Path) -> Bench:
    """Read all experiments and join them with the configuration.

    Args:
        values: keys of ``config.yaml``, with overrides from the command line.
        experiments_folder: folder with the experiment files.

    Raises:
        NfbenchError: a file, key or name is wrong; one line per fault, for all files.
    """
    known_metrics()  # reports a fault in a metric's file once instead of for each name
    config, faults = find_faults(Config, values, _CONFIG)
    paths = {path.stem: path for path in sorted(experiments_folder.glob("*.yaml"))}
    unread = set() if config else _names_in(values)
    read: dict[str, Experiment] = {}
    for name, path in paths.items():
        found, of_file, defined = _read_experiment(path)
        faults += of_file
        if found is None:
            unread |= {name, *defined}
        else:
            read[name] = found
    config = config or Config()
    if config.miniature:  # in a folder of its own, by default with one seed
        root = str(Path(config.results_root) / "miniature")
        config = config.model_copy(update={"results_root": root, "seeds": config.seeds or 1})
        config = config.model_copy(update={"variants": _with_random_weights(config.variants)})
        read = {name: _with_few_shots(_with_random_weights(experiment)) for name, experiment in read.items()}
    experiments = {
        name: _share_runs(paths[name], name, experiment, read, unread, faults) for name, experiment in read.items()
    }
    bench = _join(config, experiments, paths, faults)
    faults += _faults_of_names(bench, read, paths, frozenset(unread))
    if faults:
        raise NfbenchError("\n".join(dict.fromkeys(faults)))
    return bench


def _read_experiment(path: Path) -> tuple[Experiment | None, list[str], set[str]]:
    """Return an experiment, or None; its faults; and the names that its file defines in any case."""
    try:
        values = read_mapping(path)
    except NfbenchError as error:
        return None, [str(error)], set()
    found, faults = find_faults(Experiment, {"name": path.stem, **values}, str(path))
    if found and found.name != path.stem:
        faults = [f"{path}: 'name' is '{found.name}', but an experiment is named like its file; remove 'name'"]
    if fault := name_fault(path.stem) or _name_of_a_rule(path):
        faults = [*faults, f"{path}: an experiment cannot have this name: {fault}; rename the file"]
    return (None if faults else found), faults, _names_in(values)


def _name_of_a_rule(path: Path) -> str:
    """Return an error if a rule of the workflow has this name: each experiment becomes a rule."""
    files = (
        [path.parents[1] / "Snakefile", *sorted((path.parents[1] / "rules").glob("*.smk"))]
        if len(path.parents) > 1
        else []
    )
    rules = {"all"}.union(*(_RULE.findall(file.read_text()) for file in files if file.is_file()))
    tracked = path.stem.removeprefix("track_")
    if path.stem in rules or (tracked != path.stem and path.with_name(f"{tracked}.yaml").is_file()):
        return f"'{path.stem}' is a rule of the workflow"
    return ""


def _names_in(values: Mapping[str, Any]) -> set[str]:
    """Return the names of datasets and variants in a file with faults."""
    parts = (values.get(key) for key in ("datasets", "variants"))
    return {str(name) for part in parts if isinstance(part, Mapping) for name in part}


def _with_random_weights(part: Any) -> Any:
    """Return a part of the configuration with random weights for all backbones of its runs."""
    if isinstance(part, BackboneConfig):
        return part.model_copy(update={"weights": "random"})
    if isinstance(part, tuple):
        return tuple(map(_with_random_weights, part))
    if isinstance(part, dict):
        return {name: _with_random_weights(value) for name, value in part.items()}
    if not isinstance(part, Model) or not getattr(part, "from_runs", True):
        return part
    return part.model_copy(update={name: _with_random_weights(getattr(part, name)) for name in type(part).model_fields})


def _with_few_shots(experiment: Experiment) -> Experiment:
    """Return the experiment with at most as many shots as a tiny copy of a dataset has normal images."""
    few = [tuple(dict.fromkeys(min(count, _FEW_SHOTS) for count in block.shots)) for block in experiment.grid]
    blocks = zip(experiment.grid, few, strict=True)
    return experiment.model_copy(update={"grid": tuple(b.model_copy(update={"shots": shots}) for b, shots in blocks)})


def _share_runs(
    path: Path,
    name: str,
    experiment: Experiment,
    others: Mapping[str, Experiment],
    unread: Iterable[str],
    faults: list[str],
) -> Experiment:
    """Return the experiment with the grid, seeds and ``keep_models`` of the one that ``runs_of`` names."""
    asked = experiment.runs_of
    if asked is None:
        return experiment
    source = others.get(asked)
    if source is None and asked not in unread:
        faults.append(f"{path}: 'runs_of' names no experiment '{asked}'{nearest(asked, others.keys() - {name})}")
    elif source is not None and not source.grid:
        advice = f"name '{source.runs_of}', whose runs it shows" if source.runs_of else "name one with a 'grid'"
        faults.append(f"{path}: 'runs_of' names '{asked}', which has no runs of its own; {advice}")
    if source is None or not source.grid:
        return experiment
    taken = {key: getattr(source, key) for key in ("grid", "seeds", "keep_models")}
    return experiment.model_copy(update={**taken, "runs_of": None})


class _Joined(dict[str, Any]):
    """Definitions of one kind by name, with the file that defines each."""

    def __init__(self, kind: str, faults: list[str]) -> None:
        super().__init__()
        self.kind, self.faults = kind, faults
        self.files: dict[str, str] = {}

    def add(self, found: Mapping[str, Any], file: str) -> None:
        """Add definitions; two definitions of one name must be equal."""
        for name, value in found.items():
            if self.setdefault(name, value) != value:
                self.faults.append(
                    f"{file}: the {self.kind} '{name}' is defined differently in {self.files[name]}; rename one of them"
                )
            self.files.setdefault(name, file)


def _join(config: Config, experiments: Mapping[str, Experiment], paths: Mapping[str, Path], faults: list[str]) -> Bench:
    """Join the definitions of all files."""
    kinds = ("dataset", "variant", "backbone", "list of categories for one model of")
    datasets, variants, backbones, unified = (_Joined(kind, faults) for kind in kinds)
    datasets.add(config.datasets, _CONFIG)
    variants.add(config.variants, _CONFIG)
    for name, experiment in experiments.items():
        file = str(paths[name])
        datasets.add(experiment.datasets, file)
        variants.add(experiment.variants, file)
        for block in experiment.grid:
            backbones.add({backbone.tag: backbone for backbone in block.backbones}, file)
            if block.setting == "unified":
                unified.add(block.datasets, file)
    for name, variant in variants.items():
        searched = variant.search.backbones if variant.search else ()
        backbones.add({backbone.tag: backbone for backbone in searched}, f"{variants.files[name]}, variant '{name}'")
    return Bench(
        config=config,
        experiments=experiments,
        datasets=datasets,
        variants=variants,
        backbones=backbones,
        unified=unified,
    )


def _faults_of_names(
    bench: Bench, own: Mapping[str, Experiment], paths: Mapping[str, Path], unread: frozenset[str]
) -> Iterable[str]:
    """Yield unknown names, and tables and figures that share a name."""
    known = Known(bench.datasets, bench.variants, unread)
    sources: list[tuple[str, Config | Experiment]] = [(_CONFIG, bench.config)]
    sources += [(str(paths[name]), experiment) for name, experiment in own.items()]
    for file, source in sources:
        for name, dataset in source.datasets.items():
            yield from _in(file, dataset_faults(f"datasets.{name}", dataset, known))
        for name, variant in source.variants.items():
            yield from _in(file, variant_faults(f"variants.{name}", variant))
    owners: dict[tuple[str, str], str] = {}
    for name, experiment in bench.experiments.items():
        file = str(paths[name])
        for number, block in enumerate(own[name].grid):
            yield from _in(file, grid_faults(f"grid.{number}", block, known))
        runs = Runs(experiment.grid, known)
        for what, named in (("tables", experiment.tables), ("figures", experiment.figures)):
            for part, config in named.items():
                if (owner := owners.setdefault((what, part), file)) != file:
                    yield f"{file}: '{what}.{part}': {owner} also has a {what[:-1]} '{part}'; rename one of them"
                if experiment.grid or not config.from_runs:
                    yield from _in(file, config.faults(f"{what}.{part}", runs))


def _in(file: str, faults: Iterable[str]) -> Iterable[str]:
    return (f"{file}: {fault}" for fault in faults)
