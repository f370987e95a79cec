"""Searches of hyper-parameters: what is varied, in how many trials, and what a trial is judged by."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from nfbench.config.backbone import Backbones
from nfbench.config.metrics import MetricName
from nfbench.config.reading import Typed
from nfbench.config.validation import Model
from nfbench.metrics import Named, find_metric

__all__ = ["Choices", "Dimension", "Range", "SearchConfig"]

Value = bool | int | float | str


class Choices(Model):
    """A dimension of a search: some values of a setting."""

    choices: Annotated[tuple[Value, ...], Typed] = Field(min_length=2, description="values to choose from")

    def __contains__(self, value: object) -> bool:
        return value in self.choices


class Range(Model):
    """A dimension of a search: all numbers between two, whole ones where both are."""

    low: Annotated[int | float, Typed] = Field(description="smallest value")
    high: Annotated[int | float, Typed] = Field(description="largest value")
    log: bool = Field(False, description="draw the logarithm evenly")

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise PydanticCustomError("empty_range", "'low' must be below 'high', and above 0 where 'log' is set")
        return self

    @property
    def whole(self) -> bool:
        """Whether it has whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int if self.whole else int | float) and self.low <= value <= self.high


def _dimension(value: Any) -> str:
    return (
        "<choices>" if isinstance(value, Choices) or (isinstance(value, Mapping) and "choices" in value) else "<range>"
    )


Dimension = Choices | Range
AnyDimension = Annotated[
    Annotated[Choices, Tag("<choices>")] | Annotated[Range, Tag("<range>")], Discriminator(_dimension)
]


class SearchConfig(Model):
    """Settings of a variant that are found by a search: one study for each category.

    A likelihood says nothing of a backbone, since it is one of that backbone's features.
    """

    backbones: Backbones = Field(
        min_length=1, description="backbones to choose from; a table shows, in each category, the run on the best one"
    )
    trials: int = Field(30, ge=1, description="trials of a study, also those that were pruned or failed")
    seconds: float | None = Field(
        None, gt=0, description="start no further trial once those of a study have taken so long together"
    )
    workers: int = Field(1, ge=1, description="jobs that share a study's trials")
    objective: Literal["log_likelihood", "validation", "test"] = Field(
        "log_likelihood",
        description="what a trial is judged by: the likelihood of held-out normal images; or 'metric', on test images "
        "that are then left out of the test set, or, as papers did, on the test set itself, which tables say",
    )
    metric: MetricName = Field("pixel_auroc", description="metric of the objectives validation and test")
    validation_share: float = Field(
        0.3, gt=0, lt=1, description="share of the test images, of each kind of defect, for the objective validation"
    )
    space: dict[str, AnyDimension | None] = Field(
        default_factory=dict,
        description="dimensions by setting, besides or instead of the method's own; null takes one out",
    )
    pruning: bool = Field(True, description="end trials that are worse than half of the others were at the same epoch")
    seed: int = Field(0, description="of the sampler")

    @model_validator(mode="after")
    def _backbones_can_be_judged(self) -> "SearchConfig":
        if len(self.backbones) > 1 and self.objective == "log_likelihood":
            raise PydanticCustomError(
                "incomparable_likelihoods",
                "likelihoods of features of several backbones cannot be compared; name one of 'backbones', or choose "
                "the objective 'validation' or 'test'",
            )
        return self

    @model_validator(mode="after")
    def _trials_are_judged_image_by_image(self) -> "SearchConfig":
        named = find_metric(self.metric)
        if named.transductive:
            raise PydanticCustomError(
                "transductive",
                "'metric' of a search takes no transductive scores; take '{name}'",
                {"name": named.printed_as},
            )
        return self

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """What a study does with the values of its trials."""
        return "minimize" if self.judged_by and self.judged_by.sign < 0 else "maximize"

    @property
    def judged_by(self) -> Named | None:
        """The metric that trials are judged by; None where a likelihood does."""
        return None if self.objective == "log_likelihood" else find_metric(self.metric)
