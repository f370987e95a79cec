"""Every method meets its contract, one-class and unified. New methods are tested without an edit here."""

import copy
import ctypes
import gc
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from FrEIA.modules import InvertibleModule

from nfbench.blocks.features import Features
from nfbench.blocks.maps import ScoresByMap
from nfbench.blocks.method import PACKAGE, Method, Scores, load_method, resolve_settings
from nfbench.blocks.settings import MethodSettings, TrainedSettings, epochs_of
from nfbench.core.registry import plugin, plugin_defines, plugin_names
from nfbench.features.batches import read_batch
from nfbench.features.stacked import StackedArrays
from nfbench.figures._representations import MEMBERS
from nfbench.metrics._ranking import image_areas
from nfbench.scoring.maps import score_images
from nfbench.training.checkpoint import SideFolder, load_kept, save_kept
from nfbench.training.data import CachedViews, JoinedSources, TrainingData
from nfbench.training.loop import train
from tests.tiny_models import build_tiny

pytestmark = pytest.mark.slow

TRAINING = {"batch_size": 10, "lr": 4e-3, "checkpoints": 2}
N_TRAIN, N_TEST, EPOCHS = 30, 6, 12
CPU = torch.device("cpu")
METHODS = plugin_names(PACKAGE)
"""Methods in which nothing is random, so that all seeds give one model."""
OWN_RULES = {"anomalib", "hgad"}
"""Methods whose image scores may be the maximum of a map: of some models, and before the map is resized."""
SEES_THE_WHOLE_IMAGE = {"riad"}
"""Methods whose tiny network sees the whole image, so that all of the map rises; their own tests localize."""


class WithoutMaps(Method):
    """A method that only scores images: distance of the mean features from those in training."""

    title = "Without maps"
    localizes = False
    settings_type = MethodSettings

    def build(self, generator):
        channels = sum(shape.channels for shape in self.shapes)
        self.register_buffer("projection", torch.randn(channels, channels, generator=generator))
        self.register_buffer("mean", torch.zeros(channels))

    def prepare(self, passes):
        self.mean.copy_(torch.cat([self.vectors(features) for features in passes()]).mean(0))

    def score(self, features):
        return Scores(None, (self.vectors(features) - self.mean).square().sum(1))

    def vectors(self, features):
        return torch.cat([level.mean((2, 3)) for level in features.levels], dim=1) @ self.projection

    def parameter_groups(self):
        return {}


STUBS = {"without_maps": WithoutMaps}


def find(name):
    return STUBS.get(name) or plugin(PACKAGE, name).METHOD


def settings_of(name, **overrides):
    """Scores of the method's tiny model, after a short training if it is trained."""
    if name in STUBS:
        return MethodSettings(val_fraction=0.0)
    own = resolve_settings(name)
    training = {**TRAINING, "epochs": EPOCHS} if isinstance(own, TrainedSettings) else {}
    return resolve_settings(name, overrides={**training, "val_fraction": 0.0, **find(name).tiny.settings, **overrides})


def build(name, seed=0, n_classes=1, **overrides):
    settings = settings_of(name, **overrides)
    if name in STUBS:
        tiny, generator = find(name).tiny, torch.Generator().manual_seed(seed)
        return STUBS[name](tiny.shapes, settings, (tiny.side, tiny.side), generator, n_classes)
    return build_tiny(name, settings, seed, n_classes)


def features_of(method, count, seed, number=0):
    """Normal images of a class: what a position usually shows, and a little of its own."""
    usual, rng = np.random.default_rng(number), np.random.default_rng([seed, number])
    views = (4,) if method.views else ()
    levels = [
        (usual.normal(size=shape) + 0.3 * rng.normal(size=(count, *views, *shape))).astype(np.float16)
        for shape in method.shapes
    ]
    image = None
    if method.takes_image:  # of one colour
        noise = rng.normal(size=(count, 3, *method.map_size))
        image = (usual.normal(size=(3, 1, 1)) + 0.05 * noise).astype(np.float16)
    return Features(levels, image, np.full(count, number) if method.takes_class else None)


