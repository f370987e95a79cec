"""The model of a finished run, loaded from its folder."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from nfbench.blocks.method import Method, load_method, resolve_settings
from nfbench.core.errors import NfbenchError
from nfbench.core.input_size import InputSize
from nfbench.core.seals import read_sealed, verified
from nfbench.features.batches import BATCH
from nfbench.features.building import build_on
from nfbench.features.forward import Picture
from nfbench.inference.predict import Located
from nfbench.results.record import RunRecord, read_record
from nfbench.results.scored import training_of
from nfbench.results.thresholds import THRESHOLDS, ThresholdsRecord
from nfbench.scoring.maps import ScoredImages, log_nfa_maps
from nfbench.scoring.scorer import Scorer
from nfbench.training.checkpoint import load_state

__all__ = ["TrainedModel", "run_folder", "trained_folder"]


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with the record of its run.

    Attributes:
        folder: folder of the run.
        record: record of the run.
        scorer: scores pictures; higher is more anomalous.
    """

    folder: Path
    record: RunRecord
    scorer: Scorer

    @classmethod
    def load(cls, run: str | Path, device: torch.device, batch_size: int = BATCH) -> "TrainedModel":
        """Loads the model of a run after its last epoch.

        Args:
            run: folder of the run, or its ``run.json``.
            device: device for computation.
            batch_size: number of images per batch. With the default, scores on a CPU equal those of the evaluation
                bit for bit.

        Raises:
            NfbenchError: the run is not finished, one of its files has changed, its model was not kept, or the weights
                of its backbone are unavailable.
        """
        folder = run_folder(run)
        record = read_record(folder / "run.json")
        return cls.read(record, folder, trained_folder(folder, record), device, batch_size)

    @classmethod
    def read(
        cls,
        record: RunRecord,
        folder: Path,
        source: Path,
        device: torch.device,
        batch_size: int = BATCH,
        network: Callable[[], nn.Module] | None = None,
    ) -> "TrainedModel":
        """Loads the model of a run with a known record.

        Args:
            record: record of the run.
            folder: folder with ``thresholds.json`` and ``run.json``.
            source: folder with ``model.safetensors`` and ``training.json``.
            device: device for computation.
            batch_size: as for ``load``.
            network: builds the backbone; default: from the weights in its configuration.

        Raises:
            NfbenchError: as ``load``.
        """
        training = training_of(str(source), record.cell.cell)
        state = load_state(verified(_kept(source), source / "training.json"))
        recipe, settings = record.features.recipe, resolve_settings(record.cell.variant_of, overrides=record.settings)
        name, classes = record.cell.variant_of, list(training.classes)
        method = build_on(recipe.backbone, name, settings, training.initialization, len(classes))
        number = classes.index(record.cell.category)
        model = load_method(method.to(device), state)
        scorer = Scorer(model, recipe, device, class_number=number, batch_size=batch_size, network=network)
        loaded = cls(folder, record, scorer)
        if recipe.backbone.tiles and loaded.thresholds.pixels:
            scorer.merged_size = loaded.thresholds.pixels.size
        return loaded

    @property
    def method(self) -> Method:
        """The method, on its device, in evaluation mode."""
        return self.scorer.model

    @property
    def size(self) -> InputSize | None:
        """See ``nfbench.inference.predict.Model``; None for a model that cuts images into tiles."""
        backbone = self.scorer.recipe.backbone
        return None if backbone.tiles else backbone.size

    @property
    def title(self) -> str:
        """Title of the method with its dataset and category."""
        return f"{self.record.cell.title} on {self.record.cell.dataset}/{self.record.cell.category}"

    @cached_property
    def thresholds(self) -> ThresholdsRecord:
        """Scores of normal images that the model was not fitted to.

        Raises:
            NfbenchError: the file is missing or has changed.
        """
        return read_sealed(ThresholdsRecord, verified(self.folder / THRESHOLDS, self.folder / "run.json"))

    def score(self, pictures: Sequence[Picture]) -> ScoredImages:
        """Scores pictures; see ``Scorer.score``."""
        return self.scorer.score(pictures)

    def locate(self, squares: Sequence[Image.Image], nfa: bool) -> Located:
        """See ``nfbench.inference.predict.Model``.

        Raises:
            NfbenchError: a score is not finite, or NFA is requested and the method has no white latents.
        """
        scored = self.score(squares)
        if not nfa:
            return Located(scored.images["paper"], scored.maps)
        found = log_nfa_maps(scored)
        if not found:
            without = "is scored in tiles, which have" if self.size is None else "has"
            raise NfbenchError(f"method '{self.method.title}' {without} no white latents, which the rule 'nfa' needs")
        return Located(scored.images["paper"], -found["nfa"])


def run_folder(run: str | Path) -> Path:
    """Returns the folder of a finished run, given the folder or its ``run.json``.

    Raises:
        NfbenchError: it is not a finished run.
    """
    path = Path(run).expanduser()
    folder = path.parent if path.name == "run.json" else path
    if not (folder / "run.json").is_file():
        raise NfbenchError(f"{folder} is not a finished run: it has no run.json; give a folder below results/runs")
    return folder


def trained_folder(folder: Path, record: RunRecord) -> Path:
    """Returns the folder of a run's training; it differs from the run's for a model of several classes."""
    spec = record.specs.evaluate
    return Path(os.path.normpath(folder / os.path.relpath(spec.trained, spec.run)))


def _kept(source: Path) -> Path:
    path = source / "model.safetensors"
    if not path.is_file():
        raise NfbenchError(
            f"{path} is missing: the run kept no model; set 'keep_models: last' in the experiment and run 'snakemake "
            f"--cores all {path}' to train it again"
        )
    return path
