"""Check, without a GPU, that every step of a method stays on its device.

It uses tensors without values (``FakeTensorMode``) on a device that stands in for a GPU: an operation that mixes it
with the CPU is an error, as on a GPU. CPU builds of torch cannot differentiate on fake ``cuda`` tensors, so the
device is a Python backend with the name ``standin``. The check also counts operations and floating-point operations
of a training step, at any size, since nothing is computed.

It cannot see random generators (steps get CPU generators), nor computations that depend on values.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend
from torch.utils.flop_counter import FlopCounterMode

from nfbench.blocks.features import Features
from nfbench.blocks.method import PACKAGE, Batch, LevelShape, Method, build_to_count, resolve_settings
from nfbench.blocks.settings import MethodSettings, TrainedSettings
from nfbench.core.registry import plugin, plugin_names
from nfbench.features.building import count_on
from nfbench.training.optimizer import Adam, OwnOptimizer

__all__ = ["Counted", "Placed", "build_placed", "check", "tiny", "training_step"]

BATCH = 4
VIEWS = 4
"""Number of rotated views per image, for methods that use views."""


class Counted(NamedTuple):
    """Counts of a training step on one batch."""

    flops: float
    operations: int
    """Operations of torch; each is one or a few kernels on a GPU."""
    steps: int
    """Optimizer steps."""


class _Counter(TorchDispatchMode):
    """Counts operations that compute; views have no kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += not func.is_view
        return func(*args, **(kwargs or {}))


