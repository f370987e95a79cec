"""Construction of anomalib's models without downloads; weights come from the variant's backbone."""

import inspect
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from nfbench.backbones._base import find_backbone
from nfbench.backbones._extractors import import_timm
from nfbench.blocks.anomalib.models import PeerModel
from nfbench.core.errors import NfbenchError, one_line
from nfbench.core.extras import require
from nfbench.core.quiet import quieted
from nfbench.datasets._listing import images_below
from nfbench.datasets._manifest import read_checked_image, unlisted

__all__ = ["NOISE", "Files", "build_module", "import_anomalib", "load_weights", "options_of", "quiet"]

NOISE = "noise"
"""Setting that replaces a folder of textures by the noise that also makes the masks."""

_OLDEST = (2, 7)
_PARTS = ("pre_processor", "post_processor", "evaluator", "visualizer")
_FETCHED = ("pre_trained", "dtd_dir", "anomaly_source_path", "imagenet_dir", "batch_size")
_LOUD = ("lightning", "lightning.pytorch", "lightning.fabric", "anomalib", "timm", "torch")


def import_anomalib() -> Any:
    """Import anomalib.

    Raises:
        NfbenchError: anomalib is not installed or is older than 2.7.
    """
    import_timm()
    require("peers")
    found = version("anomalib")
    if tuple(int(part) for part in found.split(".")[:2]) < _OLDEST:
        raise NfbenchError(f"method 'anomalib' needs anomalib 2.7 or later, not {found}: pip install 'nfbench[peers]'")
    with torch.device("cpu"), quiet():  # the import creates tensors
        import anomalib.models.image as models
    return models


def options_of(row: PeerModel) -> dict[str, Any]:
    """Arguments of the class that a variant can set with 'options', by name, with their defaults."""
    given = {"self", *_PARTS, *_FETCHED, row.sized_by, row.epochs_by, *(row.named_by if row.network else ())}
    signature = inspect.signature(getattr(import_anomalib(), row.name).__init__)
    return {name: found.default for name, found in signature.parameters.items() if name not in given}


class Files(NamedTuple):
    """Paths of a class's inputs other than images; None if it reads only images."""

    textures: str | None = None
    teacher: str | None = None
    outside: str | None = None


def build_module(row: PeerModel, side: int, network: str, epochs: int, options: Mapping[str, Any], files: Files) -> Any:
    """Build a class of anomalib with random weights.

    Args:
        row: description of the class.
        side: side of the image in pixels.
        network: name of the backbone, with its weight tag; empty if the class takes none.
        epochs: number of training epochs.
        options: further arguments of the class.
        files: files that it reads.

    Returns:
        The Lightning module, on the default device; its pre-processor does not change images.

    Raises:
        NfbenchError: the class does not have an option or rejects a value, or a file is missing.
    """
    models = import_anomalib()
    from anomalib.pre_processing import PreProcessor
    from torchvision.transforms.v2 import Compose, Resize

    known = options_of(row)
    if unknown := sorted(options.keys() - known.keys()):
        raise NfbenchError(f"'options' of anomalib's {row.name}: unknown '{unknown[0]}'; known are {', '.join(known)}")
    arguments: dict[str, Any] = dict.fromkeys(_PARTS, False)
    arguments["pre_processor"] = PreProcessor(transform=Compose([Resize((side, side))]))
    if network:
        bare = find_backbone(network).timm_name.partition(".")[0]
        arguments |= dict.fromkeys(row.named_by, bare)
    if row.sized_by:
        arguments[row.sized_by] = (side, side)
    if row.epochs_by:
        arguments[row.epochs_by] = epochs
    arguments |= {**_file_arguments(row, files), **row.named, **options}
    try:
        with torch.device("cpu") if row.of_values else nullcontext(), quiet(), _without_fetching():
            module = _adapted(getattr(models, row.name), row, files)(**arguments)
    except (TypeError, ValueError, AssertionError, KeyError, RuntimeError) as error:
        where = f" with the backbone '{network}'" if network else ""
        raise NfbenchError(f"anomalib's {row.name}{where}, {side} pixels: {one_line(error)}") from error
    if files.textures is not None:
        _read_textures(module, row, files.textures)
    return module.to(torch.get_default_device())


def load_weights(module: nn.Module, row: PeerModel, side: int, state: Mapping[str, torch.Tensor], network: str) -> None:
    """Load the weights of a network into the frozen parts of a module, by name, for images of this side.

    Raises:
        NfbenchError: the network lacks some of them.
    """
    given = {name.removeprefix("model."): value for name, value in state.items()}
    for path in row.frozen:
        part: Any = module.get_submodule(path)
        own = part.state_dict()
        missing = sorted(own.keys() - given.keys())
        other = [name for name in own.keys() & given.keys() if own[name].shape != given[name].shape]
        if missing or other:
            raise NfbenchError(
                f"anomalib's {row.name} needs parts of the backbone '{network}' that its 'levels' exclude, or another "
                f"network ('{(missing or other)[0]}' is missing); the default is '{row.backbone}'"
            )
        part.load_state_dict({name: given[name] for name in own})
        if row.network == "vit":
            _fix_size(part, side)


