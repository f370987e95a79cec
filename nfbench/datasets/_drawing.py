"""Drawing of synthetic images: textures, parts and defects, each from a random number generator."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from nfbench.core.provenance import derive_seed

__all__ = ["DEFECTS", "draw_anomalous", "draw_normal"]

SIZE = 256
SEED = 0

Draw = Callable[[np.random.Generator], np.ndarray]


def draw_normal(category: str, split: str, number: int) -> np.ndarray:
    """Draws a normal image, ``(H, W, 3)`` uint8."""
    return _to_bytes(_DRAW[category](_generator(category, split, number)))


def draw_anomalous(category: str, defect: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws an anomalous image ``(H, W, 3)`` uint8 and its mask ``(H, W)``, 255 in defective pixels."""
    rng = _generator(category, defect, number)
    image = _DRAW[category](rng)
    weight = DEFECTS[defect](rng)
    tone = rng.uniform(0.0, 0.25, 3) if rng.random() < 0.5 else rng.uniform(0.75, 1.0, 3)
    if defect == "smear":  # keeps the local brightness, loses the texture
        blurred = ndimage.gaussian_filter(np.roll(image, rng.integers(20, 60, 2), (0, 1)), (6, 6, 0))
        changed = blurred * rng.uniform(0.8, 0.95)
    else:
        changed = np.broadcast_to(tone, image.shape)
    opacity = rng.uniform(0.5, 0.95)
    blended = image + (opacity * weight)[..., None] * (changed - image)
    return _to_bytes(blended), np.where(weight > 0.5, 255, 0).astype(np.uint8)


def _fabric(rng: np.random.Generator) -> np.ndarray:
    """Woven threads with random period, phase and colour."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    bend = 2.0 * _noise(rng, 24)
    period = 10 + rng.uniform(-0.3, 0.3)
    warp = np.sin(2 * np.pi * (x + bend) / period + rng.uniform(0, 2 * np.pi))
    weft = np.sin(2 * np.pi * (y + bend) / period + rng.uniform(0, 2 * np.pi))
    weave = 0.5 + 0.12 * np.maximum(warp, weft) + 0.05 * warp * weft + 0.03 * _noise(rng, 1)
    return weave[..., None] * np.array([0.75, 0.85, 1.0]) * rng.uniform(0.95, 1.05)


def _stone(rng: np.random.Generator) -> np.ndarray:
    """Grain on several scales, with dark and light specks."""
    grain = 0.06 * _noise(rng, 16) + 0.05 * _noise(rng, 4) + 0.04 * _noise(rng, 1)
    specks = 0.10 * (_noise(rng, 1.5) > 1.8) - 0.12 * (_noise(rng, 2) > 2.0)
    return (0.55 + grain + specks)[..., None] * np.array([1.0, 0.95, 0.88])


def _washer(rng: np.random.Generator) -> np.ndarray:
    """A metal ring with four holes on a dark background, slightly rotated and shifted."""
    centre = SIZE / 2 + rng.uniform(-5, 5, 2)
    turn = rng.uniform(-0.15, 0.15)
    y, x = np.mgrid[0:SIZE, 0:SIZE] - centre[:, None, None]
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    ring = _inside(radius, 100) * (1 - _inside(radius, 38))
    for quarter in range(4):
        hole = np.pi / 2 * quarter + turn
        ring = ring * (1 - _inside(np.hypot(x - 70 * np.cos(hole), y - 70 * np.sin(hole)), 10))
    brushed = 0.62 + 0.10 * np.cos(2 * (angle - turn)) + 0.02 * np.sin(radius * 1.1) + 0.02 * _noise(rng, 1)
    image = 0.12 + 0.01 * _noise(rng, 2) + ring * (brushed - 0.12)
    return image[..., None] * np.array([0.98, 1.0, 1.02])


def _tablet(rng: np.random.Generator) -> np.ndarray:
    """A pale tablet with a score line on a coloured background."""
    centre = SIZE / 2 + rng.uniform(-4, 4, 2)
    turn = rng.uniform(-0.1, 0.1)
    y, x = np.mgrid[0:SIZE, 0:SIZE] - centre[:, None, None]
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    distance = np.hypot(np.maximum(np.abs(along) - 30, 0), across)
    body = _inside(distance, 72)
    shade = 0.92 - 0.25 * (distance / 72) ** 4 - 0.18 * np.exp(-((along / 3) ** 2)) + 0.012 * _noise(rng, 1.5)
    ground = 0.30 + 0.03 * _noise(rng, 12) + 0.01 * _noise(rng, 1)
    image = ground[..., None] * np.array([0.6, 0.9, 1.1])
    return image + body[..., None] * (shade[..., None] * np.array([1.0, 0.97, 0.92]) - image)


def _scratch(rng: np.random.Generator) -> np.ndarray:
    """A thin, slightly bent line."""
    start = _on_object(rng)
    heading, length = rng.uniform(0, 2 * np.pi), rng.uniform(30, 110)
    steps = np.linspace(0, length, 20)
    headings = heading + np.cumsum(rng.normal(0, 0.06, 20))
    points = start + np.cumsum(np.diff(steps, prepend=0)[:, None] * np.c_[np.cos(headings), np.sin(headings)], axis=0)
    canvas = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(canvas).line([tuple(point) for point in points], fill=255, width=int(rng.integers(2, 5)))
    return ndimage.gaussian_filter(np.asarray(canvas) / 255.0, 0.7)


def _stain(rng: np.random.Generator) -> np.ndarray:
    """A blob with a ragged rim."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    column, row = _on_object(rng)
    radius = rng.uniform(6, 26)
    return _inside(np.hypot((x - column) * rng.uniform(0.7, 1.4), y - row) + 0.25 * radius * _noise(rng, 5), radius)


def _hole(rng: np.random.Generator) -> np.ndarray:
    """A small disc with a sharp rim."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    column, row = _on_object(rng)
    return _inside(np.hypot(x - column, y - row), rng.uniform(3, 9))


def _smear(rng: np.random.Generator) -> np.ndarray:
    """A band, as if wiped."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    column, row = _on_object(rng)
    turn = rng.uniform(0, np.pi)
    along = (x - column) * np.cos(turn) + (y - row) * np.sin(turn)
    across = (y - row) * np.cos(turn) - (x - column) * np.sin(turn)
    return _inside(np.hypot(along / rng.uniform(2, 4), across), rng.uniform(8, 16))


_DRAW: dict[str, Draw] = {"fabric": _fabric, "stone": _stone, "washer": _washer, "tablet": _tablet}
DEFECTS: dict[str, Draw] = {"hole": _hole, "scratch": _scratch, "smear": _smear, "stain": _stain}
"""Defect types. Each draws the weight of the change, ``(H, W)`` in [0, 1]."""


def _generator(*names: object) -> np.random.Generator:
    return np.random.default_rng(derive_seed("synthetic", SEED, *names))


def _on_object(rng: np.random.Generator) -> np.ndarray:
    """Draws a position (column, row) on a ring around the centre, which lies on the object in every category."""
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(45, 85)
    return SIZE / 2 + radius * np.array([np.cos(angle), 0.75 * np.sin(angle)])


def _noise(rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Draws Gaussian noise of variance 1, smoothed by ``sigma`` pixels."""
    field = ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE)), sigma, mode="wrap")
    return field / field.std()


def _inside(distance: np.ndarray, radius: float) -> np.ndarray:
    """Returns 1 within ``radius`` and 0 outside, with a transition of one pixel."""
    return np.clip(radius - distance + 0.5, 0, 1)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
