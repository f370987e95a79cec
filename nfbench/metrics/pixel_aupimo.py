"""AUPIMO, per-image overlap at shared false positive rates of 1e-5 to 1e-4 on normal images; see ``_aupimo``."""

from typing import TYPE_CHECKING

from nfbench.metrics import ORIGINAL_SIZE, Metric

if TYPE_CHECKING:
    import numpy as np

    from nfbench.scoring.evaluate import ScoredSet

__all__ = ["METRICS"]


def _by_image(test: "ScoredSet", _: str) -> "np.ndarray":
    """Return the AUPIMO of each image ``(N,)``, NaN for normal ones."""
    from nfbench.metrics._aupimo import aupimo_of

    return test.once("pixel_aupimo", lambda: aupimo_of(test.pairs(), test.labels > 0)[0])


def _mean(test: "ScoredSet", variant: str) -> float:
    import numpy as np

    values = _by_image(test, variant)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


METRICS = [
    Metric(
        "pixel_aupimo",
        "AUPIMO",
        _mean,
        needs_masks=True,
        by_image=_by_image,
        size=ORIGINAL_SIZE,
        note="mean over anomalous images",
    )
]