def _fix_size(vit: Any, side: int) -> None:
    """Resample position codes to the input size once, without antialiasing, as anomalib does in each pass.

    anomalib replaces timm's function for this in the whole process; see ``_without_fetching``.
    """
    from timm.models import vision_transformer

    resample = partial(vision_transformer.resample_abs_pos_embed, antialias=False)
    with patch.object(vision_transformer, "resample_abs_pos_embed", resample):
        vit.set_input_size((side, side))


def _adapted(base: type, row: PeerModel, files: Files) -> type:
    """Return a subclass that trains as the paper does and can be resumed."""

    class Adapted(base):
        def configure_optimizers(self) -> Any:
            found = super().configure_optimizers()
            if row.name == "UniNet":
                (scheduler,) = found[1]
                scheduler.milestones = Counter({round(epoch): 1 for epoch in scheduler.milestones})
            if not row.by_step:
                return found
            one = found if isinstance(found, dict) else {"optimizer": found[0][0], "lr_scheduler": found[1][0]}
            return {**one, "lr_scheduler": {"scheduler": one["lr_scheduler"], "interval": "step"}}

        def on_train_start(self) -> None:
            bank = getattr(self.model, "memory_bank", None)
            if row.fitted or not isinstance(bank, torch.Tensor) or not bank.ndim:  # else it is restored
                super().on_train_start()

        def prepare_pretrained_model(self) -> None:
            state = torch.load(Path(files.teacher or "").expanduser(), map_location=self.device, weights_only=True)
            self.model.teacher.load_state_dict(state)

    Adapted.__name__ = Adapted.__qualname__ = base.__name__
    return Adapted


@contextmanager
def _without_fetching() -> Iterator[None]:
    """Make timm and torchvision build networks with random weights.

    A function of timm that anomalib replaces is restored, because other networks of the process use it.
    """
    import torchvision
    from timm.models import vision_transformer

    timm = import_timm()
    create, networks = timm.create_model, torchvision.models

    def bare(name: str, *_: Any, **keywords: Any) -> Any:
        keywords.pop("img_size", None)  # position codes keep the size of the weights until '_fix_size'
        return create(name, **{**keywords, "pretrained": False})

    def untrained(name: str) -> Any:
        build = getattr(networks, name)
        return lambda **keywords: build(**{**keywords, "weights": None})

    kept = patch.object(vision_transformer, "resample_abs_pos_embed", vision_transformer.resample_abs_pos_embed)
    with patch.object(timm, "create_model", bare), kept:
        names = ("wide_resnet50_2", "resnet18", "resnet50", "vgg19_bn")
        with patch.multiple(networks, **{name: untrained(name) for name in names}):
            yield


def _file_arguments(row: PeerModel, files: Files) -> dict[str, Any]:
    """Return the arguments that name files; check that the files exist, so that nothing is downloaded."""
    found: dict[str, Any] = {}
    if files.textures is not None:
        key = "dtd_dir" if row.name == "Draem" else "anomaly_source_path"
        folder = Path(files.textures).expanduser()
        if files.textures != NOISE:
            found[key] = _with_images(
                row, "textures", folder, f"the Describable Textures Dataset; or set it to '{NOISE}'"
            )
        elif key == "dtd_dir":
            found[key] = Path(__file__).parent  # any existing folder
    if files.outside is not None:
        found["imagenet_dir"] = _with_images(row, "outside", Path(files.outside).expanduser(), "Imagenette")
    if files.teacher is not None and not Path(files.teacher).expanduser().is_file():
        raise NfbenchError(
            f"setting 'teacher' of anomalib's {row.name}: file {files.teacher} does not exist; use "
            "'pretrained_teacher_small.pth' of anomalib's release 'efficientad_pretrained_weights'"
        )
    return found


def _with_images(row: PeerModel, key: str, folder: Path, such_as: str) -> Path:
    if not folder.is_dir() or not images_below(folder):
        raise NfbenchError(
            f"setting '{key}' of anomalib's {row.name}: {folder} is not a folder with images, such as those of "
            f"{such_as}"
        )
    return folder


def _read_textures(module: Any, row: PeerModel, textures: str) -> None:
    """Sort the textures, which anomalib keeps in file system order, and read them like all other images."""
    from anomalib.data.utils.generators import perlin

    generator = module.augmenter if row.name == "Draem" else module.model.augmentor
    generator.anomaly_source_paths = [] if textures == NOISE else images_below(Path(textures).expanduser())
    perlin.io = SimpleNamespace(read_image=_read_texture, ImageReadMode=SimpleNamespace(RGB="RGB"))


def _read_texture(path: str, mode: str) -> torch.Tensor:
    """``(3, H, W)`` uint8."""
    return torch.from_numpy(np.array(read_checked_image(unlisted(Path(path))).convert(mode))).permute(2, 0, 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep messages of the libraries out of the log."""
    with warnings.catch_warnings(), quieted(_LOUD):
        warnings.simplefilter("ignore")
        yield
