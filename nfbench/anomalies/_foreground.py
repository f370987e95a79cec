"""Foreground of an image: the object, separated from its background by grey levels."""

import cv2
import numpy as np

__all__ = ["foreground_mask"]

_WORK_SIDE = 256
_BORDER = 8
_DOMINANT = 2 / 3
_LEAST_CONTRAST = 12
_OPENING, _CLOSING = 7, 5
_LEAST_SHARE = 0.1
_THIN = 0.25


def foreground_mask(image: np.ndarray) -> np.ndarray:
    """Return a mask of the object in an image.

    On a copy of at most 256 pixels (edges are exact to ``max(H, W) / 256`` pixels), Otsu's threshold splits the
    slightly blurred grey levels in two sides, and the one that holds two thirds of the border is the background. From
    the other side, what is thinner than 6 % of the image is removed (tracks and marks of the background, leads of an
    object), unless that leaves less than a quarter, and so are pieces of less than a tenth of the largest; then gaps
    and holes are filled.

    The whole image is foreground where grey levels separate nothing: in a flat image, or where no side holds two thirds
    of the border (many textures, an object that fills the frame).

    Args:
        image: ``(H, W, 3)`` uint8.

    Returns:
        ``(H, W)`` bool with at least one True.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _WORK_SIDE / max(height, width))
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    grey = cv2.cvtColor(cv2.resize(image, shape, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    side = _separate(cv2.GaussianBlur(grey, (0, 0), 1))
    if side is None:
        return np.ones((height, width), dtype=bool)
    return cv2.resize(_tidy(side), (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _separate(grey: np.ndarray) -> np.ndarray | None:
    """Return the side of a threshold that is not the background, 0 or 1; None without a background."""
    threshold, bright = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    above = grey > threshold
    if above.all() or not above.any() or grey[above].mean() - grey[~above].mean() < _LEAST_CONTRAST:
        return None
    border = np.ones(grey.shape, dtype=bool)
    border[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    share = above[border].mean()
    if max(share, 1 - share) < _DOMINANT:
        return None
    return 1 - bright if share > 0.5 else bright


def _tidy(side: np.ndarray) -> np.ndarray:
    """Return large pieces without thin parts, gaps and holes; 0 or 1."""
    margin = 2 * max(_OPENING, _CLOSING)
    # an object may continue beyond the frame
    padded = cv2.copyMakeBorder(side, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, _disc(_OPENING))
    if opened.sum() >= _THIN * padded.sum():
        padded = opened
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(padded)
    areas = statistics[1:count, cv2.CC_STAT_AREA]
    kept = np.concatenate([[0], areas >= _LEAST_SHARE * areas.max()]).astype(np.uint8)
    closed = cv2.morphologyEx(kept[labels], cv2.MORPH_CLOSE, _disc(_CLOSING))
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(closed), contours, -1, 1, cv2.FILLED)
    inside = filled[margin:-margin, margin:-margin]
    return inside if inside.any() else side


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
