"""Mean IoU at the threshold where it is largest on the test set: an upper bound; see ``_iou``."""

from nfbench.metrics import BY_AGGREGATION, ORIGINAL_SIZE, OVER_IMAGES, Metric

__all__ = ["METRICS"]

METRICS = [
    Metric(
        "miou_oracle",
        "mean IoU of the anomaly map at the best threshold on the test set",
        lambda test, over: test.sweep("score").optimum[over].miou,
        needs_masks=True,
        variants=BY_AGGREGATION,
        threshold=lambda test, over: test.sweep("score").optimum[over].threshold,
        size=ORIGINAL_SIZE,
        note=OVER_IMAGES,
    ),
    Metric(
        "miou_nfa_oracle",
        "mean IoU of the log-NFA map at the best threshold on the test set",
        lambda test, over: test.sweep("nfa").optimum[over].miou,
        needs_masks=True,
        needs_latents=True,
        variants=BY_AGGREGATION,
        threshold=lambda test, over: -test.sweep("nfa").optimum[over].threshold,  # in log10 NFA
        size=ORIGINAL_SIZE,
        note=OVER_IMAGES,
        short="best NFA",
    ),
]
