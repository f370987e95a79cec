"""Models of anomalib 2.7 (Akcay et al., ICIP 2022, arXiv 2202.08341), trained and scored by this benchmark's protocol.

The setting ``model`` chooses the class; ``nfbench/blocks/anomalib/models.py`` has one row of facts per class, and
``docs/peers.md`` prints them. Lightning's trainer uses the losses, optimizers and schedules of the class. Scores come
from its torch model in evaluation mode, without anomalib's post-processing.

Deliberate deviations: images are the same as for all methods: squares resized by Pillow, rounded to fp16 by the cache,
    in the range that the class expects. The network has the weights of the variant's backbone.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from nfbench.backbones._base import IMAGENET_MEAN, IMAGENET_STD, find_backbone
from nfbench.blocks.anomalib.building import Files, build_module, load_weights
from nfbench.blocks.anomalib.fitting import Loader, fit
from nfbench.blocks.anomalib.models import MODELS, PeerModel
from nfbench.blocks.features import Features
from nfbench.blocks.method import Batches, Method, ParameterGroup, Scores, Tiny
from nfbench.blocks.passes import OwnTraining
from nfbench.blocks.settings import EpochSettings, MethodSettings
from nfbench.config import Range
from nfbench.core.errors import NfbenchError, required

__all__ = ["METHOD", "Anomalib", "AnomalibSettings"]

MEMORY = {"parameters": 0, "network": 1e8, "pixels": 6000}
"""See ``nfbench.plan.memory``; values are for the largest models."""

_RANGES = {
    "unit": ((0.0,) * 3, (1.0,) * 3),
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "half": ((0.5,) * 3, (0.5,) * 3),
}
"""Mean and standard deviation of each range of ``PeerModel.input``."""


class AnomalibSettings(EpochSettings):
    """Choice of the model and its options; epochs and batch size default to those of its paper."""

    model: Literal[
        "padim",
        "patchcore",
        "stfpm",
        "reverse_distillation",
        "cfa",
        "draem",
        "supersimplenet",
        "glass",
        "ganomaly",
        "anomaly_dino",
        "dinomaly",
        "inp_former",
        "efficient_ad",
        "uninet",
        "patchflow",
        "l2bt",
        "general_ad",
        "dfm",
        "fastflow",
        "cflow",
        "uflow",
    ] = Field("reverse_distillation", description="model of anomalib; peers.md lists them")
    epochs: int = Field(ge=1, description="passes over the training images, by default those of the paper")
    batch_size: int = Field(ge=1, description="images per step, by default those of the paper")
    val_fraction: float = Field(0.0, ge=0, lt=1, description="share of the normal training images held out")
    options: dict[str, Any] = Field({}, description="arguments of the model's class in anomalib, such as {svd: 1}")
    textures: str | None = Field(
        None,
        description="folder of textures for the anomalies of draem and glass; or 'noise', the noise of their masks",
    )

    teacher: str | None = Field(None, description="file with efficient_ad's pretrained teacher")
    outside: str | None = Field(
        None,
        description="folder of image folders that efficient_ad's student must not respond to, such as Imagenette",
    )

    @model_validator(mode="before")
    @classmethod
    def _follow_the_paper(cls, values: dict[str, Any]) -> dict[str, Any]:
        row = MODELS.get(values.get("model", cls.model_fields["model"].default))
        if row is None:
            return values
        held_out = {"val_fraction": 0.1} if row.name == "EfficientAd" else {}
        return {"epochs": row.epochs, "batch_size": row.batch, **held_out, **values}

    @model_validator(mode="after")
    def _suit_the_model(self) -> "AnomalibSettings":
        row = MODELS[self.model]
        if row.fitted and self.epochs != 1:
            raise PydanticCustomError(
                "one_pass", "'epochs' of model '{name}' must be 1: it is fitted in one pass", {"name": self.model}
            )
        if self.batch_size != 1 and row.batch == 1:
            text = "'batch_size' of model '{name}' must be 1, as in its paper"
            raise PydanticCustomError("one_image", text, {"name": self.model})
        for key in Files._fields:
            if (key in row.needs) != (getattr(self, key) is not None):
                text = (
                    "model '{name}' needs '{key}', see peers.md"
                    if key in row.needs
                    else "model '{name}' takes no '{key}'"
                )
                raise PydanticCustomError("files", text, {"name": self.model, "key": key})
        return self


class Anomalib(Method):
    """A model of anomalib, with the weights of the variant's backbone."""

    title = "anomalib"
    settings_type = AnomalibSettings
    settings: AnomalibSettings
    takes_levels = False
    takes_image = True
    takes_network = "optional"
    search_space = {"batch_size": Range(low=1, high=64, log=True)}
    tiny = Tiny(
        {"model": "stfpm", "epochs": 12, "batch_size": 10, "checkpoints": 2},
        shapes=(),
        side=64,
        network="resnet18.tv_in1k",
        levels=(1, 2, 3),
    )
    mean: Tensor
    std: Tensor
    to_mean: Tensor
    to_std: Tensor

    @classmethod
    def makes_maps(cls, settings: MethodSettings) -> bool:
        """Return whether the model makes maps."""
        return isinstance(settings, AnomalibSettings) and MODELS[settings.model].maps

    @property
    def row(self) -> PeerModel:
        """Return the facts about the model."""
        return MODELS[self.settings.model]

    def build(self, generator: torch.Generator) -> None:
        """Build the Lightning module and load the backbone's weights into its network."""
        row, side, given = self.row, self.map_size[0], self.given_network
        self._check(side)
        self._held_out: Callable[[], Iterable[Features[Tensor]]] | None = None
        name = given.name if given else ""
        settings = self.settings
        files = Files(*(getattr(settings, key) for key in Files._fields))
        self.module = build_module(row, side, name, settings.epochs, settings.options, files)
        if given:
            load_weights(self.module, row, side, self.make_network().state_dict(), name)
        trained = {id(parameter) for group in self.parameter_groups().values() for parameter in group}
        for parameter in self.module.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        self._resting = [name for name, part in self.module.named_modules() if not part.training]
        described = find_backbone(name or "image")
        (mean, std), (to_mean, to_std) = (described.mean, described.std), _RANGES[row.input]
        for key, values in (("mean", mean), ("std", std), ("to_mean", to_mean), ("to_std", to_std)):
            self.register_buffer(key, torch.tensor(values).view(3, 1, 1), persistent=False)

    def _check(self, side: int) -> None:
        row, given, name = self.row, self.given_network, self.settings.model
        if bool(row.network) != bool(given):
            other = (
                f"a backbone such as '{row.backbone}' with 'frozen: false'" if row.network else "the backbone 'image'"
            )
            raise NfbenchError(f"model '{name}' of method 'anomalib' needs {other}")
        if given and row.fixed and given.name.partition(".")[0] != row.backbone.partition(".")[0]:
            raise NfbenchError(f"model '{name}' of method 'anomalib' only supports the backbone '{row.backbone}'")
        if len(set(self.map_size)) > 1:
            raise NfbenchError(
                f"method 'anomalib' takes square images alone, as several of its models do; set 'input_size' of the "
                f"backbone to one number, {row.size} in the paper of '{name}'"
            )
        if side % row.multiple or side < row.smallest:
            raise NfbenchError(
                f"model '{name}' of method 'anomalib' needs images of at least {row.smallest} pixels"
                + (f", in multiples of {row.multiple}" if row.multiple > 1 else "")
                + f", got {side}; set 'input_size' of the backbone, {row.size} in its paper"
            )

    def images(self, features: Features[Tensor]) -> Tensor:
        """Return the images in the model's input range, ``(B, 3, S, S)``."""
        pixels = (features.required_image * self.std + self.mean).clamp(0, 1)
        return (pixels - self.to_mean) / self.to_std

    def train(self, mode: bool = True) -> "Anomalib":
        """Set the mode; in training, each part keeps the mode that its constructor set."""
        super().train(mode)
        for name in self._resting:
            self.module.get_submodule(name).training = False
        return self

    def train_epochs(self, training: OwnTraining) -> None:
        """Train with Lightning's trainer."""
        self._held_out = training.held_out
        epochs, batch, device = self.settings.epochs, self.settings.batch_size, self.mean.device
        try:
            fit(self.module, training, self.images, epochs, batch, device, self.row.resumes and not self.row.fitted)
        finally:
            self._held_out = None

    def calibrate(self, passes: Batches) -> None:
        """Scale EfficientAD's two maps with held-out images, as anomalib's validation does.

        Buffers get the memory layout of loaded files, because it affects the last bits of products.
        """
        if self.settings.model == "efficient_ad":
            batches = list(self._held_out()) if self._held_out else []
            found = self.module.map_norm_quantiles(Loader(lambda: batches or passes(), self.images))
            self.module.model.quantiles.update(found)
            self.module.model.quantiles.requires_grad_(False)
        for buffer in self.buffers():
            buffer.data = buffer.data.contiguous()

    def score(self, features: Features[Tensor]) -> Scores:
        """Return the model's maps and its own image scores."""
        found = self.module.model(self.images(features))
        maps = None
        if self.row.maps:
            maps = required(found.anomaly_map, f"the map of {self.row.name}")
            maps = maps.reshape(-1, *maps.shape[-2:])
        return Scores(maps, found.pred_score.reshape(-1))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return the parameters in the model's own optimizers, by part."""
        return {part: list(self.module.get_submodule(path).parameters()) for part, path in self.row.trained.items()}

    def optimizer_groups(self) -> list[ParameterGroup]:
        """Return the same parameters, for counting only: the model's own optimizers train them."""
        return [ParameterGroup(list(group)) for group in self.parameter_groups().values()]


METHOD = Anomalib
