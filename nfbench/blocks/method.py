"""The base class of methods: settings with the paper's defaults, a loss, and a score.

A method sees features only. It reads no files, knows no dataset, and has no training loop.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from nfbench.blocks.features import Features
from nfbench.blocks.maps import GradientSettings
from nfbench.blocks.network import NEEDS_NETWORK, Network, repeatable
from nfbench.blocks.passes import Batches, OwnTraining, Passes
from nfbench.blocks.settings import EpochSettings, MethodSettings, TrainedSettings
from nfbench.config import BackboneConfig, Dimension
from nfbench.core.errors import NfbenchError, required
from nfbench.core.registry import exported, nearest

__all__ = [
    "HALF_LOG_TWO_PI",
    "Batch",
    "Batches",
    "LevelShape",
    "Method",
    "ParameterGroup",
    "Passes",
    "Scores",
    "Tiny",
    "build_method",
    "build_to_count",
    "count_parameters",
    "load_method",
    "resolve_settings",
]

PACKAGE = "nfbench.methods"

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
"""Constant term of the negative log-likelihood of a standard normal variable."""


class LevelShape(NamedTuple):
    """Shape of one level of features, without the batch axis."""

    channels: int
    height: int
    width: int


class Tiny(NamedTuple):
    """A small model that trains in a second, for tests of the contract."""

    settings: Mapping[str, Any] = {}
    """Settings in addition to those of the training."""
    shapes: Sequence[LevelShape] = (LevelShape(8, 8, 8), LevelShape(12, 4, 4), LevelShape(16, 2, 2))
    """Shapes of the input levels."""
    side: int = 32
    """Side of the maps, in pixels."""
    network: str = ""
    """Name of the trained backbone; empty if there is none."""
    levels: tuple[int, ...] = ()
    """Levels of that backbone."""

    @property
    def backbone(self) -> BackboneConfig | None:
        """Trained backbone with random weights, or None."""
        keys = {"name": self.network, "input_size": self.side, "levels": self.levels}
        return BackboneConfig(**keys, frozen=False, weights="random") if self.network else None


class Batch(NamedTuple):
    """Training images of one step, or of several steps for methods that split batches."""

    features: Features[Tensor]
    masks: Tensor | None = None
    """``(B, H, W)`` in [0, 1], above 0 where anomalous, at the input size; None if all images are normal."""
    progress: float = 0.0
    """Completed share of the training, in [0, 1)."""


class Scores(NamedTuple):
    """Scores of a batch. Higher is more anomalous."""

    maps: Tensor | None
    """Anomaly maps ``(B, H, W)`` at the method's own size; None if the method makes none, or if they are gradients with
    respect to the image, see ``Method.gradient_maps``."""
    images: Tensor
    """Image scores ``(B,)`` by the rule of the method's paper."""
    latents: Sequence[Tensor] | None = None
    """Latents ``(B, C_l, H_l, W_l)``, finest first; independent and standard normal for normal images if the model is
    right. None if a method has none. The a contrario segmentation reads them."""


class ParameterGroup(NamedTuple):
    """Parameters that one optimizer trains alike."""

    parameters: Sequence[nn.Parameter]
    lr_factor: float = 1.0
    """Factor of the learning rate of the settings."""
    weight_decay: float = 0.0
    decoupled: bool = False
    """Weight decay apart from the gradient, as in AdamW, instead of an L2 penalty."""
    used_by: nn.Module | None = None
    """Module that uses them: without a gradient, they keep moving by momentum. None keeps them still."""


