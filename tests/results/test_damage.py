"""Every file of a stage, damaged in every way, is refused by one line that names it, or becomes a hole."""

import json
import shutil
import socket
from contextlib import chdir, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

from nfbench.core.errors import NfbenchError
from nfbench.plan.paths import SCORED, TRAINED
from nfbench.results.aggregate import read_results
from nfbench.results.progress import describe_progress
from nfbench.stages.gather import stock_of, write_gathered
from nfbench.stages.report import write_report
from nfbench.stages.tables import table_of
from nfbench.tables._explain import describe_run
from nfbench.tables._render import to_csv
from tests.in_process import run_job
from tests.made_up import spoil
from tests.results.tiny import FIGURES, OTHER, PART, TAG

pytestmark = pytest.mark.slow


def figure(kind):
    return lambda plan: run_job(plan.figure("tiny", kind))


def evaluate(plan):
    run_job(plan.score(PART))
    run_job(plan.evaluate(PART))


def evaluated(plan):
    evaluate(plan)
    record = json.loads(plan.paths.run_record(PART).read_text())
    return json.dumps([record["selections"], record["by_epoch"], record["contour"]])


def gathered(plan):
    write_gathered(plan.aggregate("tiny").spec, stock_of(plan, "tiny"))
    return read_results(plan.paths.experiment("tiny", "results.parquet")).to_csv()


def explained(plan):
    results = read_results(plan.paths.experiment("tiny", "results.parquet"))
    return "\n".join(line for _, run in results[:1].iterrows() for line in describe_run(run, plan.paths))


def shown(plan):
    return to_csv(table_of(plan.table("tiny", "numbers").spec))


READERS = {
    "extract": lambda plan: run_job(plan.extract(TAG, "own", "part", "test")),
    "train": lambda plan: run_job(plan.train(PART)),
    "evaluate": evaluated,
    "aggregate": gathered,
    "status": lambda plan: "\n".join(describe_progress(stock_of(plan, "tiny"), plan.paths)),
    "table": shown,
    "explain": explained,
    "report": lambda plan: write_report(plan.report("tiny").spec, stock_of(plan, "tiny"), 1).read_text(),
    "tracking": lambda plan: str(stock_of(plan, "tiny").checked(plan.paths).holes),
    **{kind: figure(kind) for kind in FIGURES},
}
RUN = f"runs/one-class/own/{{category}}/tiny/{TAG}/seed0"
FEATURES = f"features/{TAG}/own/{{category}}"
FILES = {
    "manifests/own/{category}.csv": "extract train evaluate maps segmentation",
    "manifests/own/{category}.json": "extract train evaluate",
    f"{FEATURES}/train/meta.json": "train evaluate",
    f"{FEATURES}/test/meta.json": "evaluate",
    f"{FEATURES}/train/level1.npy": "train evaluate",
    f"{FEATURES}/test/level2.npy": "evaluate",
    f"{RUN}/model.safetensors": "evaluate",
    f"{RUN}/checkpoints.safetensors": "evaluate",
    f"{RUN}/held_out.safetensors": "evaluate",
    f"{RUN}/history.csv": "evaluate curves report tracking",
    f"{RUN}/training.json": "evaluate curves report tracking",
    f"{RUN}/run.json": "aggregate status explain report tracking maps histograms",
    f"{RUN}/scores.csv": "histograms report tracking",
    f"{RUN}/by_image.csv": "report tracking",
    f"{RUN}/regions.csv": "segmentation report tracking",
    f"{RUN}/miou.csv": "thresholds report tracking",
    f"{RUN}/calibration.csv": "calibration report tracking",
    f"{RUN}/likelihoods.csv": "report tracking",
    f"{RUN}/examples.npz": "maps segmentation report tracking",
    f"{RUN}/representations.npz": "deviations projections report tracking",
    f"{RUN}/maps.npy": "report tracking",
    "experiments/tiny/results.parquet": "table explain",
}


