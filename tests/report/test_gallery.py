"""Pictures of the report: a map is shown beside its own image."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nfbench.core.seals import known_files
from nfbench.report.gallery import gallery
from nfbench.results.files import ImageScore, read_rows
from nfbench.results.record import read_record
from tests.made_up import MadeUp, relist, save_examples, spoil


def picture(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("L"))


@pytest.fixture
def made(tmp_path):
    return MadeUp(tmp_path, {"padim": "padim", "bgad": "bgad"}, ("bottle",), seeds=1, images=True).write()


def keep_examples(made, cell, index, suspect, bright):
    """Maps of images by number, white for the image ``bright``."""
    maps = np.stack([np.full((64, 64), float(number == bright), dtype=np.float32) for number in index])
    path = made.paths.run_record(cell).parent / "examples.npz"
    save_examples(path.parent, index, suspect, maps=maps)
    relist(path.with_name("run.json"))


def read_gallery(made, per_category=24):
    records = {cell: read_record(made.paths.run_record(cell)) for cell in made.cells}
    (shown,) = gallery(records, made.paths, per_category)
    return shown


def test_maps_of_runs_with_other_examples_lie_beside_their_images(made):
    whole, few = made.cells
    keep_examples(made, whole, [2, 1, 3, 0], [False, False, False, True], 3)
    keep_examples(made, few, [4, 3, 5], [False, False, True], 3)
    shown = read_gallery(made)
    drawn = {system["method"]: system["results"] for system in shown["systems"]}
    names = [image["name"] for image in shown["images"]]
    kept = {
        method: {name for name, (*_, url) in zip(names, results, strict=True) if url}
        for method, results in drawn.items()
    }
    assert kept == {"padim": {"000.png", "001.png", "002.png", "003.png"}, "bgad": {"003.png", "004.png", "005.png"}}
    for results in drawn.values():
        bright = [name for name, (*_, url) in zip(names, results, strict=True) if url and picture(url).mean() > 100]
        assert bright == ["003.png"]


def test_scores_and_places_are_those_of_the_runs(made):
    shown = read_gallery(made)
    for system in shown["systems"]:
        (cell,) = [cell for cell in made.cells if cell.method == system["method"]]
        scores = {Path(row.image).name: row.paper for row in read_rows(ImageScore, made.paths.run_record(cell).parent)}
        assert system["tested"] == len(scores) == 24
        for image, (score, place, _) in zip(shown["images"], system["results"], strict=True):
            assert score == pytest.approx(scores[image["name"]], rel=1e-4)
            assert place == 1 + sum(other > scores[image["name"]] for other in scores.values())


def test_worst_false_alarms_and_misses_of_each_method_come_before_other_images(made):
    for path in (made.folder / "images" / "bottle").glob("*.png"):
        path.unlink()
    made.n_pictures = 24
    made.write()
    few = {image["name"] for image in read_gallery(made, 8)["images"]}
    for cell in made.cells:
        rows = sorted(read_rows(ImageScore, made.paths.run_record(cell).parent), key=lambda row: row.paper)
        miss = next(row for row in rows if row.label)
        alarm = next(row for row in reversed(rows) if not row.label)
        assert {Path(miss.image).name, Path(alarm.image).name} <= few


def test_worst_images_are_those_of_all_tested_images_not_of_the_shown_ones(made):
    rows = {}
    for system in read_gallery(made)["systems"]:
        (cell,) = [cell for cell in made.cells if cell.method == system["method"]]
        ranked = sorted(read_rows(ImageScore, made.paths.run_record(cell).parent), key=lambda row: row.paper)
        rows[cell.method] = [row for row in ranked if row.label], [row for row in reversed(ranked) if not row.label]
    shown = read_gallery(made)
    names = [image["name"] for image in shown["images"]]
    assert len(names) == 6
    for system in shown["systems"]:
        misses, alarms = rows[system["method"]]
        assert system["separated"] == (misses[0].paper > alarms[0].paper)
        for key, ranked in (("misses", misses), ("alarms", alarms)):
            worst = [Path(row.image).name for row in ranked[:3]]
            assert [names[index] for index in system[key]] == [name for name in worst if name in names]


def test_the_number_of_images_is_limited(made):
    assert len(read_gallery(made, 2)["images"]) == 2
    assert gallery({cell: read_record(made.paths.run_record(cell)) for cell in made.cells}, made.paths, 0) == []


def test_all_maps_are_shown_where_a_run_kept_all(made):
    cell = made.cells[0]
    folder = made.paths.run_record(cell).parent
    maps = np.zeros((24, 8, 8), dtype=np.float16)
    maps[5] = 1
    np.save(folder / "maps.npy", maps)
    written = known_files(folder, ["scores.csv", "examples.npz", "maps.npy"])
    spoil(folder / "run.json", written={name: known.model_dump() for name, known in written.items()})
    shown = read_gallery(made)
    drawn = next(system["results"] for system in shown["systems"] if system["method"] == cell.method)
    bright = [
        image["name"] for image, (*_, url) in zip(shown["images"], drawn, strict=True) if picture(url).mean() > 100
    ]
    assert bright == ["005.png"]
