"""Speed and memory of every method on one GPU at the sizes of the papers' experiments, in ten minutes.

Measures a few training steps and scores of all methods in fp32, of some also in bf16 and compiled; FastFlow, U-Flow and
CFLOW-AD next to anomalib in the same run; images per second through each backbone; and GPU memory. Features, images and
weights are random. Measurements that do not fit into the time limit are listed at the end.
"""

import argparse
import gc
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.placement import tiny
from benchmarks.rehearsal import pairs_of, plan_of
from nfbench.blocks.features import Features
from nfbench.blocks.method import PACKAGE, Batch, LevelShape, Method, build_method
from nfbench.blocks.settings import MethodSettings, TrainedSettings
from nfbench.config import BackboneConfig
from nfbench.core.device import pick_device
from nfbench.core.registry import plugin, plugin_names
from nfbench.features.building import build_on
from nfbench.features.extractor import Extractor
from nfbench.features.forward import extract_batch, load_recipe
from nfbench.training.optimizer import Adam, OwnOptimizer

PEERS = {"fastflow": "PeerFastFlow", "uflow": "PeerUFlow", "cflow": "PeerCFlow"}
VIEWS = 4
SCORED = 8
"""Number of images in a batch for scoring."""


class Size(NamedTuple):
    """A method with features of one size."""

    method: str
    backbone: str
    shapes: Sequence[LevelShape]
    settings: MethodSettings
    map_size: tuple[int, int]
    views: int = VIEWS
    network: BackboneConfig | None = None
    """The backbone, with random weights, if the method trains it."""

    @property
    def batch(self) -> int:
        """Number of images in a training step, or in a batch for scoring if nothing is trained."""
        return self.settings.batch_size if isinstance(self.settings, TrainedSettings) else SCORED


class Work(NamedTuple):
    """A measurement: its name, and a function that returns the cells of the table."""

    name: str
    measure: Callable[[], Sequence[str]]


class Measured:
    """Measures the median seconds of steps after a warm-up step, and the peak memory of the GPU.

    Args:
        device: device for computation.
        rounds: number of timed steps.
    """

    def __init__(self, device: torch.device, rounds: int) -> None:
        self.device, self.rounds = device, rounds

    def __call__(self, *steps: Callable[[], object]) -> tuple[list[float], str]:
        """Measures several functions alternately, so that they see the same load of the machine."""
        self._wait()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times: list[list[float]] = [[] for _ in steps]
        for number in range(self.rounds + 1):
            for step, found in zip(steps, times, strict=True):
                started = time.perf_counter()
                step()
                self._wait()
                if number:
                    found.append(time.perf_counter() - started)
        used = f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if self.device.type == "cuda" else ""
        return [statistics.median(found) for found in times], used

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def sizes(quick: bool) -> list[Size]:
    """Lists each method with each backbone of the papers' experiments; with ``quick``, its small model."""
    if quick:
        found = [(name, *tiny(name)) for name in plugin_names(PACKAGE)]
        return [
            Size(name, "tiny", shapes, settings, size, network=plugin(PACKAGE, name).METHOD.tiny.backbone)
            for name, shapes, settings, size in found
        ]
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_of(Path(folder), 1, 1)
        pairs = pairs_of(plan, None, None, each=False)
    found = []
    for pair in pairs:
        method, backbone = plan.bench.variant(pair.cell.method).method, plan.bench.backbones[pair.cell.backbone]
        shapes = [LevelShape(*shape) for shape in backbone.level_shapes.values()]
        views = max(1, backbone.rotations)
        network = None if backbone.frozen else backbone
        found.append(Size(method, backbone.tag, shapes, pair.settings, tuple(backbone.size), views, network))
    first = {size.method: size for size in reversed(found)}  # each method once, before the rest
    return [*first.values(), *(size for size in found if size not in first.values())]


def model_of(size: Size, device: torch.device) -> Method:
    """Builds the method on a device."""
    if size.network:
        return build_on(size.network, size.method, size.settings, 0).to(device)
    return build_method(size.method, size.shapes, size.settings, size.map_size, 0).to(device)