class Method(nn.Module, ABC):
    """A method on features of known shapes.

    Class attributes:
        title: name as papers print it.
        settings_type: model of its settings, with the paper's defaults.
        category_settings: the paper's overrides by dataset and category.
        backbone_settings: the paper's overrides by backbone, without its weight tag.
        search_space: settings that a search varies by default.
        takes_levels: reads the levels of a backbone; False for methods that read only the image.
        takes_image: reads the normalized image, ``(B, 3, H, W)`` with ``(H, W)`` the size of the maps.
        takes_network: trains a network initialized with the backbone's weights; ``build`` makes it from ``network``.
        takes_class: reads the class of each image.
        localizes: makes anomaly maps.
        tiny: a small model for tests.
        transductive: the published score uses statistics of the whole test set, from ``calibrate``.

    Args:
        shapes: shape of each level, fine to coarse.
        settings: validated settings.
        map_size: height and width of the anomaly maps, equal to those of the backbone's input.
        generator: draws all random numbers of the construction.
        n_classes: number of classes, for methods that take the class.
        network: the backbone, if the method trains it.
    """

    title: ClassVar[str]
    settings_type: ClassVar[type[MethodSettings]]
    category_settings: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {}
    backbone_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    search_space: ClassVar[Mapping[str, Dimension]] = {}
    tiny: ClassVar[Tiny] = Tiny()
    takes_levels: ClassVar[bool] = True
    takes_image: ClassVar[bool] = False
    takes_network: ClassVar[Literal["no", "optional", "yes"]] = "no"
    takes_class: ClassVar[bool] = False
    localizes: ClassVar[bool] = True
    transductive: ClassVar[bool] = False

    def __init__(
        self,
        shapes: Sequence[LevelShape],
        settings: MethodSettings,
        map_size: tuple[int, int],
        generator: torch.Generator,
        n_classes: int = 1,
        network: Network | None = None,
    ) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        self.settings = settings
        self.map_size = map_size
        self.n_classes = n_classes
        self.given_network = network
        self.build(generator)

    @abstractmethod
    def build(self, generator: torch.Generator) -> None:
        """Build the parts for ``shapes`` and ``settings``; all random draws use ``generator``."""

    @property
    def required_network(self) -> Network:
        """The backbone, for methods that train it.

        Raises:
            NfbenchError: the backbone is frozen.
        """
        if self.given_network is None:
            raise NfbenchError(f"method '{self.title}' {NEEDS_NETWORK}")
        return self.given_network

    def make_network(self) -> nn.Module:
        """The backbone that the method trains, with the weights that training starts from."""
        return repeatable(self.required_network.build())

    @property
    def dimensions(self) -> int:
        """Number of values of one image's features, over all levels."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def loss_scale(self) -> float:
        """Divisor of the loss before it is printed, clipped and checked."""
        return 1

    @property
    def takes_anomalies(self) -> bool:
        """Return whether the method can learn from anomalous images and their masks."""
        return False

    @property
    def needs_anomalies(self) -> bool:
        """Return whether training requires anomalous images."""
        return False

    @property
    def views(self) -> int:
        """Number K of rotated views per image, ``(B, K, C_l, H_l, W_l)``; 0 for only the unrotated image."""
        return 0

    @classmethod
    def makes_maps(cls, settings: MethodSettings) -> bool:
        """Whether ``score`` or a gradient gives anomaly maps; without maps, only image metrics are computed."""
        return cls.localizes

    @property
    def gradient_maps(self) -> GradientSettings | None:
        """Settings of gradient maps, for methods whose ``score`` gives no maps."""
        return None

    def prepare(self, passes: Passes) -> None:
        """Fit the parts that are not trained by epochs; a method may run its own training loop here.

        Checkpoints are written between epochs: an interrupted ``prepare`` starts again.
        """

    def train_epochs(self, training: OwnTraining) -> None:
        """Run all epochs; called if the settings are ``EpochSettings`` but not ``TrainedSettings``."""
        raise NotImplementedError(f"{self.title} has no training loop of its own")

    def calibrate(self, passes: Batches) -> None:
        """Measure the reference of the scores on a set of images.

        Called with the training images whenever a model is kept; for the published scores of transductive methods,
        once more with the test images before they are scored.
        """

    def loss(self, features: Features[Tensor]) -> Tensor:
        """Training loss of a batch, a scalar."""
        raise NotImplementedError(f"{self.title} is not trained by gradient")

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield the losses of a batch, each followed by an optimizer step; ``generator`` draws all random numbers."""
        yield self.loss(batch.features)

    def log_likelihood(self, features: Features[Tensor]) -> Tensor | None:
        """Log-likelihood of each image in nats per dimension, ``(B,)``, which 'val' maximizes; None if undefined."""
        return None

    def localized(self, features: Features[Tensor]) -> Tensor:
        """Value of each image, ``(B,)``, whose gradient makes its map; by default the log-likelihood."""
        return required(self.log_likelihood(features), "the log-likelihood")

    def position_log_likelihoods(self, features: Features[Tensor]) -> Iterable[tuple[Tensor, Tensor]] | None:
        """Latents ``(B, C, H, W)`` and log-likelihoods of positions ``(B, H, W)``, level by level.

        Log-likelihoods are in nats per dimension. None if a method has none.
        """
        return None

    def representations(self, features: Features[Tensor]) -> Mapping[str, Sequence[Tensor]]:
        """Representation of each position after each step: ``(B, C, H, W)`` by level and name of the step.

        Used by figures. By default the features and the latents of ``position_log_likelihoods``, if there are any.
        """
        found = self.position_log_likelihoods(features)
        return {} if found is None else {"features": features.levels, "latents": [z for z, _ in found]}

    @abstractmethod
    def score(self, features: Features[Tensor]) -> Scores:
        """Anomaly maps and image scores of a batch."""

    @abstractmethod
    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Trainable parameters by part, for counting: ``flow``, ``normalization``."""

    def optimizer_groups(self) -> list[ParameterGroup]:
        """Groups of trained parameters; by default one group, with ``lr`` and ``weight_decay`` of the settings."""
        if not isinstance(self.settings, TrainedSettings):
            return []
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [ParameterGroup(trained, weight_decay=self.settings.weight_decay)]

    def own_optimizer(self) -> torch.optim.Optimizer | None:
        """Optimizer for the epochs instead of Adam over ``optimizer_groups``.

        The scheduled learning rate is that of its first group; the others keep their ratio to it.
        """
        return None

    def own_schedule(self, progress: float) -> float | None:
        """Factor of ``lr`` after the share ``progress`` of all steps; None to use the settings' ``schedule``."""
        return None

    def grown_rows(self, n_images: int) -> Mapping[str, int]:
        """Number of rows, by name, of buffers that grow with the normal training images; see ``load_method``."""
        return {}

    def latent_shapes(self) -> list[tuple[int, ...]]:
        """Shape of each latent without the batch axis; empty without latents."""
        return []


