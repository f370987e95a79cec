"""Every metric meets its contract: direction, range, invariance, and its value where it is undefined."""

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import nfbench.metrics
from nfbench.core.registry import plugin_names
from nfbench.metrics import BY_RULE, PACKAGE, families, known_metrics
from nfbench.metrics._inputs import label_regions
from nfbench.metrics._ranking import RankedScores
from nfbench.metrics._spro import Channel
from nfbench.metrics._tails import NormalScores
from nfbench.scoring.evaluate import ScoredSet
from nfbench.scoring.maps import ScoredImages

SIZE = 12
MEASURED = [named for named in known_metrics().values() if not named.transductive]
NAMES = [named.name for named in MEASURED]


class Truth:
    """Labels and masks at the size of the maps: two regions in each anomalous image."""

    has_masks = has_channels = True

    def __init__(self, labels):
        self.labels = np.array(labels)
        kinds = ("logical_anomalies", "structural_anomalies")
        self.entries = [
            SimpleNamespace(
                label=label, defect=kinds[number % 2] if label else "good", image=f"part_{number:04}_OK_C1_0.jpg"
            )
            for number, label in enumerate(labels)
        ]
        mask = np.zeros((SIZE, SIZE), dtype=int)
        mask[2:5, 2:5] = mask[7:10, 6:11] = 1
        self.regions = [label_regions(mask) if label else None for label in labels]

    def rank(self, maps, folder=None):
        ranked = RankedScores(len(self.labels) * SIZE * SIZE)
        for score_map, regions in zip(maps, self.regions, strict=True):
            ranked.add(score_map, regions)
        return ranked

    def resized(self, maps):
        yield from maps

    def channels(self):
        """Each region is a channel that is found with half of its pixels."""
        for regions in self.regions:
            masks = [] if regions is None else [regions == number for number in range(1, regions.max() + 1)]
            yield [Channel(mask, int(mask.sum()) // 2) for mask in masks]

    def masks(self):
        return [np.zeros((SIZE, SIZE), dtype=bool) if regions is None else regions > 0 for regions in self.regions]


def scored_set(labels=(0, 1, 0, 1, 1, 0), *, quality=0.0, seed=0, change=lambda scores: scores):
    """A test set whose maps and image scores rise with the truth by ``quality``; all of its scores go through
    ``change``, and its log-NFA maps are such that NFA < 1 and NFA < 1e-6 are where the maps were above 0 and 0.5."""
    rng, truth = np.random.default_rng(seed), Truth(labels)
    noise = rng.uniform(-1, 1, (len(labels), SIZE, SIZE))
    maps = noise + quality * (2.0 * np.stack(truth.masks()) - 1)
    images = {rule: change(rng.uniform(-1, 1, len(labels)) + quality * (2.0 * truth.labels - 1)) for rule in BY_RULE}
    normal = change(np.full((20, SIZE, SIZE), 1.0 - abs(quality)))
    scores = change(maps).astype(np.float32)
    rarity = (change(maps) - change(0.0)) / (change(0.5) - change(0.0))
    log_nfa = {name: (-6 * rarity).astype(np.float32) for name in ("nfa", "nfa_guard")}
    return ScoredSet(
        ScoredImages(scores, images), truth, lambda: NormalScores.of_maps(normal.astype(np.float32)), log_nfa
    )


def value(named, test):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # areas of one class
        return named.metric.value(test, named.variant)


def test_names_are_unique_and_say_nothing_that_a_function_is_called():
    """A module of a package hides an attribute of the package with the same name."""
    assert len(known_metrics()) == sum(map(len, families().values()))
    assert not set(plugin_names(PACKAGE)) & set(nfbench.metrics.__all__)


def test_the_public_functions_are_there():
    assert all(getattr(nfbench.metrics, name) is not None for name in nfbench.metrics.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        nfbench.metrics.nothing  # noqa: B018


@pytest.mark.parametrize("named", MEASURED, ids=NAMES)
def test_texts_fit_a_caption(named):
    assert named.title == named.title.strip(" .") != ""
    assert "\n" not in named.title + named.short + named.metric.note + named.metric.size


@pytest.mark.parametrize("named", MEASURED, ids=NAMES)
def test_a_perfect_ranking_is_best_and_the_reverse_is_worst(named):
    best, worst = (value(named, scored_set(quality=quality)) for quality in (3, -3))
    some = [value(named, scored_set(quality=0.3, seed=seed)) for seed in range(3)]
    assert named.sign * best >= named.sign * max(some, key=lambda found: named.sign * found)
    if named.family != "miss_rate":  # a threshold that follows from the reverse may mark all, and so miss nothing
        assert named.sign * best > named.sign * worst
        if math.isfinite(named.metric.unit.largest):  # one large region is a lower count than many small ones
            assert named.sign * worst <= named.sign * min(some, key=lambda found: named.sign * found)
    assert best == pytest.approx(named.metric.unit.largest if named.sign > 0 else 0, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("named", MEASURED, ids=NAMES)
def test_values_are_in_the_range_of_the_unit(named, seed):
    found = value(named, scored_set(quality=0.1 * seed, seed=seed))
    assert -1e-12 <= found <= named.metric.unit.largest + 1e-12


@pytest.mark.parametrize("change", [np.exp, lambda s: np.power(s, 3), lambda s: 7 * s - 3], ids=["exp", "cube", "line"])
@pytest.mark.parametrize("named", MEASURED, ids=NAMES)
def test_increasing_functions_of_all_scores_change_nothing(named, change):
    plain, changed = scored_set(quality=0.3), scored_set(quality=0.3, change=change)
    assert value(named, changed) == pytest.approx(value(named, plain), abs=1e-12)


@pytest.mark.parametrize("named", [n for n in MEASURED if n.metric.threshold], ids=lambda named: named.name)
def test_a_chosen_threshold_is_finite(named):
    assert math.isfinite(named.metric.threshold(scored_set(quality=0.3), named.variant))


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("named", MEASURED, ids=NAMES)
def test_one_class_gives_nan_or_a_value_in_the_range(named, label):
    found = value(named, scored_set([label] * 4))
    assert math.isnan(found) or 0 <= found <= named.metric.unit.largest
    if named.metric.variants is BY_RULE:
        assert math.isnan(found)


@pytest.mark.parametrize("named", MEASURED, ids=NAMES)
def test_what_is_not_there_is_not_measured(named):
    test = scored_set()
    assert test.measures(named)
    test.truth.has_masks = False
    assert test.measures(named) == (not named.metric.needs_masks)
    test.truth.has_masks, test._log_nfa = True, {}
    assert test.measures(named) == (not named.metric.needs_latents)


@pytest.mark.parametrize("named", MEASURED, ids=NAMES)
def test_it_says_whether_its_threshold_is_from_normal_images(named):
    """With low normal scores, all pixels are above the threshold; with high ones, none is."""

    def with_normal(level):
        test = scored_set(quality=0.3)
        test._normal = lambda: NormalScores.of_maps(np.full((20, SIZE, SIZE), level, dtype=np.float32))
        return value(named, test)

    assert (with_normal(-1e9) != with_normal(1e9)) == named.metric.needs_normal


@pytest.mark.parametrize("named", MEASURED, ids=NAMES)
def test_what_it_needs_is_all_that_it_asks_for(named):
    """Without masks and latents, metrics that do not need them give the same value."""
    test, bare = scored_set(quality=0.3), scored_set(quality=0.3)
    if not named.metric.needs_latents:
        bare._log_nfa = {}
    if not named.metric.needs_masks:
        bare.truth.regions = None
    assert value(named, bare) == value(named, test)
