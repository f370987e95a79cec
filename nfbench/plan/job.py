"""A job: what a stage is told, what it waits for, and the code that its result follows from."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from pathlib import Path

from nfbench.core.errors import NfbenchError
from nfbench.core.files import read_json
from nfbench.plan.code import code_hash
from nfbench.plan.paths import EVALUATED, TRAINED
from nfbench.plan.specs import SearchSpec, Spec, StudySpec

__all__ = ["Job", "code_of"]


def code_of(spec: Spec) -> str:
    """Hash of the code that a job's result follows from: its stage's, and that of the plug-ins that its spec names."""
    worker = [f"nfbench.stages.{SearchSpec.function}"] if isinstance(spec, StudySpec) else []  # names the journal
    return _code_of(f"nfbench.stages.{spec.function}", *worker, *spec.plugins)


_code_of = cache(code_hash)

_RECORDS = {
    "extract_features": lambda spec: (Path(spec.features).parent, ("meta.json",), ("spec",)),
    "create_study": lambda spec: (spec.study, ("description.json",), ("spec",)),
    "train_flow": lambda spec: (spec.run, TRAINED[::-1], ("spec",)),
    "evaluate_run": lambda spec: (spec.run, EVALUATED, ("specs", "evaluate")),
}
"""Folder and files that a stage leaves, its record first, and where the record has the spec."""


@dataclass(frozen=True)
class Job:
    """A job of the workflow.

    Attributes:
        spec: what its stage is told.
        log: file that it writes its log to.
        before: the jobs that it waits for.
    """

    spec: Spec
    log: Path
    before: tuple["Job", ...] = ()

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

    @cached_property
    def is_done(self) -> bool:
        """Whether all that it writes is there, and the record of it has the same spec, code and origin included.

        What it reads is then not needed: features of a finished run may be deleted. Of stages whose records have no
        spec it is never known.
        """
        if self.stage not in _RECORDS:
            return False
        folder, files, keys = _RECORDS[self.stage](self.spec)
        if not all(Path(folder, name).is_file() for name in files):
            return False
        try:
            found = reduce(lambda values, key: values[key], keys, read_json(Path(folder, files[0])))
            return type(self.spec).model_validate(found) == self.spec
        except (NfbenchError, KeyError, TypeError, ValueError):  # damaged, or of another version
            return False

    def chain(self) -> Iterator["Job"]:
        """All jobs that it waits for, in their order, and itself; one that several wait for comes several times."""
        for job in self.before:
            yield from job.chain()
        yield self
