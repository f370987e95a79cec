"""Jobs: a spec, the jobs it depends on, and the hash of its code."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from nfbench.core.errors import NfbenchError
from nfbench.core.seals import files_in, read_sealed_values, resized
from nfbench.plan.code import code_hash
from nfbench.plan.made import GATHERED, made_files
from nfbench.plan.paths import EVALUATED, SCORED, TRAINED
from nfbench.plan.specs import SearchSpec, Spec, StudySpec

__all__ = ["Job", "code_of"]


def code_of(spec: Spec) -> str:
    """Returns the hash of the code of a job: of its stage and of the plug-ins that its spec names."""
    worker = [f"nfbench.stages.{SearchSpec.function}"] if isinstance(spec, StudySpec) else []  # names the journal
    return _code_of(f"nfbench.stages.{spec.function}", *worker, *spec.plugins)


_code_of = cache(code_hash)

S_co = TypeVar("S_co", bound=Spec, covariant=True)

_RECORDS: dict[str, Callable[[Any], tuple[Path | str, tuple[str, ...], tuple[str, ...]]]] = {
    "prepare_data": lambda spec: (Path(spec.manifest).parent, _manifest_files(spec.manifest), ("spec",)),
    "extract_features": lambda spec: (Path(spec.features).parent, ("meta.json",), ("spec",)),
    "create_study": lambda spec: (spec.study, ("description.json",), ("spec",)),
    "train_flow": lambda spec: (spec.run, TRAINED[::-1], ("spec",)),
    "score_run": lambda spec: (spec.run, (SCORED,), ("spec",)),
    "evaluate_run": lambda spec: (spec.run, EVALUATED, ("specs", "evaluate")),
    **{stage: lambda spec: (*made_files(spec), ("spec",)) for stage in GATHERED},
}
"""Folder and files that a stage writes, its record first, and the key of the spec in the record."""


def _manifest_files(manifest: str) -> tuple[str, str]:
    return Path(manifest).with_suffix(".json").name, Path(manifest).name


@dataclass(frozen=True)
class Job(Generic[S_co]):
    """A job of the workflow.

    Attributes:
        spec: input of the stage.
        log: log file.
        before: jobs that must finish first.
    """

    spec: S_co
    log: Path
    before: tuple["Job[Spec]", ...] = ()

    @property
    def stage(self) -> str:
        """Name of the stage, and of its rule and command."""
        return self.spec.stage

    @property
    def inputs(self) -> list[str]:
        """Files that the jobs in ``before`` write."""
        return self.spec.inputs

    @property
    def code(self) -> str:
        """Hash of the code that the result depends on."""
        return code_of(self.spec)

    @property
    def record(self) -> Path | None:
        """Record with the spec, which the stage writes last; None if the stage has no record."""
        if self.stage not in _RECORDS:
            return None
        folder, files, _ = _RECORDS[self.stage](self.spec)
        return Path(folder, files[0])

    @property
    def target(self) -> Path:
        """Output file to request from Snakemake; only for stages with a record."""
        folder, files, _ = _RECORDS[self.stage](self.spec)
        return Path(folder, files[self.stage in GATHERED])

    @property
    def is_settled(self) -> bool:
        """Whether the result exists and remains valid even if its inputs are deleted or rewritten."""
        return self.state == "done" and self.stage not in GATHERED

    @cached_property
    def state(self) -> Literal["missing", "done", "stale"]:
        """State of the result on disk.

        ``done``: all files exist, and the record has this spec, including code and origin. The inputs are then not
        needed: features of a finished run may be deleted. ``stale``: the record has another spec or has changed since
        it was written, or a file next to it has another size. ``missing``: the record or a file is missing, or the
        records of the stage have no spec.
        """
        if self.record is None or not self.record.is_file():
            return "missing"
        folder, files, keys = _RECORDS[self.stage](self.spec)
        try:
            values = read_sealed_values(self.record)
            found: Any = reduce(lambda values, key: values[key], keys, values)
            if type(self.spec).model_validate(found) != self.spec:
                return "stale"
        except (NfbenchError, KeyError, TypeError, ValueError):
            return "stale"
        if not all(Path(folder, name).is_file() for name in files):
            return "missing"
        return "stale" if resized(Path(folder), files_in(values)) else "done"

    def chain(self) -> Iterator["Job[Spec]"]:
        """Yields all jobs that this one depends on, in order, then itself; shared dependencies may repeat."""
        for job in self.before:
            yield from job.chain()
        yield self