def tensors(features):
    return read_batch(features, torch.arange(len(features)), CPU)


def plus(features, offset, factor=1):
    """Features of other values; a class stays what it is."""
    return replace(features.map(lambda part: offset + factor * part), classes=features.classes)


def plant(features, rows=slice(None)):
    """Make the upper left corner of images anomalous: a quarter of the side, half of it on the coarsest level."""
    for part in features.parts():
        if part is not features.classes:
            n = -(-part.shape[-1] // 4)
            part[rows, ..., :n, :n] += 4 * np.sign(part[rows, ..., :n, :n])


def anomalous_views(method, number=0, count=N_TRAIN):
    """For methods that learn from anomalies: each image unchanged, and with an anomaly."""
    normal, anomalous = (features_of(method, count, 1, number) for _ in range(2))
    plant(anomalous)
    masks = np.zeros((count, 2, *method.map_size), np.uint8)
    masks[:, 1, :8, :8] = 255
    return CachedViews(Features.join([normal, anomalous], lambda pair: np.stack(pair, 1)), masks, CPU)


def fit(name, folder, seed=0, **overrides):
    method = build(name, seed, **overrides)
    images = anomalous_views(method) if method.needs_anomalies else None
    data = TrainingData(features_of(method, N_TRAIN, 1), 0.0, seed, CPU, images)
    result = train(method, data, method.settings, SideFolder(folder, "conformance"), name, math.inf)
    return method.eval(), result


def fit_classes(name, folder, n_classes, seed=0, **overrides):
    """One model of several classes, whose features are stacked; with as many steps as for one."""
    shorter = {"epochs": EPOCHS // n_classes} if epochs_of(settings_of(name)) else {}
    method = build(name, seed, n_classes, **{**shorter, **overrides})
    numbers = range(n_classes)
    features = Features.join([features_of(method, N_TRAIN, 1, number) for number in numbers], StackedArrays)
    views = [anomalous_views(method, number) for number in numbers] if method.needs_anomalies else []
    images = JoinedSources(views, CPU) if views else None
    data = TrainingData(features, 0.0, seed, CPU, images)
    train(method, data, method.settings, SideFolder(folder, "conformance"), name, math.inf)
    return method.eval()


def localize(method):
    """Replacement for gradients with respect to images, for methods whose maps are gradients."""
    return (lambda indices: torch.zeros(len(indices), *method.map_size)) if method.gradient_maps else None


def score(method, features, indices=None):
    return score_images(method, features, CPU, indices, localize(method))


@pytest.fixture(scope="module", params=[*METHODS, *STUBS])
def fitted(request, tmp_path_factory):
    return request.param, *fit(request.param, tmp_path_factory.mktemp(request.param))


def test_image_scores_follow_from_maps_by_the_rule_that_a_method_states(fitted):
    """Merged maps of tiles are scored by it."""
    name, method = fitted[:2]
    scored = score(method, features_of(method, N_TEST, 2))
    if isinstance(method, ScoresByMap):
        np.testing.assert_array_equal(scored.images["paper"], scored.images[method.image_rule])
    elif scored.maps is not None and not method.gradient_maps and name not in OWN_RULES:
        assert not any(np.array_equal(scored.images["paper"], scored.images[rule]) for rule in ("max", "top1"))


@pytest.mark.parametrize("name", METHODS)
def test_one_model_of_two_classes_tells_planted_anomalies_in_each(name, tmp_path):
    method = fit_classes(name, tmp_path, 2)
    for number in range(2):
        features = features_of(method, N_TEST, 2, number)
        normal = score(method, features)
        plant(features)
        planted = score(method, features)
        areas = image_areas(
            np.concatenate([normal.images["paper"], planted.images["paper"]]), np.repeat([0, 1], N_TEST)
        )
        assert areas.auroc > 0.9
        assert planted.maps is None or np.isfinite(planted.maps).all()


@pytest.mark.parametrize("name", METHODS)
def test_description(name):
    found = find(name)
    assert found.title
    assert issubclass(found.settings_type, MethodSettings)
    assert all(field.description for field in found.settings_type.model_fields.values())
    for overrides in [
        *found.backbone_settings.values(),
        *(v for d in found.category_settings.values() for v in d.values()),
    ]:
        found.settings_type(**overrides)


def test_the_loss_descends(fitted):
    _, method, result = fitted
    losses = [row["loss"] for row in result.history]
    assert len(losses) == epochs_of(method.settings)
    assert all(math.isfinite(loss) for loss in losses)
    assert not losses or losses[-1] < losses[0]


def test_scores_have_their_shapes_and_a_planted_anomaly_is_found(fitted):
    name, method, _ = fitted
    features = features_of(method, N_TEST, 2)
    normal = score(method, features)
    assert normal.maps is None or normal.maps.shape == (N_TEST, *method.map_size)
    assert {values.shape for values in normal.images.values()} == {(N_TEST,)}
    plant(features, 0)
    planted = score(method, features)
    assert planted.images["paper"][0] > normal.images["paper"].max()
    if normal.maps is not None and not method.gradient_maps and name not in SEES_THE_WHOLE_IMAGE:
        rise = planted.maps[0] - normal.maps[0]
        row, column = np.unravel_index(rise.argmax(), method.map_size)
        assert max(row, column) < 0.44 * method.map_size[0]
    np.testing.assert_allclose(planted.images["paper"][1:], normal.images["paper"][1:], rtol=1e-5)


def test_whether_there_are_maps_is_known_beforehand(fitted):
    name, method, _ = fitted
    maps = method.score(tensors(features_of(method, 2, 2))).maps
    has_maps = maps is not None or method.gradient_maps is not None
    assert method.makes_maps(method.settings) == has_maps, name


def test_score_of_an_image_does_not_depend_on_its_batch(fitted):
    _, method, _ = fitted
    features = features_of(method, N_TEST, 2)
    together, alone = score(method, features), score(method, features, [3])
    if together.maps is not None:
        np.testing.assert_allclose(alone.maps[0], together.maps[3], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(alone.images["paper"][0], together.images["paper"][3], rtol=1e-4)


def draws(name, monkeypatch):
    """Whether building the method takes random numbers, of its generator or of torch's own."""
    moved, made = [], find(name).build

    def watched(self, generator):
        before = generator.get_state(), torch.get_rng_state()
        made(self, generator)
        after = generator.get_state(), torch.get_rng_state()
        moved.extend(not torch.equal(*states) for states in zip(before, after, strict=True))

    with monkeypatch.context() as patched:
        patched.setattr(find(name), "build", watched)
        build(name)
    return any(moved)


def test_seeds_reproduce(fitted, tmp_path, monkeypatch):
    """Equal seeds give equal scores; other seeds give others, unless the method takes no random numbers."""
    name, method, _ = fitted
    features, short = features_of(method, N_TEST, 2), {"epochs": 1} if epochs_of(method.settings) else {}
    models = [fit(name, tmp_path / str(number), seed, **short)[0] for number, seed in enumerate((0, 0, 1))]
    found = [score(model, features).images["paper"] for model in models]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2]) != draws(name, monkeypatch)


def test_state_survives_save_and_load(fitted, tmp_path):
    name, method, result = fitted
    save_kept(tmp_path / "kept.safetensors", result.kept)
    kept = load_kept(tmp_path / "kept.safetensors")
    assert list(kept) == list(result.kept)
    assert max(kept) == epochs_of(method.settings)
    features = features_of(method, N_TEST, 2)
    again = load_method(build(name, seed=5), kept[max(kept)])
    np.testing.assert_array_equal(score(again, features).maps, score(method, features).maps)
    np.testing.assert_array_equal(score(again, features).images["paper"], score(method, features).images["paper"])


def test_log_likelihood_is_higher_for_normal_images(fitted):
    _, method, _ = fitted
    normal, far = (features_of(method, N_TEST, 2) for _ in range(2))
    likelihood = method.log_likelihood(tensors(normal))
    if likelihood is None:
        return
    assert likelihood.shape == (N_TEST,)
    other = method.log_likelihood(plus(tensors(far), 3, 2))
    assert (likelihood > other).all()


def test_parameter_groups_cover_all_trainable_parameters(fitted):
    _, method, _ = fitted
    trainable = {id(parameter) for parameter in method.parameters() if parameter.requires_grad}
    counted = [id(parameter) for group in method.parameter_groups().values() for parameter in group]
    optimized = [id(parameter) for group in method.optimizer_groups() for parameter in group.parameters]
    for grouped in (counted, optimized):
        assert set(grouped) == trainable
        assert len(grouped) == len(trainable)


def test_latents_have_the_shapes_that_are_said(fitted):
    _, method, _ = fitted
    scores = method.score(tensors(features_of(method, 2, 2)))
    if scores.latents is not None:
        assert [tuple(z.shape[1:]) for z in scores.latents] == method.latent_shapes()


def test_representations_are_of_positions_and_known_without_an_import(fitted):
    name, method, _ = fitted
    with torch.inference_mode():
        steps = method.representations(tensors(features_of(method, 2, 2)))
    assert bool(steps) == (name in METHODS and plugin_defines(PACKAGE, name, "METHOD", MEMBERS, "Method"))
    for levels in zip(*steps.values(), strict=True):
        assert {(x.ndim, len(x), *x.shape[2:]) for x in levels} == {(4, 2, *levels[0].shape[2:])}


def test_every_invertible_step_inverts_and_knows_its_jacobian(fitted):
    name, method, _ = fitted
    method, calls = copy.deepcopy(method).double(), {}

    def remember(module, arguments, keywords):
        calls.setdefault(module, (arguments, keywords))

    for step in (module for module in method.modules() if isinstance(module, InvertibleModule)):
        step.register_forward_pre_hook(remember, with_kwargs=True)
    features = tensors(features_of(method, 1, 2)).map(lambda part: part.double() if part.is_floating_point() else part)
    with torch.no_grad():
        method.score(features)
    flat = {step: call for step, call in calls.items() if not isinstance(call[0][0], torch.Tensor)}  # no sequences
    if not flat:
        pytest.skip(f"{name} has no invertible step of FrEIA's kind")
    for step, (arguments, keywords) in flat.items():
        x = [value[:1].clone() for value in arguments[0]]
        condition = [value[:1] for value in (arguments[1] if len(arguments) > 1 else keywords.get("c", ()) or ())]
        check_step(step, x, {"c": condition} if condition else {})


def check_step(step, x, condition):
    y, log_det = step(x, **condition)
    back, inverse_log_det = step(list(y), rev=True, **condition)
    log_det, inverse_log_det = (torch.as_tensor(value).double().sum() for value in (log_det, inverse_log_det))
    for one, other in zip(back, x, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-7, rtol=1e-6)
    sizes = [value.numel() for value in x]
    if sum(sizes) > 600:
        return

    def flat(values):
        parts = [part.view_as(value) for part, value in zip(values.split(sizes), x, strict=True)]
        return torch.cat([out.flatten() for out in step(parts, **condition)[0]])

    jacobian = torch.autograd.functional.jacobian(flat, torch.cat([value.flatten() for value in x]))
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, log_det, atol=1e-6, rtol=1e-6)


def peak_memory(run):
    """Largest resident memory while ``run`` runs, beyond what was there before, in bytes."""
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        pytest.skip("the peak of resident memory cannot be reset on this system")
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier tests have freed counts neither for nor against this one
    before = resident("VmRSS")
    clear.write_text("5")
    run()
    return resident("VmHWM") - before


def resident(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def test_memory_of_scoring_does_not_grow_with_the_number_of_images(fitted):
    _, method, _ = fitted
    count = 256
    features = features_of(method, count, 3)
    score(method, features, range(64))
    few = peak_memory(lambda: score(method, features, range(64)))
    many = peak_memory(lambda: score(method, features))
    outputs = 3 * count * (math.prod(method.map_size) * 4 + 12 * sum(h * w for _, h, w in method.shapes))
    assert many < few + outputs + 8e6
