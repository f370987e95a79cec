"""A job: what a stage is told, what it waits for, and the code that its result follows from."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nfbench.plan.code import code_hash
from nfbench.plan.specs import Spec

__all__ = ["Job", "code_of"]


def code_of(spec: Spec) -> str:
    """Hash of the code that a job's result follows from: its stage's, and that of the plug-ins that its spec names."""
    return _code_of(f"nfbench.stages.{spec.function}", *spec.plugins)


_code_of = cache(code_hash)


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

    def chain(self) -> Iterator["Job"]:
        """All jobs that it waits for, in their order, and itself; one that several wait for comes several times."""
        for job in self.before:
            yield from job.chain()
        yield self
