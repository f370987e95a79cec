"""Settings shared by methods: those of all methods, and those of gradient training."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

__all__ = [
    "EpochSettings",
    "FittedSettings",
    "MethodSettings",
    "Milestones",
    "Schedule",
    "TrainedSettings",
    "epochs_of",
]

Schedule = Annotated[
    Literal["constant", "cosine", "warmup_cosine", "step", "warmup_step"],
    Field(
        description="learning rate: constant; cosine by step; warmup_cosine (CFLOW-AD), a cosine by meta-epoch after a "
        "warm-up; step, times 'gamma' at each of the 'milestones'; or warmup_step (MSFlow), step after a warm-up"
    ),
]

Milestones = Annotated[
    tuple[Annotated[float, Field(gt=0, lt=1)], ...],
    Field(description="shares of the training at which the schedule 'step' lowers the learning rate"),
]


class MethodSettings(BaseModel):
    """Settings of every method; each adds its own fields and its paper's defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    val_fraction: float = Field(
        0.1, ge=0, lt=1, description="share of the normal training images held out for the selection 'val'"
    )


def _splits(folds: int) -> int:
    if folds == 1:
        raise PydanticCustomError("one_fold", "one fold leaves no images to fit to; use 2 or more, or 0 for none")
    return folds


class FittedSettings(MethodSettings):
    """Settings of methods that are fitted, not trained, and are cheap enough to fit again to a part of the images."""

    folds: Annotated[int, AfterValidator(_splits)] = Field(
        5,
        ge=0,
        description="number of parts of the normal training images; each part is scored by a model fitted to the "
        "others, and thresholds come from these scores; 0 takes thresholds from the training images, as papers do; no "
        "effect if 'val_fraction' holds out images",
    )


class EpochSettings(MethodSettings):
    """Settings of methods trained by epochs, in the common training loop or in one of their own."""

    epochs: int = Field(ge=0, description="passes over the training images")
    batch_size: int = Field(ge=1, description="images per step")
    checkpoints: int = Field(
        5, ge=1, description="number of models to keep, evenly spaced; the selections choose among them"
    )


class TrainedSettings(EpochSettings):
    """Settings of training by gradient, epoch by epoch."""

    lr: float = Field(gt=0, description="learning rate of Adam")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty of Adam")
    betas: tuple[float, float] = Field((0.9, 0.999), description="decay rates of Adam's two moments")
    eps: float = Field(1e-8, gt=0, description="term added to Adam's denominator to avoid division by zero")
    schedule: Schedule = "constant"
    milestones: Milestones = ()
    gamma: float = Field(0.1, gt=0, lt=1, description="factor of the schedule 'step'")
    meta_epochs: int = Field(25, ge=1, description="meta-epochs of the schedule 'warmup_cosine'")
    gradient_clip: float | None = Field(
        None, gt=0, description="maximum gradient norm of the loss per dimension; null turns clipping off"
    )
    drop_last: bool = Field(False, description="leave out the last, incomplete batch of an epoch")
    precision: Literal["fp32", "bf16", "tf32"] = Field(
        "fp32",
        description="precision of training steps: fp32; bf16, by autocast of the forward pass; or tf32, for matrix "
        "products and convolutions on a GPU (fp32 on a CPU); everything else stays fp32",
    )
    compile: bool = Field(False, description="compile the trained modules with torch.compile")
    online_rotation: float = Field(
        0.0,
        ge=0,
        le=180,
        description="rotate training images by a random angle of up to this many degrees, and extract their features "
        "online instead of reading the cache",
    )

    def meta_epoch(self, progress: float) -> int:
        """Number of the current meta-epoch, from 0, after this share of the training."""
        return int(progress * self.meta_epochs + 1e-9)  # rounding must not move a boundary


def epochs_of(settings: MethodSettings) -> int:
    """Passes over the training images; 0 for methods without epochs."""
    return settings.epochs if isinstance(settings, EpochSettings) else 0
