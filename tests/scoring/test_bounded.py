"""An evaluation whose arrays lie in files gives the same bits as one in memory, and its memory does not grow."""

import gc
import math
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, Scores, build_method, resolve_settings
from nfbench.core import scratch
from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import file_sha256
from nfbench.datasets._manifest import Entry
from nfbench.metrics import _ranking as ranking
from nfbench.results.artifacts import write_artifacts
from nfbench.scoring.evaluate import GroundTruth, ScoredSet, evaluate
from nfbench.scoring.maps import ScoredImages, log_nfa_maps, score_images, score_normal
from nfbench.scoring.protocol import Views, measure, score_views

CPU = torch.device("cpu")
SHAPES = [LevelShape(6, 8, 8), LevelShape(8, 4, 4)]
SIZE = (48, 64)
FILES = ("scores.csv", "by_image.csv", "regions.csv", "miou.csv", "calibration.csv", "examples.npz")


@pytest.fixture
def small_limits(monkeypatch):
    def apply():
        monkeypatch.setattr(scratch, "LARGE", 0)
        monkeypatch.setattr(scratch, "_PART", 60_000)
        monkeypatch.setattr(ranking, "_IN_MEMORY", 10_000)
        monkeypatch.setattr(ranking, "_MERGED", 4000)
        monkeypatch.setattr(ranking, "_STEP", 50)

    return apply


def truth_of(folder, count):
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[4:20, 8:24] = mask[30:33, 40:60] = 255
    path = folder / "mask.png"
    Image.fromarray(mask).save(path)
    rows = [(str(path), file_sha256(path)) if n % 2 else ("", "") for n in range(count)]
    return GroundTruth(
        [Entry("test", n % 2, "dent", f"{n}.png", mask, *SIZE, "", found) for n, (mask, found) in enumerate(rows)]
    )


