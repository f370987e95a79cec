"""Predictions equal the evaluation's, for any batch of images, and write the documented files."""

import csv
import io
import itertools
import json
import random
import shutil
from contextlib import chdir

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from nfbench.cli import app
from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import read_manifest
from nfbench.inference.decisions import Decisions
from nfbench.inference.images import Given, find_images, watched
from nfbench.inference.load import load_model
from nfbench.inference.output import COLUMNS
from nfbench.inference.predict import predict
from nfbench.results.files import ImageScore, read_rows
from tests.inference.conftest import METHODS

CPU = torch.device("cpu")


def run(runs, *arguments, code=0, stdin=None):
    """The command in the folder of the runs; what it printed to both."""
    with chdir(runs.folder):
        done = CliRunner().invoke(app, ["predict", *map(str, arguments)], input=stdin)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


def table_of(folder):
    with open(folder / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def images_of(runs, method):
    return [
        entry.image for entry in read_manifest(runs.folder / runs.record(method).data.manifest) if entry.split == "test"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_scores_are_those_of_the_evaluation_bit_for_bit(runs, method):
    """In any order, with other images, alone, and with a file that is not an image."""
    known = {row.image: np.float32(row.paper) for row in read_rows(ImageScore, runs.of(method))}
    broken = runs.folder / "broken.png"
    broken.write_bytes(b"no image")
    with chdir(runs.folder):
        model = load_model(runs.of(method), CPU)
        decisions = Decisions.of(model.thresholds, "sigma")
        images = [*known, str(broken)]
        random.Random(0).shuffle(images)
        for asked in (images, images[:1] if images[0] != str(broken) else images[1:2]):
            found = list(predict(model, decisions, [Given(path, "name.png") for path in asked]))
            assert [one.given.path for one in found] == asked
            for one in found:
                if one.given.path == str(broken):
                    assert one.score is None
                    assert "broken.png" in one.error
                else:
                    assert np.float32(one.score) == known[one.given.path]
                    assert one.anomalous == (one.score > decisions.image)


def test_normal_images_are_known_with_their_scores(runs):
    """Held-out ones of a flow, all of a fitted method; scores of the former are those of the model."""
    for method, source, count in (("fastflow", "held out", 3), ("padim", "cross-fitted", 10)):
        model = load_model(runs.of(method), CPU)
        assert (model.thresholds.source, len(model.thresholds.images)) == (source, count)
    with chdir(runs.folder):
        model = load_model(runs.of("fastflow"), CPU)
        asked = [Given(one.image, "n") for one in model.thresholds.images]
        decisions = Decisions.of(model.thresholds, "sigma")
        found = list(predict(model, decisions, asked))
    assert [np.float32(one.score) for one in found] == model.thresholds.scores.tolist()
    for one, known in zip(found, model.thresholds.images, strict=True):
        assert known.largest == pytest.approx(one.score_map.max(), rel=1e-3)  # the map is enlarged
    assert [one.p_value for one in found] == [
        (1 + sum(other.score >= one.score for other in found)) / 4 for one in found
    ]


def test_rows_and_pictures(runs, tmp_path):
    images = images_of(runs, "uflow")
    run(runs, runs.of("uflow"), *images, "--output", tmp_path / "out", "--rule", "sigma", "--sigmas", "0.5",
        "--masks", "--heatmaps", "tiff", "--overlays")  # fmt: skip
    rows = table_of(tmp_path / "out")
    assert tuple(rows[0]) == COLUMNS
    assert [row["image"] for row in rows] == images
    model = load_model(runs.of("uflow"), CPU)
    decisions = Decisions.of(model.thresholds, "sigma", sigmas=0.5)
    assert any(row["boxes"] for row in rows)
    for row in rows:
        with chdir(runs.folder):
            size = Image.open(row["image"]).size
        mask, values = np.array(Image.open(row["mask"])), np.array(Image.open(row["heatmap"]))
        assert mask.shape == values.shape == size[::-1]
        assert values.dtype == np.float32
        np.testing.assert_array_equal(mask, 255 * (values > decisions.pixel))
        assert float(row["largest"]) == values[int(row["row"]), int(row["column"])] == values.max()
        assert float(row["area"]) == pytest.approx((mask > 0).mean())
        assert int(row["regions"]) == len(row["boxes"].split(";") if row["boxes"] else [])
        boxed = np.zeros_like(mask)
        for left, top, right, bottom in (map(int, box.split()) for box in filter(None, row["boxes"].split(";"))):
            boxed[top:bottom, left:right] = 255
        assert not ((mask > 0) & (boxed == 0)).any()
        assert row["decision"] == ("anomalous" if float(row["score"]) > float(row["threshold"]) else "normal")
        overlay = Image.open(row["overlay"])
        assert overlay.width == size[0]
        assert overlay.height > size[1]


def test_folders_patterns_lists_and_names(runs, tmp_path):
    source = images_of(runs, "padim")[:2]
    parts = tmp_path / "parts"
    for name in ("b/1.png", "a/1.png", "a/deep/2.PNG", "a/notes.txt", ".hidden/3.png"):
        (parts / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(runs.folder / source[0], parts / name)
    assert [one.name for one in find_images([str(parts)])] == ["a/1.png", "a/deep/2.PNG", "b/1.png"]
    assert [one.path for one in find_images([f"{parts}/**/1.png"])] == [f"{parts}/a/1.png", f"{parts}/b/1.png"]
    both = [one.name for one in find_images([str(parts / "a"), str(parts / "b")])]
    assert len(set(both)) == 3
    assert all(not name.startswith(("/", "..")) for name in both)
    (odd,) = find_images(["../x.jpg"])
    assert odd.name == "x.jpg.png"
    done = run(runs, runs.of("padim"), "-", "--output", "-", "--rule", "sigma", stdin="\n".join(source))
    assert [row["image"] for row in csv.DictReader(io.StringIO(done.stdout))] == source
    for nothing in (tmp_path / "empty", tmp_path / "*.bmp"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(NfbenchError, match="no image"):
            list(find_images([str(nothing)]))


def test_json_lines_and_exit_codes(runs, tmp_path):
    run_folder = runs.of("patchcore")
    image = max(read_rows(ImageScore, run_folder), key=lambda row: row.paper).image
    done = run(runs, run_folder, image, "missing.png", "--output", tmp_path, "--json", "--rule", "sigma", code=1)
    first, second = map(json.loads, (tmp_path / "predictions.jsonl").read_text().splitlines())
    assert first["boxes"] is not None
    assert first["error"] is None
    assert (second["score"], second["decision"]) == (None, None)
    assert "missing.png" in second["error"]
    assert "2 images" in done.stderr
    assert "1 could not be read" in done.stderr
    run(runs, run_folder, image, "--output", tmp_path, "--json", code=2)  # they are there
    run(runs, run_folder, image, "--output", "-", "--masks", code=2)
    run(runs, run_folder, image, "--output", tmp_path, "--watch", "--json", "--overwrite", image, code=2)
    run(runs, run_folder, image, "--output", tmp_path, "--rule", "nonsense", code=2)
    always = ("--output", "-", "--rule", "quantile", "--alpha", "0.99", "--fail-on-anomaly")
    assert run(runs, run_folder, image, *always, code=3).stdout


def test_what_cannot_be_decided_is_said(runs, tmp_path):
    image = images_of(runs, "padim")[0]
    with pytest.raises(NfbenchError, match=r"10 held-out normal images are too few .* use '--alpha 0.091'"):
        run(runs, runs.of("padim"), image, "--output", tmp_path / "a")
    run(runs, runs.of("padim"), image, "--output", tmp_path / "a", "--alpha", "0.091")
    with pytest.raises(NfbenchError, match="'PaDiM' has no white latents, which the rule 'nfa' needs"):
        run(runs, runs.of("padim"), image, "--output", tmp_path / "b", "--rule", "nfa")
    run(runs, runs.of("uflow"), image, "--output", tmp_path / "c", "--rule", "nfa", "--heatmaps", "png")
    (row,) = table_of(tmp_path / "c")
    assert row["threshold"] == ""
    assert row["decision"] == ("anomalous" if int(row["regions"]) else "normal")


def test_runs_that_cannot_be_used_are_named(runs, tmp_path):
    with pytest.raises(NfbenchError, match="is not a finished run"):
        load_model(tmp_path, CPU)
    copy = tmp_path / "run"
    shutil.copytree(runs.of("padim"), copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(NfbenchError, match=r"model\.safetensors is missing: the run kept no model; set 'keep_models"):
        load_model(copy, CPU)
    shutil.copy(runs.of("padim") / "model.safetensors", copy)
    whole = (copy / "thresholds.json").read_text()
    (copy / "thresholds.json").write_text(whole.replace("cross-fitted", "held out"))
    with pytest.raises(NfbenchError, match=r"thresholds\.json has changed"):
        load_model(copy, CPU).thresholds  # noqa: B018
    (copy / "thresholds.json").write_text(whole)
    assert load_model(copy / "run.json", CPU).thresholds.source == "cross-fitted"


def test_images_are_read_as_they_are_asked_for(runs):
    """An endless stream: what is read ahead is bounded."""
    image, read = images_of(runs, "fastflow")[0], []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield Given(image, f"{number}.png")

    with chdir(runs.folder):
        model = load_model(runs.of("fastflow"), CPU)
        found = predict(model, Decisions.of(model.thresholds, "sigma"), endless(), batch_size=4, threads=2)
        scores = [one.score for one in itertools.islice(found, 40)]
        found.close()
    assert len(set(scores)) == 1
    assert len(read) <= 40 + 4 + 2 * 2 + 1


def test_a_watched_folder_gives_each_image_once_it_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("nfbench.inference.images.time.sleep", lambda _: None)
    looks, growing = watched(str(tmp_path), 1.0), tmp_path / "deep" / "b.png"
    assert next(looks) == []
    (tmp_path / "a.png").write_bytes(b"1")
    assert next(looks) == []
    growing.parent.mkdir()
    growing.write_bytes(b"1")
    assert [one.name for one in next(looks)] == ["a.png"]
    growing.write_bytes(b"12")
    assert next(looks) == []
    assert [one.name for one in next(looks)] == ["deep/b.png"]
    assert next(looks) == []
    with pytest.raises(NfbenchError, match="needs a folder"):
        next(watched(str(tmp_path / "a.png"), 1.0))


def test_watching_ends_with_control_c(runs, tmp_path, monkeypatch):
    folder, looks = tmp_path / "in", itertools.count()
    folder.mkdir()

    def sleep(_):
        look = next(looks)
        if look == 0:
            shutil.copy(runs.folder / images_of(runs, "padim")[0], folder / "new.png")
        if look > 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("nfbench.inference.images.time.sleep", sleep)
    done = run(runs, runs.of("padim"), folder, "--watch", "--output", tmp_path / "out", "--rule", "sigma")
    assert f"{folder}/new.png: " in done.stderr
    assert [row["image"] for row in table_of(tmp_path / "out")] == [f"{folder}/new.png"]
