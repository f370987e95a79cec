"""NFAD: the normalizing flow that BGAD builds on, trained alone (Yao et al., CVPR 2023, arXiv 2207.01463).

Compared with the description of xcyao00/BGAD at 2806d37; its baseline, trained on normal images only. It is CFLOW-AD
with chunks of 4,096 fibres, without random rotation.
Score: L - sum_l Up(exp(logp_l / C_l - max logp_l / C_l)), with aligned corners, not smoothed; see ``likelihood_map``.

Deliberate deviations:

- The maximum in the score is taken over the training images; the published score, with the maximum over the test set,
  is reported beside it, as for CFLOW-AD.
- While one level is trained, the others stand still, and a batch with fewer fibres than ``fibre_batch`` is one step of
  all of them; see ``cflow``.

The paper's features are those of EfficientNet-B6 (AutoAugment weights) at 256 pixels, levels with 40, 72 and 200
channels (``workflow/experiments/bgad_mvtec.yaml``).
"""

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from nfbench.methods.base import Batch
from nfbench.methods.base_likelihood import FibreFlowMethod, FibreFlowSettings, fibre_chunks, log_density, to_fibres

__all__ = ["METHOD", "NFAD", "NFADSettings"]


class NFADSettings(FibreFlowSettings):
    """Defaults of the repository: 25 meta-epochs of 8 passes."""

    epochs: int = Field(200, ge=0, description="passes over the training images, fixed beforehand")
    batch_size: int = Field(32, ge=1, description="images whose fibres are shuffled together")
    fibre_batch: int = Field(4096, ge=1, description="fibres per step")
    drop_last: bool = Field(False, description="leave out the last, incomplete batch of an epoch")


class NFAD(FibreFlowMethod):
    """Conditional flows trained by large chunks of shuffled fibres, one step for each."""

    title = "NFAD"
    settings_type = NFADSettings
    settings: NFADSettings

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Level after level, chunk after chunk: ``L_ml``, the mean over fibres of ``-log sigmoid(logp / C)``."""
        for level, x in enumerate(batch.features):
            fibres = to_fibres(x)
            for rows in fibre_chunks(len(fibres), self.settings.fibre_batch, generator):
                z, log_det = self.encode(level, fibres, rows)
                yield -functional.logsigmoid(log_density(z, log_det) / z.shape[1]).mean()


METHOD = NFAD