def resolve_settings(
    method: str,
    *,
    dataset: str = "",
    category: str = "",
    backbone: str = "",
    overrides: Mapping[str, Any] | None = None,
    epochs_at_most: int | None = None,
) -> MethodSettings:
    """Resolve the settings of a method in a cell: defaults, then the paper's overrides, then the variant's.

    Args:
        method: name of the method.
        dataset: name of the dataset, for the paper's per-category overrides.
        category: category of the dataset.
        backbone: name of the backbone, with or without its weight tag.
        overrides: settings of the variant.
        epochs_at_most: maximum number of epochs, for a trial.

    Raises:
        NfbenchError: unknown method, unknown setting or a value out of range; names the key.
    """
    method_type: type[Method] = exported(PACKAGE, method, "METHOD", subclass_of=Method)
    by_paper = {
        **method_type.backbone_settings.get(backbone.partition(".")[0], {}),
        **method_type.category_settings.get(dataset, {}).get(category, {}),
    }
    try:
        settings = method_type.settings_type(**{**by_paper, **(overrides or {})})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        where, known = f"setting '{key}'" if key else "settings", method_type.settings_type.model_fields
        if key in TrainedSettings.model_fields.keys() - known.keys():
            why = "the method has its own training loop" if "epochs" in known else "nothing is trained by gradient"
            raise NfbenchError(
                f"setting '{key}' of method '{method}' has no effect, because {why}; remove it"
            ) from error
        hint = nearest(key, known) if first["type"] == "extra_forbidden" else ""
        raise NfbenchError(f"{where} of method '{method}': {first['msg']}{hint}") from error
    if epochs_at_most is None or not isinstance(settings, EpochSettings):
        return settings
    return settings.model_copy(update={"epochs": min(settings.epochs, epochs_at_most)})


def build_method(
    method: str,
    shapes: Sequence[LevelShape],
    settings: MethodSettings,
    map_size: tuple[int, int],
    seed: int,
    n_classes: int = 1,
    network: Network | None = None,
) -> Method:
    """Build a method; equal arguments give equal initial weights. The global random state does not change.

    ``n_classes`` is for methods that take the class of an image, ``network`` for those that train a backbone.

    Raises:
        NfbenchError: the method reads levels, but there are none, or it does not support these levels.
    """
    method_type: type[Method] = exported(PACKAGE, method, "METHOD", subclass_of=Method)
    if method_type.takes_levels and not shapes:
        raise NfbenchError(f"method '{method_type.title}' reads levels, but its backbone has none; choose another one")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return method_type(shapes, settings, map_size, torch.Generator("cpu").manual_seed(seed), n_classes, network)


def build_to_count(
    method: str,
    shapes: Sequence[LevelShape],
    settings: MethodSettings,
    map_size: tuple[int, int],
    n_classes: int = 1,
) -> Method:
    """Build a method on levels of these shapes; parameters have shapes but no values and take no memory."""
    with torch.device("meta"):
        return build_method(method, shapes, settings, map_size, seed=0, n_classes=n_classes)


def count_parameters(method: Method) -> dict[str, int]:
    """Trainable parameters by part, and ``total``."""
    counts = {
        part: sum(p.numel() for p in group if p.requires_grad) for part, group in method.parameter_groups().items()
    }
    return {**counts, "total": sum(counts.values())}


def load_method(method: Method, state: Mapping[str, Tensor]) -> Method:
    """Load the weights of ``state``, resize buffers to match, and set evaluation mode."""
    for name, buffer in method.named_buffers():
        if name in state:
            buffer.resize_(state[name].shape)
    method.load_state_dict(dict(state))
    return method.eval()
