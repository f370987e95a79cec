"""Output of predictions as rows and pictures."""

import csv
import json
import math
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nfbench.core.files import atomic_path, shield
from nfbench.datasets._manifest import read_checked_image, unlisted
from nfbench.inference.decisions import Decisions, Detection
from nfbench.inference.predict import Prediction

__all__ = ["COLUMNS", "Pictures", "Rows", "heatmap", "image_of", "mask", "overlay"]

COLUMNS = (
    "image", "decision", "score", "threshold", "p_value", "largest", "row", "column", "area", "regions", "boxes",
    "mask", "heatmap", "overlay", "seconds", "error",
)  # fmt: skip
"""Columns of the table of predictions, and keys of its JSON lines; see docs/predict.md."""

_RED = (255, 45, 45)
_OPACITY = 0.55


class Pictures(NamedTuple):
    """Pictures to write for each image.

    Attributes:
        folder: folder for the subfolders ``masks``, ``heatmaps`` and ``overlays``.
        masks: write masks, PNG with 0 and 255.
        heatmaps: ``png`` for colours on one scale for all images, ``tiff`` for float32 values, None for no heat maps.
        overlays: write images with heat map, contours and decision.
    """

    folder: Path
    masks: bool = False
    heatmaps: str | None = None
    overlays: bool = False

    def draw(self, prediction: Prediction, decisions: Decisions) -> dict[str, str]:
        """Writes the pictures of an image and returns their paths by kind; none for methods without maps."""
        score_map, detection = prediction.score_map, prediction.detection
        if score_map is None or detection is None:
            return {}
        made: dict[str, tuple[Path, Image.Image]] = {}
        name = prediction.given.name
        if self.masks:
            made["mask"] = self.folder / "masks" / name, mask(detection)
        if self.heatmaps == "tiff":
            made["heatmap"] = self.folder / "heatmaps" / f"{name[:-4]}.tiff", Image.fromarray(score_map)
        elif self.heatmaps:
            made["heatmap"] = self.folder / "heatmaps" / name, heatmap(score_map, decisions)
        if self.overlays:
            picture = overlay(image_of(prediction), score_map, detection, decisions)
            caption = _caption(prediction, decisions)
            made["overlay"] = self.folder / "overlays" / name, _captioned(picture, caption, prediction.anomalous)
        for path, picture in made.values():
            with atomic_path(path) as temporary:
                picture.save(temporary)
        return {kind: str(path) for kind, (path, _) in made.items()}


class Rows:
    """Writes one row per prediction immediately, so that the output never ends in a partial row.

    Args:
        file: file to write to.
        decisions: thresholds that were applied.
        jsonl: write JSON lines instead of CSV; boxes are lists, and missing values are null.
    """

    def __init__(self, file: TextIO, decisions: Decisions, jsonl: bool = False) -> None:
        self.file, self.decisions, self.jsonl = file, decisions, jsonl
        self.writer = csv.writer(file, lineterminator="\n")
        if not jsonl:
            self.writer.writerow(COLUMNS)

    def write(self, prediction: Prediction, pictures: dict[str, str]) -> None:
        """Writes the row of a prediction, with the paths of its pictures."""
        values = {**dict.fromkeys(COLUMNS), **_row(prediction, self.decisions), **pictures}
        if self.jsonl:
            self.file.write(json.dumps(values) + "\n")
        else:
            values["boxes"] = ";".join(" ".join(map(str, box)) for box in values["boxes"] or ())
            self.writer.writerow("" if value is None else shield(value) for value in values.values())
        self.file.flush()


def _row(prediction: Prediction, decisions: Decisions) -> dict[str, Any]:
    values: dict[str, Any] = {"image": prediction.given.path, "seconds": round(prediction.seconds, 4)}
    if prediction.error:
        return values | {"error": prediction.error}
    values |= {
        "decision": "anomalous" if prediction.anomalous else "normal",
        "score": prediction.score,
        "threshold": decisions.image,
        "p_value": prediction.p_value,
    }
    if prediction.score_map is None or prediction.detection is None:
        return values
    row, column = divmod(int(prediction.score_map.argmax()), prediction.score_map.shape[1])
    return values | {
        "largest": float(prediction.score_map[row, column]),
        "row": row,
        "column": column,
        "area": float(prediction.detection.mask.mean()),
        "regions": len(prediction.detection.boxes),
        "boxes": [box[:4] for box in prediction.detection.boxes],
    }


def image_of(prediction: Prediction) -> Image.Image:
    """Reads the image of a prediction again.

    Raises:
        NfbenchError: the image can no longer be read.
    """
    return read_checked_image(unlisted(Path(prediction.given.path)))


def mask(detection: Detection) -> Image.Image:
    """Draws a mask with 0 and 255."""
    return Image.fromarray(detection.mask.astype(np.uint8) * 255)


def heatmap(score_map: np.ndarray, decisions: Decisions) -> Image.Image:
    """Colours a map ``(H, W)``: the mean of normal pixels is dark, and the threshold is the middle colour."""
    return Image.fromarray(_coloured(score_map, decisions))


def overlay(image: Image.Image, score_map: np.ndarray, detection: Detection, decisions: Decisions) -> Image.Image:
    """Draws an image with its heat map where values are high, and contours of the regions."""
    from scipy import ndimage

    colours, marked = _coloured(score_map, decisions), detection.mask
    strength = _OPACITY * (colours.max(2, keepdims=True) / 255)
    shown = np.asarray(image) * (1 - strength) + colours * strength
    width = max(1, round(min(marked.shape) / 256))
    edge = marked & ~ndimage.binary_erosion(marked, iterations=width)
    shown[edge] = _RED
    return Image.fromarray(shown.astype(np.uint8))


def _coloured(score_map: np.ndarray, decisions: Decisions) -> np.ndarray:
    from matplotlib import colormaps

    low, middle = decisions.centre or 0.0, decisions.pixel or 0.0
    span = max(2 * (middle - low), 1e-12) if middle > low else 1.0
    shares = np.clip((score_map - low) / span, 0, 1)
    return (colormaps["inferno"](shares)[..., :3] * 255).astype(np.uint8)


def _caption(prediction: Prediction, decisions: Decisions) -> str:
    said = "anomalous" if prediction.anomalous else "normal"
    if decisions.image is None:
        return f"{said}: NFA < 1 in {len(prediction.detection.boxes) if prediction.detection else 0} regions"
    p = "" if prediction.p_value is None else f", p = {prediction.p_value:.2g}"
    return f"{said}: score {_short(prediction.score or 0.0)}, threshold {_short(decisions.image)}{p}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"


def _captioned(picture: Image.Image, text: str, alarm: bool | None) -> Image.Image:
    """Adds a line of text below a picture, as large as its width allows."""
    size = max(10, min(round(picture.width / 22), math.ceil(1.7 * picture.width / max(1, len(text)))))
    canvas = Image.new("RGB", (picture.width, picture.height + 2 * size), (140, 20, 20) if alarm else (25, 60, 35))
    canvas.paste(picture)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(canvas).text((size // 2, picture.height + size), text, (255, 255, 255), font, anchor="lm")
    return canvas
