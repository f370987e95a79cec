"""Real-IAD by the authors' lists in which 40 % of the training images are anomalous; see ``real_iad``."""

from nfbench.datasets.real_iad import RealIad

__all__ = ["DATASET"]

DATASET = RealIad(noise=0.4)
