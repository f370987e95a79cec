"""Latency of an image from file to map: decode, resize, backbone, method, and copy to the host."""

import logging
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from time import perf_counter

import numpy as np
import torch
from torch import nn

from nfbench.blocks.features import Features
from nfbench.blocks.method import Method
from nfbench.core.errors import NfbenchError
from nfbench.features.forward import Picture, extract_batch, read_images
from nfbench.features.recipe import Recipe
from nfbench.features.tiling import cut
from nfbench.results.latency import Latency
from nfbench.scoring.scorer import Scorer

__all__ = ["SECONDS", "count_flops", "latency_of_run", "measure_latency", "time_single"]

SECONDS = 5.0
"""Time limit for the timed images: single ones and a batch of 32. Three single images are always timed."""

_WARM_UPS, _FEWEST, _SINGLE, _BATCH = 2, 3, 20, 32
_log = logging.getLogger(__name__)


def latency_of_run(
    model: Method, recipe: Recipe, pictures: Sequence[Picture], device: torch.device, class_number: int
) -> Latency | None:
    """Measures the latency of a trained model; logs a warning and returns None if weights are unavailable."""
    try:
        return measure_latency(Scorer(model, recipe, device, class_number=class_number), pictures)
    except NfbenchError as error:
        _log.warning("latency was not measured: %s", error)
        return None


def measure_latency(scorer: Scorer, pictures: Sequence[Picture], seconds: float = SECONDS) -> Latency:
    """Times single images and a batch of 32 after a warm-up.

    Args:
        scorer: scorer with a trained model.
        pictures: images, preferably entries of files; used in turn.
        seconds: time limit; see ``SECONDS``.

    Raises:
        NfbenchError: the weights of the backbone are unavailable, or an image cannot be read.
    """
    if not pictures:
        raise NfbenchError("cannot measure the latency without an image")
    alone = scorer.at(batch_size=1)
    single = time_single(lambda picture: alone.score([picture]), pictures, seconds / 2)
    batch, fps = list(islice(cycle(pictures), _BATCH)), None
    if _BATCH * float(np.median(single)) <= seconds / 2:
        start = perf_counter()
        scorer.at(batch_size=_BATCH).score(batch)
        fps = _BATCH / (perf_counter() - start)
    parts = (scorer.extractor.model, scorer.model)
    return Latency(
        ms=1e3 * float(np.median(single)),
        p95_ms=1e3 * float(np.quantile(single, 0.95)),
        n_images=len(single),
        fps_32=fps,
        threads=torch.get_num_threads(),
        flops=count_flops(scorer, pictures[0]),
        backbone_parameters=_parameters(parts[0]),
        method_parameters=_parameters(parts[1]),
        model_mb=sum(value.nbytes for part in parts for value in part.state_dict().values()) / 1e6,
    )


def time_single(score: Callable[[Picture], object], pictures: Sequence[Picture], seconds: float) -> list[float]:
    """Times 3 to 20 single images after a warm-up, within ``seconds``; returns the seconds of each."""
    taken: list[float] = []
    for number, picture in enumerate(islice(cycle(pictures), _WARM_UPS + _SINGLE)):
        start = perf_counter()
        score(picture)
        if number >= _WARM_UPS:
            taken.append(perf_counter() - start)
        if len(taken) >= _FEWEST and sum(taken) > seconds:
            break
    return taken


@torch.inference_mode()
def count_flops(scorer: Scorer, picture: Picture) -> int:
    """Counts the floating-point operations of one image, with all of its tiles; see ``Latency.flops``."""
    from torch.utils.flop_counter import FlopCounterMode

    recipe, device = scorer.recipe, scorer.device
    angles = [recipe.angles] if recipe.backbone.rotations else None
    tiles = cut([picture], scorer.tiling([picture]))
    images = read_images(tiles[:1], recipe.backbone.input_size, angles)
    with FlopCounterMode(display=False) as counter:
        levels = extract_batch(scorer.extractor.model, images, recipe, device, 1)
        features = recipe.features([level.contiguous() for level in levels])
        if scorer.model.takes_class:
            features = Features(features.levels, features.image, torch.tensor([scorer.class_number], device=device))
        scorer.model.score(features)
    return len(tiles) * counter.get_total_flops()


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
