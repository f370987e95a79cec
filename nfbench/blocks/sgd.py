"""Stochastic gradient descent with momentum, for methods whose papers use it."""

from collections.abc import Iterable

import torch
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import nn

from nfbench.blocks.settings import TrainedSettings

__all__ = ["SgdSettings", "sgd"]


class SgdSettings(TrainedSettings):
    """Settings of training by stochastic gradient descent with momentum."""

    lr: float = Field(gt=0, description="learning rate")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty")
    momentum: float = Field(0.9, gt=0, lt=1, description="decay rate of the accumulated gradients")

    @model_validator(mode="after")
    def _has_no_settings_of_adam(self) -> "SgdSettings":
        for key in ("betas", "eps"):
            if getattr(self, key) != TrainedSettings.model_fields[key].default:
                text = "'{key}' is a setting of Adam and has no effect, because SGD trains this method"
                raise PydanticCustomError("of_adam", text, {"key": key})
        return self


def sgd(parameters: Iterable[nn.Parameter], settings: SgdSettings, *, nesterov: bool = False) -> torch.optim.SGD:
    """Build the optimizer of the trained parameters."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.SGD(
        trained, settings.lr, settings.momentum, weight_decay=settings.weight_decay, nesterov=nesterov
    )
