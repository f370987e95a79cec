"""Defects of an image with the areas that must be found of them, for sPRO."""

from functools import lru_cache
from pathlib import Path

from nfbench.core.errors import NfbenchError
from nfbench.datasets._channels import DefectKind, defects_file, read_channels, read_defects
from nfbench.datasets._manifest import Entry
from nfbench.datasets._shift import shift_mask
from nfbench.metrics._spro import Channel, saturation_area

__all__ = ["read_saturated"]


def read_saturated(entry: Entry) -> list[Channel]:
    """Read the channels of an image with their saturation areas; none for a normal image.

    Raises:
        NfbenchError: the mask cannot be read, or a defect has no kind or no saturation area; names the mask.
    """
    if not entry.mask:
        return []
    path = defects_file(entry.mask)
    kinds, found = _kinds(path), []
    for channel in read_channels(entry.mask, entry.mask_sha256):
        mask = shift_mask(channel.mask, entry.shift, entry.sha256)
        if channel.value not in kinds:
            raise NfbenchError(f"mask {entry.mask} has the value {channel.value}, which {path} does not list")
        kind = kinds[channel.value]
        try:
            area = saturation_area(int(mask.sum()), kind.saturation_threshold, kind.relative_saturation)
        except ValueError as error:
            raise NfbenchError(f"mask {entry.mask}, {kind.defect_name!r} of {path}: {error}") from None
        found.append(Channel(mask, area))
    return found


@lru_cache(maxsize=64)
def _kinds(path: Path) -> dict[int, DefectKind]:
    return read_defects(path)