def views(n_test):
    rng = np.random.default_rng(0)
    levels = [[rng.normal(size=(n, *shape)).astype(np.float16) for shape in SHAPES] for n in (41, n_test)]
    for level in levels[1]:
        level[1::2, :, : level.shape[2] // 2, : level.shape[2] // 2] += 2
    return Views(*map(Features, levels))


def build(name):
    few = {"coupling_blocks": 2} if name == "cflow" else {} if name == "padim" else {"flow_steps": 2}
    method = build_method(name, SHAPES, resolve_settings(name, overrides=few), (32, 32), 0).eval()
    passes = lambda: [views(2).normal.map(lambda level: torch.from_numpy(level).float())]  # noqa: E731
    method.prepare(passes)
    method.calibrate(passes)
    return method


@pytest.mark.parametrize("held_out", [[], [2, 3, 30, 17]], ids=["all", "held out"])
@pytest.mark.parametrize("name", ["uflow", "fastflow", "cflow", "padim"])
def test_files_change_no_bit(tmp_path, small_limits, name, held_out):
    """CFLOW-AD is scored as published too, and PaDiM has no latents."""
    truth, seen, found = truth_of(tmp_path, 35), views(35), []
    for folder in (None, tmp_path / "run"):
        if folder:
            small_limits()
        scored = measure(score_views(build(name), seen, CPU, held_out, folder=folder), truth, folder=folder)
        assert isinstance(scored.test.maps, np.memmap) == (folder is not None)
        target = tmp_path / f"written{len(found)}"
        write_artifacts(target, scored, truth.entries)
        found.append((scored, [(target / file).read_bytes() for file in FILES]))
    (memory, written), (files, written_again) = found
    assert written == written_again
    assert files.evaluation.metrics == memory.evaluation.metrics
    assert files.evaluation.thresholds == memory.evaluation.thresholds
    assert (files.contour, files.source) == (memory.contour, memory.source)
    np.testing.assert_array_equal(files.test.maps, memory.test.maps)
    for one, other in zip(files.normal_energies, memory.normal_energies, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not list((tmp_path / "run").iterdir())


def scored_set(folder, count):
    """Noise of which the defects stand out, as files that can only be read; see ``numpy.memmap``."""
    rng = np.random.default_rng(0)
    maps, energies = rng.random((count, 32, 32), dtype=np.float32), rng.chisquare(8, (count, 8, 8))
    energies[1::2, 1:3, 1:3] *= 5
    for name, values in (("maps", maps), ("energies", energies)):
        np.save(folder / f"{name}.npy", values)
    maps, energies = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("maps", "energies"))
    images = {rule: maps.max((1, 2)) for rule in ("paper", "max", "mean", "top1")}
    return ScoredImages(maps, images, (energies,), (8,))


@pytest.mark.filterwarnings("error")
def test_maps_and_energies_may_be_files_that_can_only_be_read(tmp_path):
    scored, truth = scored_set(tmp_path, 12), truth_of(tmp_path, 12)
    normal = score_normal_of(scored.maps)
    kept = scored._replace(maps=np.array(scored.maps), energies=tuple(map(np.array, scored.energies)))
    first, second = (evaluate(one, truth, normal, log_nfa_maps(one)) for one in (scored, kept))
    assert first.metrics == second.metrics


def score_normal_of(maps):
    return score_normal(AsTheyAre(), Features([maps[:, None]]), CPU).scores


class AsTheyAre:
    """Maps are the features."""

    title, gradient_maps = "As they are", None

    def score(self, features):
        maps = features.levels[0][:, 0]
        return Scores(maps, maps.amax((1, 2)))


def test_memory_does_not_grow_with_the_test_set(tmp_path, small_limits, monkeypatch):
    """What grows is a sixteenth of a map, masks of one bit per pixel and what is known of each image."""
    small_limits()
    monkeypatch.setattr(ranking, "_CHUNK", 8000)
    peaks: dict[int, float] = {}
    for count in (20, 20, 100, 100):  # the lower one counts: the other has what is imported or kept for good
        scored, truth = scored_set(tmp_path, count), truth_of(tmp_path, count)
        normal = score_normal_of(scored.maps)
        gc.collect()
        tracemalloc.start()
        evaluate(scored, truth, normal, log_nfa_maps(scored, tmp_path), folder=tmp_path)
        peaks[count] = min(peaks.get(count, math.inf), tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    pixels, of_maps = 80 * SIZE[0] * SIZE[1], 80 * 32 * 32
    grown = peaks[100] - peaks[20]
    assert grown < of_maps / 16 * 4 + 80 * 2_000, f"{grown} bytes more"
    assert grown < (8 * pixels + 12 * of_maps) / 20  # of what lies in files


def test_normal_images_leave_no_maps(small_limits, tmp_path):
    """The first batch says how large the largest pixels of all are; no batch after it takes more."""
    small_limits()
    peaks = []
    for count in (160, 160, 800):
        features = Features([np.random.default_rng(0).random((count, 1, 64, 64), dtype=np.float32)])
        tracemalloc.start()
        tail = score_normal(AsTheyAre(), features, CPU, folder=tmp_path).scores.tail
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        maps = features.levels[0][:, 0]
        np.testing.assert_array_equal(tail.values, np.sort(maps, axis=None)[::-1][: len(tail.values)])
    assert peaks[-1] - peaks[1] < 640 * 64 * 64 * 4 / 20


def test_image_scores_are_the_same_part_by_part(small_limits, tmp_path):
    rng = np.random.default_rng(0)
    features = Features([rng.normal(size=(100, 1, 40, 40)).astype(np.float32)])
    whole = score_images(AsTheyAre(), features, CPU).images
    small_limits()
    in_parts = score_images(AsTheyAre(), features, CPU, folder=tmp_path).images
    assert {rule: scores.tolist() for rule, scores in in_parts.items()} == {
        rule: scores.tolist() for rule, scores in whole.items()
    }


def test_no_file_is_left_after_an_error(small_limits, tmp_path):
    small_limits()
    values = np.zeros((40, 1, 8, 8), dtype=np.float32)
    values[33, 0, 2, 2] = np.nan
    for function in (score_images, score_normal):
        with pytest.raises(NfbenchError, match="of 1 images are not finite, first image 33"):
            function(AsTheyAre(), Features([values]), CPU, folder=tmp_path / "run")
    assert not list(tmp_path.glob("run/*"))


def test_regions_are_labelled_when_they_are_asked_for(tmp_path):
    truth = truth_of(tmp_path, 4)
    assert [regions if regions is None else regions.max() for regions in truth.regions] == [None, 2, None, 2]
    assert (len(truth.regions), truth.n_regions) == (4, 4)
    assert [int(mask.sum()) for mask in truth.masks()] == [0, 16 * 16 + 3 * 20] * 2


def test_a_set_asks_for_the_pixels_of_one_map_at_a_time(tmp_path, small_limits):
    small_limits()
    scored, truth = scored_set(tmp_path, 12), truth_of(tmp_path, 12)
    test = ScoredSet(scored, truth, lambda: None, log_nfa_maps(scored, tmp_path), tmp_path)
    first = test._rank("score")
    assert test._rank("score") is first
    assert test._rank("nfa") is not first
