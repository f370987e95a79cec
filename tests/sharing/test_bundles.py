"""Bundles hold records, scores and ledger, and nothing in them is trusted; merging refuses what contradicts."""

import json
import re
import shutil
import zipfile
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest

from nfbench.core.archive import MANIFEST
from nfbench.core.errors import NfbenchError
from nfbench.core.seals import seal_of
from nfbench.results.aggregate import read_results
from nfbench.sharing.merge import MERGED, MergedRecord, merge
from tests.conftest import ROOT
from tests.in_process import run_nfbench
from tests.made_up import MadeUp
from tests.report.reading import embedded

METHODS = {"uflow": "uflow", "fastflow": "fastflow"}
CATEGORIES = ("bottle", "cable", "carpet", "grid")


def made_up(folder: Path, categories=CATEGORIES, **values) -> MadeUp:
    folder.mkdir()
    return MadeUp(folder, METHODS, categories, images=True, **values).write()


def bundled(made: MadeUp, path: Path) -> Path:
    run_nfbench(made.folder, "bundle", "made_up", "--output", str(path))
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Bundles of two halves of an experiment, and of the whole."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, categories in (("ann", CATEGORIES[:2]), ("bob", CATEGORIES[2:]), ("whole", CATEGORIES)):
        bundled(made_up(folder / name, categories), folder / f"{name}.nfbundle")
    return folder


@pytest.fixture
def ann(base):
    return base / "ann.nfbundle"


@pytest.fixture
def bob(base):
    return base / "bob.nfbundle"


@pytest.fixture
def whole(base):
    return base / "whole.nfbundle"