def without_a_row(data):
    lines = data.splitlines(keepends=True)
    return b"".join(lines[: len(lines) // 2] + lines[len(lines) // 2 + 1 :])


def flipped(data):
    """Flip a bit in the middle; in JSON, the first one from there that changes a value."""
    changed = (
        data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :] for place in range(len(data) // 2, len(data))
    )
    return next(other for other in changed if meaning(other) != meaning(data))


def meaning(data):
    try:
        return json.loads(data)
    except ValueError:
        return data


DAMAGES = {
    "empty": lambda data, other: b"",
    "half": lambda data, other: data[: len(data) // 2],
    "flipped byte": lambda data, other: flipped(data),
    "garbled": lambda data, other: b"\xff\x00garbled\n" * 20,
    "of another cell": lambda data, other: other,
    "row removed": lambda data, other: without_a_row(data),
}


def tried(read, plan):
    """Return a reader's output or its error message; errors that are not for the user fail the test."""
    try:
        return read(plan), ""
    except NfbenchError as error:
        return "", str(error)


@contextmanager
def damaged(plan, name, damage):
    """A file in another state; what it was, and the rest of the results, comes back."""
    path = plan.paths.root / name.format(category="part")
    other = plan.paths.root / name.format(category="other").replace("experiments/tiny", "experiments/half")
    data, changed = path.read_bytes(), DAMAGES[damage](path.read_bytes(), other.read_bytes())
    if changed == data:
        pytest.skip("both are equal")
    path.write_bytes(changed)
    try:
        yield path
    finally:
        path.write_bytes(data)
        plt.close("all")


@pytest.fixture(scope="module")
def reference(tiny):
    """What readers print of the whole results."""
    folder, plan = tiny
    with chdir(folder):
        return {name: READERS[name](plan) for name in ("status", "aggregate", "table", "explain")}


CASES = [(name, damage) for name in FILES for damage in DAMAGES if damage != "row removed" or name.endswith(".csv")]


@pytest.mark.parametrize(("name", "damage"), CASES, ids=[f"{Path(name).name}-{damage}" for name, damage in CASES])
def test_a_damaged_file_is_refused_or_a_hole(plan, reference, name, damage):
    with damaged(plan, name, damage) as path:
        for reader in FILES[name].split():
            seen, refused = tried(READERS[reader], plan)
            if refused:
                assert path.name in refused, reader
                assert len(refused.splitlines()) == 1, reader
            elif seen != reference.get(reader):
                assert path.name in seen, f"{reader} took {path.name}"
                assert str(PART) in seen or reader == "report", reader


STAGES = {
    "manifests/own/{category}.csv": lambda plan: plan.prepare("own", "part"),
    "manifests/own/{category}.json": lambda plan: plan.prepare("own", "part"),
    f"{FEATURES}/test/meta.json": lambda plan: plan.extract(TAG, "own", "part", "test"),
    **{
        f"{RUN}/{name}": lambda plan: plan.train(PART) for name in ("model.safetensors", "history.csv", "training.json")
    },
    **{f"{RUN}/{name}": lambda plan: plan.evaluate(PART) for name in ("run.json", "scores.csv", "examples.npz")},
}


@pytest.mark.parametrize("name", STAGES, ids=lambda name: Path(name).name)
def test_the_next_run_makes_cut_files_and_damaged_records_again(plan, name):
    """Snakemake runs a job whose state is stale; a byte in a large file is found when the file is read."""
    job = STAGES[name](plan)
    assert replace(job).state == "done"
    for damage in DAMAGES if name.endswith(".json") else ("empty", "half", "garbled"):
        with damaged(plan, name, damage):
            assert replace(job).state == "stale", damage
    assert replace(job).state == "done"


def test_what_is_made_again_is_what_it_was(plan, reference):
    with damaged(plan, f"{RUN}/scores.csv", "half") as path:
        evaluate(plan)
        assert replace(plan.evaluate(PART)).state == "done"
        seen = path.read_bytes()
    assert path.read_bytes() == seen
    assert READERS["table"](plan) == reference["table"]


def test_the_whole_training_of_another_category_is_refused(plan, tmp_path):
    run, other = (plan.paths.run_record(cell).parent for cell in (PART, OTHER))
    shutil.copytree(run, tmp_path / "kept")
    for name in TRAINED:
        shutil.copy(other / name, run / name)
    with pytest.raises(NfbenchError, match=r"training\.json was made with other settings, images or code than"):
        run_job(plan.score(PART))
    shutil.copytree(tmp_path / "kept", run, dirs_exist_ok=True)


def test_features_of_other_images_are_refused(plan, tmp_path):
    """The rest of a spec's origin is the same where a spec is written by hand, without one."""
    spec = plan.score(PART).spec.model_copy(update={"origin": "", "manifest": plan.score(OTHER).spec.manifest})
    with pytest.raises(NfbenchError, match=r"meta\.json has the features of other images than manifest .*other\.csv"):
        run_job(replace(plan.score(PART), spec=spec))


@pytest.fixture(scope="module")
def scored(tiny, tmp_path_factory):
    """Copies of the folders with the scores of both cells, which evaluations delete."""
    folder, plan = tiny
    kept = {}
    with chdir(folder):
        for cell in (PART, OTHER):
            run_job(plan.score(cell))
            kept[cell] = tmp_path_factory.mktemp("scored") / cell.category
            shutil.move((plan.paths.run_record(cell).parent / SCORED).parent, kept[cell])
    return kept


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_scores_are_refused(plan, scored, damage):
    record = plan.paths.run_record(PART)
    before, folder = record.read_bytes(), (record.parent / SCORED).parent
    arrays = ["test.maps", *(f"{of}.{scale}" for of in ("test.energies", "normal") for scale in range(3))]
    names = {f"{epoch}-{name}.npy" for epoch in (1, 2) for name in arrays}
    names |= {"1.npz", "2.npz", "likelihoods.csv", "representations.npz", "scored.json"}
    assert {path.name for path in scored[PART].iterdir()} == names
    for name in names:
        shutil.copytree(scored[PART], folder)
        data = (folder / name).read_bytes()
        changed = DAMAGES[damage](data, (scored[OTHER] / name).read_bytes())
        (folder / name).write_bytes(changed)
        if changed != data:
            with pytest.raises(NfbenchError, match=name.replace(".", r"\.")):
                run_job(plan.evaluate(PART))
        shutil.rmtree(folder)
        assert record.read_bytes() == before


def test_scores_are_gone_once_they_are_measured(plan, scored):
    folder = (plan.paths.run_record(PART).parent / SCORED).parent
    shutil.copytree(scored[PART], folder)
    assert replace(plan.score(PART)).state == "done"
    run_job(plan.evaluate(PART))
    assert not folder.exists()
    assert replace(plan.evaluate(PART)).state == "done"


@pytest.mark.parametrize(("value", "said"), [(95.0, "image_auroc is 95, which"), (-0.5, "image_auroc is -0.5")])
def test_numbers_out_of_their_range_are_a_hole(plan, value, said):
    """Also in a record that a stage has sealed."""
    path = plan.paths.run_record(PART)
    kept = path.read_bytes()
    selections = json.loads(kept)["selections"]
    selections["last"]["metrics"]["image_auroc"] = value
    spoil(path, selections=selections)
    try:
        (hole,) = stock_of(plan, "tiny").holes
        assert (hole.cell, hole.status) == (PART, "failed")
        assert said in hole.reason
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize("reader", ["evaluate", "aggregate", "report", "curves"])
def test_what_a_killed_process_left_is_removed(plan, reader):
    folders = {
        "evaluate": plan.paths.run_record(PART).parent,
        "aggregate": plan.paths.experiment("tiny", "x").parent,
        "report": plan.paths.report("tiny").parent,
        "curves": plan.paths.figure("tiny", "curves", "png").parent,
    }
    folders[reader].mkdir(parents=True, exist_ok=True)
    left = folders[reader] / f".half.{socket.gethostname()}.{2**22 + 1}.abc.png"
    left.touch()
    READERS[reader](plan)
    assert not left.exists()
