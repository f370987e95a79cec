"""Settings for few training images."""

from nfbench.blocks.settings import FittedSettings, MethodSettings
from nfbench.config import condition_of

__all__ = ["for_condition"]


def for_condition(settings: MethodSettings, condition: str) -> MethodSettings:
    """Return the settings of a method for a condition: a single image is trained on, and neither held out nor dealt.

    Thresholds then come from this image, since there is no other.
    """
    found = condition_of(condition)
    if found.axis != "shots" or found.strength > 1:
        return settings
    without = {"val_fraction": 0.0, **({"folds": 0} if isinstance(settings, FittedSettings) else {})}
    return settings.model_copy(update=without)