def rewritten(path: Path, target: Path, change) -> Path:
    """A bundle whose files were changed and whose manifest was made again to match."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    manifest = json.loads(files.pop(MANIFEST))
    manifest["written"] = {n: {"size": len(v), "sha256": sha256(v).hexdigest()} for n, v in files.items()}
    manifest["seal"] = seal_of(manifest)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in {**files, MANIFEST: json.dumps(manifest).encode()}.items():
            archive.writestr(name, content)
    return target


def with_changed_runs(path: Path, target: Path, change) -> Path:
    """A bundle with a change of the values of each run record."""

    def change_all(files):
        for name in (name for name in files if name.endswith("run.json")):
            values = json.loads(files[name])
            change(values)
            files[name] = json.dumps({**values, "seal": seal_of(values)}).encode()

    return rewritten(path, target, change_all)


def test_images_models_and_maps_stay_at_home(ann):
    with zipfile.ZipFile(ann) as archive:
        names = archive.namelist()
    runs = {name.rpartition("/")[2] for name in names if name.startswith("runs/")}
    assert {"run.json", "scores.csv", "training.json", "history.csv"} == runs
    assert {"ledger.csv", "experiment.json", MANIFEST, "manifests/mvtec_ad/bottle.csv"} <= set(names)
    assert all(Path(name).suffix in (".json", ".csv") for name in names)


def test_equal_results_give_equal_bytes(base, ann, tmp_path):
    again = tmp_path / "again.nfbundle"
    run_nfbench(base / "ann", "bundle", "made_up", "--output", str(again))
    assert again.read_bytes() == ann.read_bytes()


def test_a_bundle_says_which_runs_it_has_and_warns_of_absolute_paths(base, tmp_path):
    said = run_nfbench(base / "ann", "bundle", "made_up", "--output", str(tmp_path / "a.nfbundle"))
    assert "a.nfbundle: 8 of 8 runs" in said
    assert f"names images by absolute paths such as {base / 'ann' / 'images'}" in said


def test_two_halves_are_the_whole(ann, bob, whole, tmp_path):
    """Tables and results of the merged halves are those of one machine that ran everything."""
    halves, one = merge([ann, bob], tmp_path / "halves", 0), merge([whole], tmp_path / "one", 0)
    results = [read_results(tmp_path / name / "experiments/made_up/results.parquet") for name in ("halves", "one")]
    assert list(results[0].pop("bundle").unique()) == ["ann", "bob"]
    assert list(results[1].pop("bundle").unique()) == ["whole"]
    pd.testing.assert_frame_equal(*results)
    for spec in halves.tables:
        written = [tmp_path / name / "tables/made_up" / f"{spec.name}.csv" for name in ("halves", "one")]
        assert written[0].read_text() == written[1].read_text()
    assert halves.holes == one.holes == ()
    html = (tmp_path / "halves/tables/made_up/made_up_image_auroc.html").read_text()
    assert "Merged from bundles: ann (8 runs), bob (8 runs)." in html


def test_the_whole_has_the_values_of_the_machine_that_ran_it(base, whole, tmp_path):
    merge([whole], tmp_path / "merged", 0)
    run_nfbench(base / "whole", "aggregate_results", "made_up")
    run_nfbench(base / "whole", "build_table", "made_up")
    for name in ("made_up_image_auroc", "made_up_pixel_auroc", "made_up_methods"):
        files = [folder / "tables/made_up" / f"{name}.csv" for folder in (tmp_path / "merged", base / "whole/results")]
        assert files[0].read_text() == files[1].read_text()


def test_the_provenance_of_each_run_is_marked(ann, bob, tmp_path):
    merged = merge([ann, bob], tmp_path / "merged", 0)
    data = embedded(merged.report.read_text())
    assert data["remark"] == "Merged from bundles: ann (8 runs), bob (8 runs)."
    found = {(data["categories"][run["category"]][1], data["texts"][run["bundle"]]) for run in data["runs"]}
    assert found == {("bottle", "ann"), ("cable", "ann"), ("carpet", "bob"), ("grid", "bob")}
    ledger = pd.read_csv(tmp_path / "merged/experiments/made_up/ledger.csv")
    assert dict(zip(ledger.category, ledger.bundle, strict=True)) == dict(found)
    record = json.loads((tmp_path / "merged" / MERGED).read_text())
    assert record.pop("seal") == seal_of(record)
    assert MergedRecord.model_validate(record) == merged.record
    assert {name: source.runs for name, source in merged.record.bundles.items()} == {"ann": 8, "bob": 8}


def test_no_word_of_pictures_that_a_bundle_cannot_have(ann, tmp_path, caplog):
    merge([ann], tmp_path / "merged", 0)
    assert not caplog.records


def test_links_of_the_report_lead_to_files(ann, bob, tmp_path):
    merged = merge([ann, bob], tmp_path / "merged", 0)
    data = embedded(merged.report.read_text())
    cell = next(iter(merged.record.runs))
    assert (merged.report.parent / data["links"]["runs"] / cell / "run.json").is_file()
    assert all((merged.report.parent / file).is_file() for file in data["links"]["files"])


def test_runs_that_agree_are_counted_once(ann, whole, tmp_path):
    merged = merge([ann, whole], tmp_path / "merged", 0)
    assert {name: source.runs for name, source in merged.record.bundles.items()} == {"ann": 8, "whole": 8}
    assert merged.record.repeated.keys() == {cell for cell, name in merged.record.runs.items() if name == "ann"}
    assert all(others == {"whole": 0.0} for others in merged.record.repeated.values())


def shift(amount):
    def change(values):
        values["selections"]["last"]["metrics"]["image_auroc"] -= amount

    return change


def test_contradictory_runs_are_refused_and_small_differences_are_recorded(ann, tmp_path):
    changed, output = with_changed_runs(ann, tmp_path / "changed.nfbundle", shift(0.01)), tmp_path / "merged"
    said = r"bottle/uflow/\S+/seed0: image_auroc \(last\) is 0\.\d+ and 0\.\d+ in ann and changed; .*; 5 more$"
    with pytest.raises(NfbenchError, match=said) as caught:
        merge([ann, changed], output, 0.001)
    assert "\n" not in str(caught.value)
    assert not output.exists()
    merged = merge([ann, changed], output, 0.011)
    assert {round(others["changed"], 6) for others in merged.record.repeated.values()} == {0.01}


def remove_value(values):
    values["selections"]["last"]["metrics"]["image_auroc"] = None


def set_epochs(values):
    values["settings"]["epochs"] = 999


def set_weights(values):
    values["features"]["recipe"]["weights_sha256"] = "0" * 64


def set_title(values):
    values["cell"]["title"] = "Another"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove_value, r"bottle/uflow/\S+: image_auroc \(last\) is 0\.\d+ and missing in ann and changed"),
        (set_epochs, r"bottle/uflow/\S+: ann and changed have different settings: epochs is (?!999)\w+ and 999"),
        (set_weights, r"resnet18\S+: ann and changed have different features: weights_sha256 is"),
        (set_title, "one-class/uflow: ann and changed have different names: title is uflow and Another"),
    ],
)
def test_what_must_be_equal_is_compared_at_any_tolerance(ann, tmp_path, change, said):
    changed = with_changed_runs(ann, tmp_path / "changed.nfbundle", change)
    with pytest.raises(NfbenchError, match=said):
        merge([ann, changed], tmp_path / "merged", 1e9)


def test_other_images_are_refused(ann, tmp_path):
    other = bundled(made_up(tmp_path / "other", CATEGORIES[:1], n_pictures=4), tmp_path / "other.nfbundle")
    with pytest.raises(NfbenchError, match=r"bottle: ann and other have different images: test image \w{12} is"):
        merge([ann, other], tmp_path / "merged", 0)


def test_experiments_that_differ_are_refused(ann, tmp_path):
    made = made_up(tmp_path / "other", CATEGORIES[2:])
    text = made.experiment_file.read_text()
    made.experiment_file.write_text(text.replace("metric: pixel_auroc", "metric: pixel_ap"))
    other = bundled(made, tmp_path / "other.nfbundle")
    with pytest.raises(NfbenchError, match="define the experiment differently: table 'made_up_pixel_auroc'"):
        merge([ann, other], tmp_path / "merged", 0)


def test_names_must_tell_bundles_apart(ann, tmp_path):
    (tmp_path / "again").mkdir()
    shutil.copyfile(ann, tmp_path / "again/ann.nfbundle")
    with pytest.raises(NfbenchError, match="2 bundles are named 'ann'; rename the files"):
        merge([ann, tmp_path / "again/ann.nfbundle"], tmp_path / "merged", 0)


def test_unfinished_runs_are_holes_until_a_bundle_has_them(whole, tmp_path):
    made = made_up(tmp_path / "part", CATEGORIES)
    lost = made.cells[:3]
    for cell in lost:
        made.paths.run_record(cell).unlink()
    part = bundled(made, tmp_path / "part.nfbundle")
    merged = merge([part], tmp_path / "merged", 0)
    assert [hole.cell for hole in merged.holes] == lost
    table = (tmp_path / "merged/tables/made_up/made_up_image_auroc.html").read_text()
    assert f"NOT DONE, marked †: {lost[0]} (missing: not run yet); {lost[1]}" in table
    complete = merge([part, whole], tmp_path / "merged", 0)
    assert complete.holes == ()
    assert {cell for cell, name in complete.record.runs.items() if name == "whole"} == set(map(str, lost))


def test_only_a_merged_set_is_replaced(ann, bob, tmp_path):
    output = tmp_path / "merged"
    merge([ann], output, 0)
    merge([bob], output, 0)
    assert not list(output.glob("runs/*/*/bottle"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own/thesis.txt").write_text("mine")
    with pytest.raises(NfbenchError, match="own is not a merged set of bundles; take another folder"):
        merge([ann], tmp_path / "own", 0)
    assert (tmp_path / "own/thesis.txt").read_text() == "mine"


def test_changed_results_are_not_bundled(tmp_path):
    made = made_up(tmp_path / "made", CATEGORIES[:1])
    scores = made.paths.run_record(made.cells[0]).with_name("scores.csv")
    scores.write_text(scores.read_text().replace("0", "1", 1))
    with pytest.raises(NfbenchError, match=r"scores\.csv has changed"):
        bundled(made, tmp_path / "a.nfbundle")
    with pytest.raises(NfbenchError, match=r"must end in \.nfbundle"):
        bundled(made, tmp_path / "a.zip")
    assert not (tmp_path / "a.nfbundle").exists()


def drop_run(files):
    del files[next(name for name in files if name.endswith("run.json"))]


def swap_runs(files):
    one, other = [name for name in files if name.endswith("run.json")][:2]
    files[one], files[other] = files[other], files[one]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda files: files.update({"../outside.csv": b"x"}), "unexpected file '../outside.csv'"),
        (lambda files: files.update({"/tmp/outside.csv": b"x"}), "unexpected file '/tmp/outside.csv'"),
        (lambda files: files.update({"runs/a/b/../d/e/f/run.json": b"x"}), "unexpected file"),
        (lambda files: files.update({"runs/a/b/c/d/e/f/model.safetensors": b"x"}), "unexpected file"),
        (lambda files: files.pop("experiment.json"), "the file 'experiment.json' does not match the manifest"),
        (lambda files: files.pop("manifests/mvtec_ad/bottle.csv"), "manifest .*bottle.csv is missing"),
        (lambda files: files.update({"ledger.csv": b"a,b\n1,2\n"}), "ledger.csv is not a ledger"),
        (lambda files: files.update({"experiment.json": b"{}"}), "experiment.json: 'report': Field required"),
        (drop_run, "ledger.csv and the run records disagree about one-class/mvtec_ad/bottle"),
        (swap_runs, "is the record of another cell"),
    ],
)
def test_hostile_and_damaged_bundles_are_one_line(ann, tmp_path, change, said):
    bad = rewritten(ann, tmp_path / "bad.nfbundle", change)
    with pytest.raises(NfbenchError, match=said) as caught:
        merge([bad], tmp_path / "merged", 0)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(bad))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.nfbundle"]


@pytest.mark.parametrize("keep", [0, 100, 5000, -1])
def test_a_truncated_bundle_is_one_line(ann, tmp_path, keep):
    bad = tmp_path / "bad.nfbundle"
    bad.write_bytes(ann.read_bytes()[:keep])
    with pytest.raises(NfbenchError, match="is damaged or not a bundle"):
        merge([bad], tmp_path / "merged", 0)
    with pytest.raises(NfbenchError, match=r"gone\.nfbundle is missing"):
        merge([tmp_path / "gone.nfbundle"], tmp_path / "merged", 0)


def test_commands_of_the_page_work(base, tmp_path):
    """In the order of the page, with the experiment of these tests."""
    folder = tmp_path / "made"
    made_up(folder, CATEGORIES[:2])
    shutil.copyfile(base / "bob.nfbundle", folder / "bob.nfbundle")
    lines = re.findall(r"^nfbench (.*)$", (ROOT / "docs/share.md").read_text(), re.M)
    said = [run_nfbench(folder, *line.replace("quickstart", "made_up").split()) for line in lines]
    assert len(said) == 2
    assert f"report: {folder / 'merged/reports/made_up.html'}" in said[1]


def test_the_command_prints_means_sources_and_places(ann, bob, tmp_path):
    said = run_nfbench(tmp_path, "merge", str(ann), str(bob))
    assert "Made up, not measured: means over categories and seeds" in said
    assert re.search(r"image AUROC +mvtec_ad +last", said)
    assert re.search(r"\nann: 8 runs, .*, commit ", said)
    assert f"report: {tmp_path / 'merged/reports/made_up.html'}" in said
