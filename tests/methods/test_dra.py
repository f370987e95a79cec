"""DRA: the described number of parameters, the training images of each head, and the effect of references."""

import pytest
import torch
from torch import nn

from nfbench.blocks.deviation import deviation_loss
from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, count_parameters, resolve_settings
from nfbench.config import BackboneConfig
from nfbench.features.building import count_on
from nfbench.methods import dra
from nfbench.methods.dra import Heads
from nfbench.training.optimizer import Adam
from tests.tiny_models import build_tiny


def build(**overrides):
    return build_tiny("dra", resolve_settings("dra", overrides={"hidden_dim": 16, **overrides}))


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count, seed=0):
    return 0.3 * torch.randn(count, 3, 32, 32, generator=drawn(seed))


class Shuffled:
    def __init__(self, images):
        self.images = images

    def shuffled(self, number, batch_size):
        for part in self.images.split(batch_size):
            yield Features([], part)


def test_the_described_number_of_parameters():
    backbone = BackboneConfig(name="resnet18.tv_in1k", levels=(4,), input_size=448, frozen=False)
    counts = count_parameters(count_on(backbone, "dra", resolve_settings("dra")))
    assert counts["total"] == 13_670_468
    assert (counts["seen"], counts["pseudo"], counts["holistic"]) == (513, 513, 512 * 256 + 256 + 257)


def masks_of(labels):
    return torch.stack([torch.full((32, 32), float(label)) for label in labels])


def test_each_head_learns_from_its_own_images(monkeypatch):
    """By fixed scores: normal, normal, seen; the second becomes a pseudo-anomaly."""
    method, called = build(), []

    def watched(scores, anomalous, margin, references, generator, weights):
        called.append((anomalous.tolist(), None if weights is None else weights.tolist()))
        return deviation_loss(scores, anomalous, margin, references, generator, weights)

    def chosen(images, seen, generator):
        return images, torch.tensor([0.0, 1.0, 0.0])

    monkeypatch.setattr(dra, "deviation_loss", watched)
    monkeypatch.setattr(method, "with_pseudo_anomalies", chosen)
    monkeypatch.setattr(method, "head_scores", lambda images: Heads(*(torch.zeros(3) for _ in range(4))))
    (loss,) = method.losses(Batch(Features([], noise(3)), masks_of([0, 0, 1])), drawn())
    assert called == [
        ([1, 0, 0], None),
        ([0, 0, 1], [1, 0, 1]),
        ([0, 1, 0], [1, 1, 0]),
        ([0, 1, 1], None),
    ]
    assert loss.item() == pytest.approx(5 / 3 + 5 / 2 + 5 / 2 + 10 / 3, abs=0.1)


def test_half_of_the_normal_images_become_pseudo_anomalies():
    images, seen = noise(200), torch.arange(200) % 2
    found, pseudo = build().with_pseudo_anomalies(images, seen.float(), drawn())
    assert 0.35 < pseudo[seen == 0].mean() < 0.65
    assert (pseudo[seen == 1] == 0).all()
    changed = (found != images).flatten(1).any(1)
    assert torch.equal(changed, pseudo > 0)
    none, all_of_them = (
        build(pseudo_share=share).with_pseudo_anomalies(images, seen.float(), drawn())[1] for share in (0, 1)
    )
    assert none.sum() == 0
    assert torch.equal(all_of_them, 1.0 - seen)


def test_scores_add_up_with_the_sign_of_each_head(monkeypatch):
    method = build().eval()
    monkeypatch.setattr(method, "head_scores", lambda images: Heads(*torch.tensor([[1.0], [2.0], [4.0], [8.0]])))
    assert method.score(Features([], noise(1))).images.tolist() == [13]


def test_the_composite_head_sees_the_difference_from_the_references():
    method, images = build().eval(), noise(6)
    method.prepare(Shuffled(images[:1]))
    assert torch.equal(method.references, images[:1].expand(5, -1, -1, -1))
    with torch.no_grad():
        own, other = method.head_scores(torch.cat([method.references, images[:1], images[1:2]])).composite
        method.network = nn.ModuleList([nn.Identity()])
        method.network.forward = lambda x: [torch.ones(len(x), 64, 8, 8)]
        all_the_same = method.head_scores(torch.cat([method.references, images[1:]])).composite
    assert torch.equal(all_the_same, all_the_same[:1].expand(5))
    assert own.item() == pytest.approx(all_the_same[0].item(), abs=1e-4)  # the same difference, which is none
    assert other != own


def test_references_are_drawn_from_the_training_images():
    method, images = build(), noise(12)
    method.prepare(Shuffled(images))
    assert torch.equal(method.references, images[:5])
    assert "references" in method.state_dict()
    method.prepare(Shuffled(images[:2]))
    assert torch.equal(method.references, images[[0, 1, 0, 1, 0]])


def test_anomalies_of_both_kinds_are_learned():
    generator, images = drawn(3), noise(16)
    for number in range(8, 16):
        row, column = (8 + torch.randint(12, (2,), generator=generator)).tolist()
        images[number, :, row : row + 5, column : column + 5] += 3
    method = build()
    method.prepare(Shuffled(images[:8]))
    optimizer = Adam(method.optimizer_groups(), 1e-3)
    method.train()
    for step in range(25):
        for loss in method.losses(Batch(Features([], images), masks_of([0] * 8 + [1] * 8)), drawn(step)):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        method.eval()
        normal, anomalous = method.score(Features([], images)).images.chunk(2)
        heads = method.head_scores(torch.cat([method.references, images]))
    assert anomalous.min() > normal.max()
    assert heads.holistic[:8].mean() > heads.holistic[8:].mean()
    assert heads.seen[:8].mean() < heads.seen[8:].mean()
