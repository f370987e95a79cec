"""A job: what a stage is told, what it waits for, and the code that its result follows from."""

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
    """Hash of the code that a job's result follows from: its stage's, and that of the plug-ins that its spec names."""
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
"""Folder and files that a stage leaves, its record first, and where the record has the spec."""


def _manifest_files(manifest: str) -> tuple[str, str]:
    return Path(manifest).with_suffix(".json").name, Path(manifest).name


@dataclass(frozen=True)
class Job(Generic[S_co]):
    """A job of the workflow.

    Attributes:
        spec: what its stage is told.
        log: file that it writes its log to.
        before: the jobs that it waits for.
    """

    spec: S_co
    log: Path
    before: tuple["Job[Spec]", ...] = ()

    @property
    def stage(self) -> str:
        """Name of the stage, which is that of the rule and of the command."""
        return self.spec.stage

    @property
    def inputs(self) -> list[str]:
        """Files that the jobs before it write."""
        return self.spec.inputs

    @property
    def code(self) -> str:
        """Hash of the code that its result follows from."""
        return code_of(self.spec)

    @property
    def record(self) -> Path | None:
        """File that the stage writes last and that has its spec; None of stages without such."""
        if self.stage not in _RECORDS:
            return None
        folder, files, _ = _RECORDS[self.stage](self.spec)
        return Path(folder, files[0])

    @property
    def target(self) -> Path:
        """An output of the rule, of a stage with a record."""
        folder, files, _ = _RECORDS[self.stage](self.spec)
        return Path(folder, files[self.stage in GATHERED])

    @property
    def is_settled(self) -> bool:
        """Whether its result is there and stays, even if what it was made from is deleted or made again."""
        return self.state == "done" and self.stage not in GATHERED

    @cached_property
    def state(self) -> Literal["missing", "done", "stale"]:
        """What is there of the result.

        ``done``: all files, and a record with this spec, code and origin included. What the job reads is then not
        needed: features of a finished run may be deleted. ``stale``: the record of another spec, one that has changed
        since it was written, or next to it a file of another size. ``missing``: no record, a file less, or a stage
        whose records have no spec.
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
        """All jobs that it waits for, in their order, and itself; one that several wait for comes several times."""
        for job in self.before:
            yield from job.chain()
        yield self