def batch_of(model: Method, size: Size, images: int, device: torch.device) -> Batch:
    """Generates a random batch."""
    outer = (images, size.views) if model.views else (images,)
    levels = [torch.randn(*outer, *shape, device=device) for shape in size.shapes]
    image = torch.randn(images, 3, *size.map_size, device=device) if model.takes_image else None
    classes = torch.zeros(images, dtype=torch.int64, device=device) if model.takes_class else None
    masks = None
    if model.takes_anomalies:
        masks = torch.zeros(images, *size.map_size, device=device)
        masks[::2, : size.map_size[0] // 4, : size.map_size[1] // 4] = 1
    return Batch(Features(levels, image, classes), masks)


def stepper(model: Method, batch: Batch, bf16: bool = False) -> Callable[[], None]:
    """Returns a function that runs one optimizer step; methods that split a batch run one of its steps."""
    settings, own, device = model.settings, model.own_optimizer(), next(iter(batch.features.parts())).device
    assert isinstance(settings, TrainedSettings)
    groups = model.optimizer_groups()
    optimizer = OwnOptimizer(own) if own else Adam(groups, settings.lr, settings.betas, settings.eps)

    def endless() -> Iterator[torch.Tensor]:
        for number in itertools.count():
            yield from model.losses(batch, torch.Generator(device).manual_seed(number))

    losses = endless()

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = next(losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def train(size: Size, measured: Measured, kind: str) -> Sequence[str]:
    """Measures a training step: ``fp32``, ``bf16``, or ``bf16 compiled``."""
    from nfbench.training.loop import _compile

    model = model_of(size, measured.device).train()
    if kind.endswith("compiled"):
        _compile(model)
    step = stepper(model, batch_of(model, size, size.batch, measured.device), kind.startswith("bf16"))
    (seconds,), used = measured(step)
    return f"{1000 * seconds:.1f} ms", used, ""


def score(size: Size, measured: Measured) -> Sequence[str]:
    """Measures scoring a batch with an untrained model; methods that are fitted are fitted to the batch."""
    model = model_of(size, measured.device).train()
    features = batch_of(model, size, SCORED, measured.device).features
    model.prepare(_Passes(features, measured.device))
    model.eval()
    with torch.inference_mode():
        model.calibrate(_Passes(features, measured.device))
        (seconds,), used = measured(lambda: model.score(features))
    return f"{1000 * seconds:.1f} ms", used, f"{SCORED / seconds:.0f} images/s"


class _Passes:
    """Passes over images that always yield the same batch."""

    def __init__(self, features: Features[torch.Tensor], device: torch.device) -> None:
        self.features, self.device = features, device

    def __call__(self) -> list[Features[torch.Tensor]]:
        return [self.features]

    def shuffled(self, number: int, batch_size: int) -> list[Features[torch.Tensor]]:
        return [self.features]

    def generator(self, *names: object) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(0)


def against_anomalib(size: Size, measured: Measured) -> Sequence[str]:
    """Measures a training step alternately with anomalib's; for CFLOW-AD, a step of the finest level."""
    from benchmarks import cflow_training, peers

    device, shapes = measured.device, size.shapes[:1] if size.method == "cflow" else size.shapes
    if size.method == "cflow":
        peer = cflow_training.PeerCFlow(shapes[0], "soft").to(device)
    elif size.method == "uflow":
        peer = peers.PeerUFlow(shapes, size.map_size[0]).to(device)
    else:
        peer = peers.PeerFastFlow(shapes).to(device)
    ours = build_method(size.method, shapes, size.settings, size.map_size, 0).to(device).train()
    batch = batch_of(ours, size._replace(shapes=shapes), size.batch, device)
    optimizer = torch.optim.Adam(peer.parameters(), 1e-4)
    losses = _endless(peer, batch) if size.method == "cflow" else None

    def step() -> None:
        loss = next(losses) if losses else peer.loss(batch.features)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    (own, other), used = measured(stepper(ours, batch), step)
    return f"{1000 * own:.1f} ms", used, f"anomalib {1000 * other:.1f} ms, {other / own:.2f} x its speed"


def _endless(peer: torch.nn.Module, batch: Batch) -> Iterator[torch.Tensor]:
    while True:
        yield from peer.losses(batch, None)


def extract(backbone: BackboneConfig, measured: Measured) -> Sequence[str]:
    """Measures the forward pass of decoded images through a backbone with random weights."""
    recipe, model = load_recipe(backbone.model_copy(update={"weights": "random"}))
    extractor = Extractor(recipe, measured.device, model)
    images = max(1, extractor.at_once // max(1, backbone.rotations))
    views = (backbone.rotations,) if backbone.rotations else ()
    drawn = torch.randint(256, (images, *views, 3, *backbone.size), dtype=torch.uint8)
    with torch.inference_mode():
        run = partial(extract_batch, extractor.model, drawn, recipe, measured.device, extractor.at_once)
        (seconds,), used = measured(run)
    return f"{1000 * seconds:.1f} ms", used, f"{images / seconds:.1f} images/s in batches of {images}"


def works(measured: Measured, quick: bool) -> list[Work]:
    """Lists all measurements, the most important first."""
    found = sizes(quick)
    once = list({size.method: size for size in reversed(found)}.values())[::-1]
    trained = [size for size in found if isinstance(size.settings, TrainedSettings)]
    peers = [size for size in once if size.method in PEERS]
    names = sorted({size.backbone for size in found})
    backbones = [BackboneConfig(name="resnet18.tv_in1k", input_size=64)] if quick else _backbones(names)

    def line(size: Size, what: str) -> str:
        return f"{size.method} | {size.backbone.removesuffix('-random')} | {size.batch} | {what}"

    listed = [
        Work(line(size, "step, fp32"), partial(train, size, measured, "fp32")) for size in trained if size in once
    ]
    listed += [Work(line(size, "step next to anomalib"), partial(against_anomalib, size, measured)) for size in peers]
    listed += [
        Work(line(size._replace(settings=size.settings), "score"), partial(score, size, measured)) for size in once
    ]
    listed += [Work(line(size, "step, bf16"), partial(train, size, measured, "bf16")) for size in peers]
    listed += [
        Work(
            f"extraction | {one.tag.removesuffix('-random')} | what fits | forward pass",
            partial(extract, one, measured),
        )
        for one in backbones
    ]
    kind = "bf16 compiled"
    listed += [Work(line(size, f"step, {kind}"), partial(train, size, measured, kind)) for size in peers if not quick]
    rest = [size for size in trained if size not in once]
    return listed + [Work(line(size, "step, fp32"), partial(train, size, measured, "fp32")) for size in rest]


def _backbones(tags: Sequence[str]) -> list[BackboneConfig]:
    with tempfile.TemporaryDirectory() as folder:
        known = plan_of(Path(folder), 1, 1).bench.backbones
    return [known[tag] for tag in tags]


def run(listed: Sequence[Work], deadline: float) -> list[str]:
    """Measures and prints one table; returns the measurements after the deadline."""
    print("| method | backbone | batch | what | median | GPU memory | |\n|" + " --- |" * 7, flush=True)
    for number, work in enumerate(listed):
        if time.monotonic() > deadline:
            return [left.name for left in listed[number:]]
        try:
            cells = work.measure()
        except torch.OutOfMemoryError:
            cells = ("out of memory", "", "")
        except ImportError as error:
            cells = (f"{error.name} is not installed", "", "")
        except Exception as error:  # the other measurements go on
            cells = ("failed", "", f"{type(error).__name__}: {str(error).splitlines()[0][:100]}")
        print(f"| {work.name} | {' | '.join(cells)} |", flush=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return []


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures on a GPU; ``--device cpu --quick`` checks that everything runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="small models, two rounds")
    parser.add_argument("--seconds", type=float, default=480, help="start no measurement after this many seconds")
    given = parser.parse_args(arguments)
    started = time.monotonic()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU here; nothing was measured")
        return
    device = pick_device(given.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    rounds = 2 if given.quick else 10
    print(f"{name}, torch {torch.__version__}, median of {rounds} steps after one\n")
    left = run(works(Measured(device, rounds), given.quick), started + given.seconds)
    print(f"\nended after {time.monotonic() - started:.0f} s")
    if left:
        print("\n".join(["not reached:", *left]))


if __name__ == "__main__":
    main()
