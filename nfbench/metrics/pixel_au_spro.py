"""AU-sPRO of MVTec LOCO: area under the saturated per-region overlap up to a false positive rate; see ``_spro``.

As in its paper, anomalous images of each type are measured together with the normal images, and the types are averaged.
"""

import math
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING

from nfbench.metrics import ORIGINAL_SIZE, Metric
from nfbench.metrics._kinds import kinds_of, with_normal

if TYPE_CHECKING:
    from nfbench.scoring.evaluate import ScoredSet

__all__ = ["METRICS"]

_LIMITS = (0.05, 0.3)


def _mean_area(test: "ScoredSet", _: str, limit: float) -> float:
    """Return the mean over types of anomalies; all limits share the passes over the pixels."""
    areas = [test.once(f"pixel_au_spro {kind}", partial(_areas, test, kind))[limit] for kind in kinds_of(test)]
    return sum(areas) / len(areas) if areas else math.nan


def _areas(test: "ScoredSet", kind: str) -> dict[float, float]:
    """Return the area by limit over the normal images and the anomalous ones of one type."""
    from nfbench.metrics._spro import au_spro_of

    chosen = with_normal(test, kind)
    n_free = sum(int((~mask).sum()) for mask in compress(test.truth.masks(), chosen))
    return dict(zip(_LIMITS, au_spro_of(compress(test.channels(), chosen), n_free, _LIMITS), strict=True))


METRICS = [
    Metric(
        name,
        f"AU-sPRO up to a false positive rate of {limit:g}",
        partial(_mean_area, limit=limit),
        needs_masks=True,
        needs_channels=True,
        size=ORIGINAL_SIZE,
        note="mean over types of anomalies, each with all normal images",
    )
    for name, limit in zip(("pixel_au_spro", "pixel_au_spro_30"), _LIMITS, strict=True)
]
