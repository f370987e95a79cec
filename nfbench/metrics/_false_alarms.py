"""What metrics of false alarms have in common."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from nfbench.scoring.evaluate import ScoredSet

__all__ = ["per_normal_image"]


def per_normal_image(test: "ScoredSet", counts: "np.ndarray") -> float:
    """Mean over the normal test images of a count by image ``(N,)``; NaN without such images."""
    normal = counts[test.labels == 0]
    return float(normal.mean()) if normal.size else float("nan")
