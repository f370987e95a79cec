"""From a cell of a table back to its runs."""

import re
import shlex

import pytest
from typer.testing import CliRunner

from nfbench.cli import app
from nfbench.core.errors import NfbenchError
from nfbench.plan.specs import EvaluateSpec, ExtractSpec, ScoreSpec, TrainSpec
from nfbench.results.record import read_record
from tests.made_up import MadeUp


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = MadeUp(tmp_path, {"uflow": "uflow", "fastflow": "fastflow"}, ("bottle", "cable"), seeds=2).write()
    assert run("aggregate_results", "made_up").exit_code == 0
    return made


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def explained(*arguments):
    done = run("explain", *arguments)
    assert done.exit_code == 0, done.exception
    return done.output


def values_of(made, metric, selection="last", **wanted):
    records = [read_record(made.paths.run_record(c)) for c in made.cells if wanted.items() <= vars(c).items()]
    return [100 * record.selections[selection].metrics[metric] for record in records]


@pytest.mark.parametrize(
    ("cell", "metric", "selection", "wanted"),
    [
        (("made_up_image_auroc", "cable", "uflow"), "image_auroc", "last", {"category": "cable", "method": "uflow"}),
        (("made_up_image_auroc", "mvtec_ad/average", "fastflow"), "image_auroc", "last", {"method": "fastflow"}),
        (
            ("made_up_pixel_auroc", "bottle", "uflow/oracle"),
            "pixel_auroc", "oracle", {"category": "bottle", "method": "uflow"},
        ),
        (("made_up_methods", "U-Flow", "pixel_aupro"), "pixel_aupro", "last", {"method": "uflow"}),
    ],
)  # fmt: skip
def test_a_cell_is_the_mean_of_the_runs_it_names(made, cell, metric, selection, wanted):
    made.titles = {"uflow": "U-Flow"}
    made.write()
    assert run("aggregate_results", "made_up").exit_code == 0
    text = explained(*cell)
    values = values_of(made, metric, selection, **wanted)
    assert float(re.search(r": ([\d.]+) ± ", text)[1]) == pytest.approx(sum(values) / len(values), abs=1e-7)
    assert f"{len(values)} runs" in text
    assert text.count("  record    ") == len(values)
    assert sorted(float(v) for v in re.findall(rf"{metric} ([\d.]+),", text)) == pytest.approx(
        sorted(v / 100 for v in values)
    )


def test_what_made_a_run_is_named(made):
    text = explained("made_up_image_auroc", "bottle", "uflow")
    parts = [
        "commit " + "c" * 40,
        "SHA-256 " + "a" * 64,
        "seed      1",
        "features  training tttt",
        "a CPU, 1 thread",
        "checkpoint of epoch 16 (last)",
        "published in U-Flow: 100",
        "$ nfbench build_table made_up made_up_image_auroc --config '{}'",
    ]
    assert [part for part in parts if part not in text] == []


SPECS = {"extract_features": ExtractSpec, "train_flow": TrainSpec, "score_run": ScoreSpec, "evaluate_run": EvaluateSpec}


def test_commands_are_those_of_the_specs_that_made_a_run(made):
    lines = [line.strip() for line in explained("made_up_image_auroc", "bottle", "uflow").splitlines()]
    commands = [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ nfbench ")]
    records = [read_record(made.paths.run_record(cell)) for cell in made.cells[:2]]
    wanted = [spec for r in records for spec in (*r.specs.extract, r.specs.train, r.specs.score, r.specs.evaluate)]
    found = [(command[1], SPECS[command[1]].parse(command[3])) for command in commands if "--spec" in command]
    assert found == [(spec.stage, spec) for spec in wanted]
    where = {command[1]: command[4:] for command in commands if command[1] in SPECS}
    assert where == {**{stage: ["--device", "cpu", "--threads", "1"] for stage in SPECS}, "evaluate_run": []}


def test_records_and_images_that_changed_since_are_named(made):
    made.skill = {"uflow": 3.0}
    made.manifest("bottle").write_text("another\n")
    made._write_run(made.cells[0])
    made.manifest("bottle").write_text("still another\n")
    text = explained("made_up_image_auroc", "bottle", "uflow")
    assert text.count("THE RECORD NOW HAS") == 1
    assert text.count("THE FILE HAS CHANGED") == 2


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (("made_up_image", "x", "y"), "no experiment has a table 'made_up_image'; did you mean 'made_up_image_auroc'"),
        (("made_up_image_auroc", "bottel", "uflow"), "0 rows 'bottel'; did you mean 'bottle'"),
        (("made_up_pixel_auroc", "bottle", "uflow"), "2 columns 'uflow'; known: uflow/resnet18.tv_in1k@256/last; "),
    ],
)
def test_cells_that_are_not_there_are_named(made, cell, message):
    with pytest.raises(NfbenchError, match=re.escape(message)):
        raise run("explain", *cell).exception


def test_a_published_value_that_stands_alone_is_explained(made):
    text = explained("made_up_image_auroc", "bottle", "PatchSVDD")
    assert text.startswith(
        "made_up_image_auroc, row mvtec_ad/bottle, column PatchSVDD: 98.60\n\ncommands that make the table"
    )


def test_counts_of_parameters_follow_from_code(monkeypatch, repository):
    monkeypatch.chdir(repository)
    text = explained("uflow_table4", "U-Flow/resnet18.a1_in1k@448", "total")
    assert "4,289,736 trainable parameters" in text
    assert "nfbench aggregate_results" not in text
