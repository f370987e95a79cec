"""How long an image takes, and what the model behind it holds."""

from pydantic import NonNegativeFloat, NonNegativeInt

from nfbench.core.record import Record

__all__ = ["LATENCIES", "Latency"]

LATENCIES = ("latency_ms", "latency_p95_ms", "fps_32", "flops", "model_mb")
"""Columns of results and costs in tables that a ``Latency`` gives."""


class Latency(Record):
    """Times from an image's file to its score and map, measured on this machine.

    Attributes:
        ms, p95_ms: median and 95th percentile of single images, in milliseconds.
        n_images: single images that were timed.
        fps_32: images per second in batches of 32; None where one batch would take too long.
        threads: of torch on the CPU.
        flops: floating-point operations of one image in backbone and method, by torch's counter: products and
            convolutions, two for each multiplication and addition; gradients of maps are not counted.
        backbone_parameters, method_parameters: their numbers.
        model_mb: MB of all values of backbone and method, which a file of ``nfbench export --format torch`` holds.
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
        """Values of ``LATENCIES``; NaN for what was not measured."""
        fps = float("nan") if self.fps_32 is None else self.fps_32
        return dict(zip(LATENCIES, (self.ms, self.p95_ms, fps, float(self.flops), self.model_mb), strict=True))
