"""NFAD: the normalizing flow that BGAD builds on, trained alone (Yao et al., CVPR 2023, arXiv 2207.01463).

Compared with the description of xcyao00/BGAD at 2806d37; its baseline, trained on normal images only. It is CFLOW-AD
with chunks of 4,096 fibres, without random rotation.
Score: L - sum_l Up(exp(logp_l / C_l - max logp_l / C_l)), with aligned corners, not smoothed; see ``likelihood_map``.

Deliberate deviations:

- The maximum in the score is over the training images; the published score, with the maximum over the test set, is
  reported next to it, as for CFLOW-AD.
- A batch with fewer fibres than ``fibre_batch`` is one step with all of them; see ``cflow``.

The paper's features are those of EfficientNet-B6 (AutoAugment weights) at 256 pixels, levels with 40, 72 and 200
channels (``workflow/experiments/bgad_mvtec.yaml``).
"""

from pydantic import Field

from nfbench.methods.cflow import CFlow, CFlowSettings

__all__ = ["METHOD", "NFAD", "NFADSettings"]


class NFADSettings(CFlowSettings):
    """Defaults of the repository: 25 meta-epochs of 8 passes, as CFLOW-AD's."""

    fibre_batch: int = Field(4096, ge=1, description="fibres per step")
    online_rotation: float = Field(
        0.0,
        ge=0,
        le=180,
        description="rotate training images by a random angle of up to this many degrees; 0 reads the cache",
    )


class NFAD(CFlow):
    """CFLOW-AD's loss, ``L_ml``: the mean over a chunk's fibres of ``-log sigmoid(logp / C)``."""

    title = "NFAD"
    settings_type = NFADSettings
    settings: NFADSettings


METHOD = NFAD