class _Values(TorchDispatchMode):
    """Makes up values that a step reads: half of the elements of a mask are selected, a fraction is 1."""

    boolean, integer = True, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default):
            return self.boolean if args[0].dtype is torch.bool else 1.0 if args[0].is_floating_point() else self.integer
        if func is torch.ops.aten.is_nonzero.default:
            return True
        if func is torch.ops.aten.nonzero.default:
            return _half_of(args[0])
        if func is torch.ops.aten.masked_select.default:
            return args[0].new_empty(-(-args[1].numel() // 2))
        if func is torch.ops.aten.index.Tensor and any(i is not None and i.dtype is torch.bool for i in args[1]):
            args = (args[0], [part for index in args[1] for part in _places(index)])
        return func(*args, **(kwargs or {}))


class Placed(NamedTuple):
    """A method with parameters on the stand-in device, and a function that creates batches there."""

    method: Method
    batch: Callable[[int], Batch]
    values: _Values


def _places(index: Tensor | None) -> Sequence[Tensor | None]:
    if index is None or index.dtype is not torch.bool:
        return [index]
    return _half_of(index).unbind(1)


def _half_of(mask: Tensor) -> Tensor:
    return mask.new_empty((-(-mask.numel() // 2), mask.ndim), dtype=torch.int64)


class _Generator(torch.Generator):
    """A generator that claims to be on the stand-in device, which has none."""

    @property
    def device(self) -> torch.device:
        return stand_in()


class _Backend(_DummyBackendModule):
    """Backend with the answers that CUDA gives to torch."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """See ``torch.autocast``."""
        return [torch.bfloat16, torch.float16]


@cache
def stand_in() -> torch.device:
    """Registers the device for the whole process and returns it."""
    _setup_privateuseone_for_python_backend("standin", _Backend())
    return torch.device("standin", 0)


@contextmanager
def build_placed(
    method: str,
    shapes: Sequence[LevelShape],
    settings: MethodSettings,
    map_size: tuple[int, int],
    n_classes: int = 1,
    views: int = VIEWS,
) -> Iterator[Placed]:
    """Builds a method without values on the stand-in device, with the network of its small model."""
    device, mode, backbone = stand_in(), FakeTensorMode(), plugin(PACKAGE, method).METHOD.tiny.backbone
    if backbone:
        model = count_on(backbone, method, settings, n_classes)
    else:
        model = build_to_count(method, shapes, settings, map_size, n_classes)

    def fake(where: torch.device, tensor: Tensor) -> FakeTensor:
        return FakeTensor(mode, tensor.detach().to("meta"), where)

    _place(model, partial(fake, device), partial(fake, torch.device("cpu")))
    with mode, _Values() as values:

        def batch(size: int) -> Batch:
            outer = (size, views) if model.views else (size,)
            levels = [torch.empty(*outer, *shape, device=device) for shape in shapes]
            image = torch.empty(size, 3, *map_size, device=device) if model.takes_image else None
            classes = torch.empty(size, dtype=torch.int64, device=device) if model.takes_class else None
            masks = torch.empty(size, *map_size, device=device) if model.takes_anomalies else None
            return Batch(Features(levels, image, classes), masks)

        yield Placed(model, batch, values)


def _place(module: torch.nn.Module, move: Callable[[Tensor], Tensor], keep: Callable[[Tensor], Tensor]) -> None:
    """Moves parameters and buffers like ``Module.to``; other tensors stay on the CPU."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            moved = torch.nn.Parameter(move(parameter), requires_grad=parameter.requires_grad)
            part._parameters[name] = moved
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = move(buffer)
        for name, value in vars(part).items():
            if isinstance(value, Tensor):
                setattr(part, name, keep(value))


def training_step(placed: Placed, size: int) -> Counted:
    """Runs one training batch: losses, gradients and optimizer steps.

    If the made-up values of a mask leave nothing to learn from, they are inverted.
    """
    if not isinstance(placed.method.settings, TrainedSettings):
        return Counted(0, 0, 0)
    for placed.values.boolean, placed.values.integer in ((True, 0), (False, 1)):
        counted = _count_step(placed, size)
        if counted.steps:
            return counted
    raise ValueError("no loss")


def _count_step(placed: Placed, size: int) -> Counted:
    method, settings = placed.method.train(), placed.method.settings
    assert isinstance(settings, TrainedSettings)
    own = method.own_optimizer()
    groups = method.optimizer_groups()
    optimizer = OwnOptimizer(own) if own else Adam(groups, settings.lr, settings.betas, settings.eps)
    batch, steps = placed.batch(size)._replace(progress=0.5), 0
    with FlopCounterMode(display=False) as flops, _Counter() as counter:
        for loss in method.losses(batch, _Generator()):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
        optimizer.catch_up()
    optimizer.close()
    return Counted(flops.get_total_flops(), counter.operations, steps)


class _Passes:
    """Passes that always yield the same batch, as training images of ``prepare`` and ``calibrate``."""

    def __init__(self, features: Features[Tensor]) -> None:
        self.features = features

    def __call__(self) -> list[Features[Tensor]]:
        return [self.features]

    def shuffled(self, number: int, batch_size: int) -> list[Features[Tensor]]:
        return [self.features]

    def generator(self, *names: object) -> torch.Generator:
        return _Generator()


def check(placed: Placed, size: int = BATCH) -> dict[str, str]:
    """Runs each step; returns torch's error by step, empty if all tensors stay on the stand-in device."""
    method = placed.method
    batch = placed.batch(size)
    passes = _Passes(batch.features)

    def evaluated(step: Callable[..., Any], *arguments: Any) -> Any:
        method.eval()
        with torch.inference_mode():
            return step(*arguments)

    steps: dict[str, Callable[[], Any]] = {
        "prepare": partial(method.train().prepare, passes),
        "training step": partial(training_step, placed, size),
        "calibrate": partial(evaluated, method.calibrate, passes),
        "log likelihood": partial(evaluated, method.log_likelihood, batch.features),
        "score": partial(evaluated, method.score, batch.features),
    }
    return {name: _said(step) for name, step in steps.items()}


def _said(step: Callable[[], Any]) -> str:
    try:
        step()
    except Exception as error:
        return f"{type(error).__name__}: " + str(error).strip().split("\n")[0]
    return ""


def tiny(name: str) -> tuple[Sequence[LevelShape], MethodSettings, tuple[int, int]]:
    """Returns shapes, settings and map size of a method's small model."""
    found: type[Method] = plugin(PACKAGE, name).METHOD
    overrides = dict(found.tiny.settings)
    if issubclass(found.settings_type, TrainedSettings):
        overrides["batch_size"] = BATCH
    shapes = found.tiny.shapes
    if name == "padim":  # selects channels by value; with two levels, the made-up selection takes half of all channels
        shapes = shapes[:2]
        overrides["reduced_dimensions"] = sum(shape.channels for shape in shapes)
    if name == "ocsvm":  # scikit-learn needs values
        overrides["density"] = "knn"
    return shapes, resolve_settings(name, overrides=overrides), (found.tiny.side, found.tiny.side)


def main() -> None:
    """Prints the result of each step of each method."""
    for name in plugin_names(PACKAGE):
        with build_placed(name, *tiny(name), n_classes=2) as placed:
            for step, said in check(placed).items():
                print(f"{name:<10} {step:<15} {said or 'on one device'}")


if __name__ == "__main__":
    main()
