"""From a manifest to the cached features of one view."""

from pathlib import Path

from nfbench.anomalies._base import make_generator
from nfbench.core.device import pick_device
from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import read_manifest, view_entries
from nfbench.features.extract import Synthesis
from nfbench.features.extract import extract_features as extract
from nfbench.plan.origin import require_origin
from nfbench.plan.specs import ExtractSpec

__all__ = ["extract_features"]


def extract_features(spec: ExtractSpec, device: str = "auto", threads: int | None = None) -> None:
    """Passes the images of a view through a frozen backbone and caches its features."""
    require_origin(spec)
    entries, synthesis = read_manifest(spec.manifest), None
    anomalies = spec.anomalies
    if anomalies and anomalies.generator:
        generator, entries = make_generator(anomalies, entries, spec.seed, spec.backbone.input_size)
        synthesis = Synthesis(anomalies.generator, generator, anomalies.views, spec.seed)
    else:
        entries = view_entries(entries, spec.view)
    if not entries and spec.view != "test":  # a dataset may have normal images only
        raise NfbenchError(f"manifest {spec.manifest} has no image of view '{spec.view}'")
    extract(
        entries,
        spec.backbone,
        Path(spec.features),
        view=spec.view,
        device=pick_device(device, threads),
        synthesis=synthesis,
        online=Path(spec.manifest) if spec.backbone.online else None,
        spec=spec,
    )
