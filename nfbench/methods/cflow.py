"""CFLOW-AD: conditional flows on the feature vectors of positions (Gudovskiy et al., WACV 2022, arXiv 2107.12571).

Compared with the description of gudovskiy/cflow-ad at b2ebf9e, and with anomalib's port by tests.
While one level is trained, the others rest; see ``resting_levels`` and ``nfbench.training.optimizer``.
Score: L - sum_l Up(exp(logp_l / C_l - max logp_l / C_l)), with aligned corners; see ``likelihood_map``.

Deliberate deviations:

- The maximum is over the training images, so an image's score does not depend on other test images. Calibrating on the
  test images gives the published score, with the maximum over the test set. The paper also subtracts from the largest
  sum over the test set instead of L, which shifts all scores by a constant.
- A batch with fewer fibres than ``fibre_batch`` is one step with all of them; anomalib's port stops.

The paper's features are those of WRN-50-2 with torchvision's weights and reflecting borders in all convolutions, levels
2 to 4, not normalized, at 512, 256 or 128 pixels by category (``workflow/experiments/uflow_table1.yaml``).
"""

from collections.abc import Iterator
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from nfbench.blocks.likelihood import FibreFlowMethod, FibreFlowSettings, fibre_chunks, log_density, to_fibres
from nfbench.blocks.maps import ImageRule
from nfbench.blocks.method import Batch

__all__ = ["METHOD", "CFlow", "CFlowSettings"]


class CFlowSettings(FibreFlowSettings):
    """Defaults of the repository's read-me: 25 meta-epochs of 8 passes."""

    epochs: int = Field(200, ge=0, description="passes over the training images")
    batch_size: int = Field(32, ge=1, description="images per batch; their fibres are shuffled together")
    fibre_batch: int = Field(256, ge=1, description="fibres per step")
    online_rotation: float = Field(
        5.0,
        ge=0,
        le=180,
        description="rotate training images by a random angle of up to this many degrees; 0 reads the cache",
    )


class CFlow(FibreFlowMethod):
    """Conditional flows trained on chunks of shuffled fibres, one step per chunk."""

    title = "CFLOW-AD"
    image_rule: ClassVar[ImageRule] = "max"
    settings_type = CFlowSettings
    settings: CFlowSettings

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield one loss per chunk, level by level: the mean of ``-log sigmoid(logp / C)`` over its fibres.

        The sigmoid keeps the loss positive. It is in the repository, not in the paper.
        """
        for level, x in enumerate(batch.features.levels):
            fibres = to_fibres(x)
            for rows in fibre_chunks(len(fibres), self.settings.fibre_batch, generator):
                z, log_det = self.encode(level, fibres, rows)
                yield -functional.logsigmoid(log_density(z, log_det) / z.shape[1]).mean()


METHOD = CFlow
