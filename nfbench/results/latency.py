"""Latency of an image, and the size of its model."""

from pydantic import NonNegativeFloat, NonNegativeInt

from nfbench.core.record import Record

__all__ = ["LATENCIES", "Latency"]

LATENCIES = ("latency_ms", "latency_p95_ms", "fps_32", "flops", "model_mb")
"""Columns of results and costs in tables that come from a ``Latency``."""


class Latency(Record):
    """Times from an image file to its score and map, measured on this machine.

    Attributes:
        ms, p95_ms: median and 95th percentile of single images, in milliseconds.
        n_images: number of timed single images.
        fps_32: images per second in batches of 32; None if one batch would take too long.
        threads: number of torch's CPU threads.
        flops: floating-point operations of backbone and method for one image, from torch's counter: matrix products and
            convolutions, two operations for each multiply-add, without gradients of maps.
        backbone_parameters, method_parameters: numbers of parameters.
        model_mb: size of all values of backbone and method in MB, as in a file of ``nfbench export --format torch``.
    """

    ms: NonNegativeFloat
    p95_ms: NonNegativeFloat
    n_images: NonNegativeInt
    fps_32: NonNegativeFloat | None
    threads: NonNegativeInt
    flops: NonNegativeInt
    backbone_parameters: NonNegativeInt
    method_parameters: NonNegativeInt
    model_mb: NonNegativeFloat

    @property
    def columns(self) -> dict[str, float]:
        """Values of ``LATENCIES``; NaN if not measured."""
        fps = float("nan") if self.fps_32 is None else self.fps_32
        return dict(zip(LATENCIES, (self.ms, self.p95_ms, fps, float(self.flops), self.model_mb), strict=True))
