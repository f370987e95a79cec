"""Configuration of hyper-parameter searches: space, number of trials and objective."""

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
    """A dimension of a search: a list of values of a setting."""

    choices: Annotated[tuple[Value, ...], Typed] = Field(min_length=2, description="values to choose from")

    def __contains__(self, value: object) -> bool:
        return value in self.choices


class Range(Model):
    """A dimension of a search: all numbers between two bounds, whole numbers if both bounds are whole."""

    low: Annotated[int | float, Typed] = Field(description="smallest value")
    high: Annotated[int | float, Typed] = Field(description="largest value")
    log: bool = Field(False, description="sample uniformly on a logarithmic scale")

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise PydanticCustomError("empty_range", "'low' must be below 'high', and above 0 where 'log' is set")
        return self

    @property
    def whole(self) -> bool:
        """Whether it contains whole numbers only."""
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
    """Search for settings of a variant, with one study per category.

    Likelihoods cannot rank backbones: each is a density over that backbone's own features.
    """

    backbones: Backbones = Field(
        min_length=1, description="backbones to choose from; tables show, in each category, the run with the best one"
    )
    trials: int = Field(30, ge=1, description="number of trials of a study, including pruned and failed ones")
    seconds: float | None = Field(
        None, gt=0, description="start no further trial once the trials of a study have taken this long in total"
    )
    workers: int = Field(1, ge=1, description="number of jobs that share the trials of a study")
    objective: Literal["log_likelihood", "validation", "test"] = Field(
        "log_likelihood",
        description="what trials optimize: 'log_likelihood' of held-out normal images; or 'metric', either on a part "
        "of the test images that is then excluded from testing ('validation'), or, as in some papers, on the test set "
        "itself ('test'), which tables state",
    )
    metric: MetricName = Field("pixel_auroc", description="metric for the objectives 'validation' and 'test'")
    validation_share: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="share of the test images of each defect type that the objective 'validation' uses",
    )
    space: dict[str, AnyDimension | None] = Field(
        default_factory=dict,
        description="dimensions by setting, added to the method's own or replacing them; null removes a dimension",
    )
    pruning: bool = Field(True, description="stop a trial that is worse than the median of the others at an epoch")
    seed: int = Field(0, description="seed of the sampler")

    @model_validator(mode="after")
    def _backbones_can_be_judged(self) -> "SearchConfig":
        if len(self.backbones) > 1 and self.objective == "log_likelihood":
            raise PydanticCustomError(
                "incomparable_likelihoods",
                "likelihoods on the features of different backbones cannot be compared; name only one of 'backbones', "
                "or choose the objective 'validation' or 'test'",
            )
        return self

    @model_validator(mode="after")
    def _trials_are_judged_image_by_image(self) -> "SearchConfig":
        named = find_metric(self.metric)
        if named.transductive:
            raise PydanticCustomError(
                "transductive",
                "'metric' of a search cannot be transductive; use '{name}'",
                {"name": named.printed_as},
            )
        return self

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Whether a study maximizes or minimizes its objective."""
        return "minimize" if self.judged_by and self.judged_by.sign < 0 else "maximize"

    @property
    def judged_by(self) -> Named | None:
        """Metric that trials optimize; None for the likelihood."""
        return None if self.objective == "log_likelihood" else find_metric(self.metric)
