"""Cached features of the images that a condition draws; nothing is extracted or written again."""

from nfbench.blocks.features import Features
from nfbench.core.errors import required
from nfbench.datasets._drawn import Drawn
from nfbench.features.cache import FeatureCache
from nfbench.features.shards import StoredArray
from nfbench.features.stacked import StackedArrays

__all__ = ["drawn_features"]


def drawn_features(
    train: FeatureCache, test: FeatureCache | None, n_train: int, drawn: Drawn | None
) -> Features[StoredArray]:
    """Features of the training images: normal ones, then added anomalies.

    Args:
        train: features of the view ``train``.
        test: features of the view ``test``; required if anomalies are added.
        n_train: number of training images in ``train``, which come first.
        drawn: the images; None for all.
    """
    everything = train.part(0, n_train)
    if drawn is None or drawn.n_train == n_train == len(drawn.normal):
        return everything
    normal = everything if len(drawn.normal) == n_train else everything.select(drawn.normal)
    if not drawn.added:
        return normal
    added = required(test, "the features of the test images")
    return Features.join([normal, added.features.select(drawn.added)], StackedArrays)
