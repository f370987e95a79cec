"""Speed of feature extraction relative to the bare forward pass, on PNG images of 900 x 900 pixels.

The bare pass runs the same module in the same memory format and batch size on tensors in memory. Extraction also
decodes, resizes, verifies hashes and writes the cache. Prints the rate of extraction as a share of the bare rate. The
fewer operations a backbone needs, the larger the share of decoding.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from nfbench.backbones._base import find_backbone
from nfbench.backbones._weights import load_backbone
from nfbench.config import BackboneConfig
from nfbench.datasets._base import Sample
from nfbench.datasets._manifest import build_manifest
from nfbench.features.extract import extract_features

BATCH = 8


def make_images(folder, count):
    """Writes photograph-like noise, which compresses about as well as MVTec AD's images."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        smooth = ndimage.gaussian_filter(rng.standard_normal((900, 900, 3)), (6, 6, 0)) * 400
        image = np.clip(128 + smooth + rng.normal(0, 2, smooth.shape), 0, 255).astype(np.uint8)
        path = Path(folder) / f"{number:03}.png"
        Image.fromarray(image).save(path)
        samples += [Sample("train" if number else "test", "good", path)]
    return build_manifest(samples)


def bare_seconds(name, count):
    """Returns the seconds of the forward pass alone."""
    model = load_backbone(find_backbone(name), (1, 2, 3), "random").to(memory_format=torch.channels_last)
    x = torch.randn(BATCH, 3, 256, 256).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        model(x)
        started = time.perf_counter()
        for _ in range(count // BATCH):
            model(x)
    return time.perf_counter() - started


def main(count=128, rounds=2):
    """Runs the comparison."""
    print(f"extraction, {count} PNG images of 900 x 900, {torch.get_num_threads()} threads, best of {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        entries = make_images(folder, count)
        for name in ("tf_efficientnet_lite0", "resnet18.tv_in1k", "wide_resnet50_2.racm_in1k"):
            bare, full = [], []
            for number in range(rounds):
                bare.append(bare_seconds(name, count))
                meta = extract_features(
                    entries,
                    BackboneConfig(name=name, weights="random"),
                    Path(folder) / f"{name}-{number}" / "meta.json",
                    view="train",
                    device=torch.device("cpu"),
                )
                full.append(meta.seconds)
            print(
                f"{name:<28} bare {count / min(bare):6.1f} images/s, extraction {count / min(full):6.1f} images/s, "
                f"share {min(bare) / min(full):.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
