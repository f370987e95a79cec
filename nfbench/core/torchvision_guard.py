"""Import torchvision next to a torch that lacks its compiled operators.

torchvision's wheels are built for CUDA. With a CPU torch the compiled library does not load, and torchvision fails to
register ``torchvision::nms`` and ``torchvision::qnms``. Nothing here uses these operators, so defining their schemas is
enough. If the compiled operators exist, nothing is done.
"""

import torch

from nfbench.core.deferred import deferred

__all__ = ["import_torchvision"]

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_definitions: list[torch.library.Library] = []


def import_torchvision() -> None:
    """Imports torchvision, defining the two operator schemas first if they are missing.

    Raises:
        ImportError: torchvision is not installed, or fails for another reason.
    """
    try:
        _import()
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise ImportError(f"torchvision does not import: {error}") from error
        _define_missing_operators()
        _import()


def _import() -> None:
    """Imports torchvision without torch's compiler, which takes a second and is used by ``roi_align`` alone."""
    with deferred("torch._dynamo.utils"):
        import torchvision  # noqa: F401


def _define_missing_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    _definitions.append(library)  # a library that is collected takes its definitions with it
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + schema)
