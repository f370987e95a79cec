"""Exported models: one file from images to maps and scores, independent of its run."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError

from nfbench.core.errors import NfbenchError, one_line
from nfbench.core.extras import require
from nfbench.core.input_size import InputSize, Sides
from nfbench.core.record import Record
from nfbench.features.forward import read_images
from nfbench.inference.archive import METADATA_FILE, read_program
from nfbench.inference.predict import Located
from nfbench.results.thresholds import ThresholdsRecord

__all__ = ["EXPORTED", "IMAGE", "ExportFormat", "ExportedModel", "Metadata", "load_exported"]

ExportFormat = Literal["torch", "onnx"]

EXPORTED = (".onnx", ".pt2")
"""File endings of ``nfbench export``."""

IMAGE = "image"
"""Name of the graph's input."""

_ENTRY = METADATA_FILE.partition(".")[0]
"""Key of nfbench's metadata in an ONNX file."""


class Metadata(Record):
    """Metadata of an exported file, as JSON in ``metadata_props['nfbench']`` or ``extra/nfbench.json``.

    Attributes:
        format: version of the metadata format.
        nfbench: version of nfbench that wrote the file.
        method: name of the method; ``title`` is its name in tables, ``variant`` its name in experiments.
        setting, dataset, category, seed: identify the run, with method and backbone.
        backbone: tag of the backbone; ``weights_sha256`` is the hash of its weights.
        side: side of the square input in pixels, or its height and width.
        mean, std: normalization of RGB values in [0, 1], which the graph applies itself.
        resize: how to resize images to the input.
        outputs: outputs of the graph, in order: ``map`` ``(B, h, w)`` if the method has maps, and ``score`` ``(B,)``.
        thresholds: scores of normal images, from which decisions are derived.
    """

    format: Literal[1] = 1
    nfbench: str
    method: str
    variant: str
    title: str
    setting: str
    dataset: str
    category: str
    seed: int
    backbone: str
    weights_sha256: str
    side: Sides
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: str
    outputs: tuple[Literal["map", "score"], ...]
    thresholds: ThresholdsRecord

    @classmethod
    def parse(cls, text: str, path: Path) -> Self:
        """Parses the metadata of a file.

        Raises:
            NfbenchError: it has another version, or was not written by nfbench.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            raise NfbenchError(
                f"{path}: its metadata are from another version of nfbench (key '{key}'); export the model again"
            ) from error


@dataclass(frozen=True)
class ExportedModel:
    """A model loaded from an exported file.

    Attributes:
        path: path of the file.
        metadata: metadata of the file.
        run: the graph, from ``image`` to the outputs by name.
    """

    path: Path
    metadata: Metadata
    run: Callable[[np.ndarray], Mapping[str, np.ndarray]]

    @property
    def size(self) -> InputSize:
        """Height and width of the input, in pixels."""
        return InputSize.of(self.metadata.side)

    @property
    def thresholds(self) -> ThresholdsRecord:
        """Scores of normal images that the model was not fitted to."""
        return self.metadata.thresholds

    def locate(self, squares: Sequence[Image.Image], nfa: bool) -> Located:
        """See ``nfbench.inference.predict.Model``.

        Raises:
            NfbenchError: a score is not finite, or NFA is requested, which needs latents.
        """
        if nfa:
            raise NfbenchError(f"{self.path} has no latents, which the rule 'nfa' needs; use the folder of the run")
        maps, scores = self.score(read_images(squares, self.size).numpy())
        return Located(scores, maps)

    def score(self, images: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """Scores images; higher is more anomalous.

        Args:
            images: ``(B, 3, *size)`` uint8, RGB, resized as in ``metadata.resize``; see ``read_images``.

        Returns:
            Maps ``(B, h, w)``, None for a method without maps, and image scores ``(B,)``, float32.

        Raises:
            ValueError: wrong shape or type.
            NfbenchError: a score is NaN or infinite.
        """
        shape = (3, *self.size)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape or not len(images):
            raise ValueError(f"'images' must be (B, {', '.join(map(str, shape))}) uint8, got {images.shape}")
        found = self.run(np.ascontiguousarray(images))
        if not all(np.isfinite(values).all() for values in found.values()):
            raise NfbenchError(f"{self.path}: scores of these images are not finite")
        return found.get("map"), found["score"]


def load_exported(path: str | Path, device: torch.device | None = None) -> ExportedModel:
    """Loads a file of ``nfbench export``; runs no code from the file.

    Args:
        path: the file, ONNX or a program of ``torch.export``.
        device: device for computation; default: the CPU. ONNX Runtime uses a GPU only if it was built for one.

    Raises:
        NfbenchError: the file is missing, damaged, not from nfbench or from another version, or a package is missing.
    """
    path, device = Path(path).expanduser(), device or torch.device("cpu")
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    try:
        return _load_program(path, device) if is_archive else _load_onnx(path, device)
    except (NfbenchError, OSError, MemoryError):
        raise
    except Exception as error:
        raise NfbenchError(
            f"{path} is damaged, or 'nfbench export' did not write it ({one_line(error, 120)}); export the model again"
        ) from error


def _load_program(path: Path, device: torch.device) -> ExportedModel:
    program, text = read_program(path)
    metadata = Metadata.parse(text, path)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    module = program.module()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            found = module(torch.from_numpy(images).to(device))
        return {name: value.cpu().numpy() for name, value in zip(metadata.outputs, found, strict=True)}

    return ExportedModel(path, metadata, run)


def _load_onnx(path: Path, device: torch.device) -> ExportedModel:
    require("export", "onnxruntime")
    runtime = importlib.import_module("onnxruntime")

    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    providers = [name for name in [*wanted, "CPUExecutionProvider"] if name in runtime.get_available_providers()]
    session = runtime.InferenceSession(str(path), options, providers=providers)
    text = session.get_modelmeta().custom_metadata_map.get(_ENTRY)
    if text is None:
        raise NfbenchError(f"{path} is an ONNX file, but 'nfbench export' did not write it")
    metadata = Metadata.parse(text, path)

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        found = session.run(list(metadata.outputs), {IMAGE: images})
        return dict(zip(metadata.outputs, found, strict=True))

    return ExportedModel(path, metadata, run)
