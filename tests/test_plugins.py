"""Faults of plug-ins give one line that names the file and the fault."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, Method, Scores, build_method, resolve_settings
from nfbench.core.errors import NfbenchError, faults_of
from nfbench.core.registry import exported
from nfbench.datasets._base import Dataset
from nfbench.metrics import Metric, known_metrics
from nfbench.metrics._base import Named
from nfbench.results.compare import compare
from nfbench.scoring.evaluate import ScoredSet, evaluate
from nfbench.scoring.maps import ScoredImages, score_images
from nfbench.tables._model import Column, Row, Table
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.loop import train

CPU = torch.device("cpu")
SHAPES = [LevelShape(8, 4, 4)]
FILES = {
    "syntax": "METHOD = (",
    "absent": "import a_library_that_is_not_there",
    "empty": "",
    "instance": "METHOD = 3",
    "other": "METHOD = dict",
    "abstract": "from nfbench.blocks.method import Method\nclass METHOD(Method):\n    title = 'M'",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of plug-ins that are wrong in one way each."""
    (tmp_path / "strange_methods").mkdir()
    (tmp_path / "strange_methods" / "__init__.py").touch()
    for name, text in FILES.items():
        (tmp_path / "strange_methods" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "strange_methods"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("syntax", "strange_methods/syntax.py cannot be imported: SyntaxError: .*line 1"),
        ("absent", "strange_methods/absent.py cannot be imported: ModuleNotFoundError: .*a_library_that_is_not_there"),
        ("empty", "strange_methods/empty.py: 'METHOD' must be a class derived from Method, got None"),
        ("instance", "strange_methods/instance.py: 'METHOD' must be a class derived from Method, got 3"),
        ("other", "strange_methods/other.py: 'METHOD' must be a class derived from Method, got <class 'dict'>"),
        ("abstract", "strange_methods/abstract.py: 'METHOD' does not define settings_type, build, .*score"),
        ("absen", "unknown strange_method 'absen'; did you mean 'absent'"),
    ],
)
def test_a_file_that_is_no_method_is_named(package, name, message):
    with pytest.raises(NfbenchError, match=message) as error:
        exported(package, name, "METHOD", subclass_of=Method)
    assert "\n" not in str(error.value)


def test_objects_are_checked_too(package):
    with pytest.raises(NfbenchError, match=r"strange_methods/instance\.py: 'METHOD' must be of type Dataset, got 3"):
        exported(package, "instance", "METHOD", instance_of=Dataset)


def test_errors_of_the_user_and_the_machine_stay_what_they_are():
    for error in (NfbenchError("of the user"), OSError(28, "disk full"), MemoryError()):
        with pytest.raises(type(error)) as found, faults_of("x"):
            raise error
        assert found.value is error
    line = r"^plug-in x: KeyError: 'y' \(test_plugins\.py, line \d+\)$"
    with pytest.raises(NfbenchError, match=line), faults_of("plug-in x"):
        {}["y"]


def scored_set():
    scored = ScoredImages(None, {"paper": np.arange(4.0)})
    truth = SimpleNamespace(labels=np.array([0, 0, 1, 1]), has_masks=False, has_channels=False)
    return scored, truth


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            lambda test, _: 1 / 0,
            r"metric 'own' of nfbench/metrics/own\.py: ZeroDivisionError: division by zero",
        ),
        (lambda test, _: "high", r"metric 'own' of nfbench/metrics/own\.py: ValueError: could not convert"),
        (lambda test, _: float("inf"), r"metric 'own' of nfbench/metrics/own\.py is infinite; it must be a number"),
    ],
)
def test_a_metric_that_fails_is_named(monkeypatch, value, message):
    named = Named(Metric("own", "own", value), "own", "", plain=True, transductive=False)
    monkeypatch.setattr("nfbench.scoring.evaluate.metrics_of", lambda chosen: [named])
    scored, truth = scored_set()
    with pytest.raises(NfbenchError, match=message):
        evaluate(scored, truth, None, {})
    assert ScoredSet(scored, truth, lambda: None, {}).measures(known_metrics()["image_auroc"])


def test_a_row_with_too_few_cells_is_named():
    cell = compare(SimpleNamespace(to_numpy=lambda dtype: np.ones(1)), runs=None)
    with pytest.raises(NfbenchError, match="table 't': row 'bottle' has 1 cells for 2 columns"):
        Table("t", "c", (Column("a"), Column("b")), (Row(("d", "bottle"), (cell,)),))


def method():
    settings = resolve_settings("fastflow", overrides={"epochs": 1, "batch_size": 4, "flow_steps": 1})
    return build_method("fastflow", SHAPES, settings, (16, 16), 0).eval()


def features(count=6):
    return Features([np.random.default_rng(0).normal(size=(count, *SHAPES[0])).astype(np.float16)])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (torch.zeros, "'score' must return Scores, got Tensor"),
        (lambda n: Scores(None, torch.zeros(n, 1)), r"'images' of its Scores must be \(16\), got \(16, 1\)"),
        (lambda n: Scores(torch.zeros(n, 1, 8, 8), torch.zeros(n)), r"'maps' of its Scores must be \(16, H, W\)"),
        (
            lambda n: Scores(torch.zeros(n - 1, 8, 8), torch.zeros(n)),
            r"'maps' of its Scores .* got \(15, 8, 8\)",
        ),
        (lambda n: Scores(None, torch.zeros(n), [torch.zeros(n, 8)]), r"'latents' of its Scores must be"),
        (lambda n: Scores(None, torch.full((n,), torch.nan)), "the scores of 6 images are not finite, first image 0"),
    ],
)
def test_scores_of_another_form_are_named(made, message):
    model = method()
    model.score = lambda found: made(len(found))
    with pytest.raises(NfbenchError, match=f"method 'FastFlow': {message}"):
        score_images(model, features(), CPU)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda model, x: torch.zeros(()), "must be a scalar with a gradient, got none"),
        (lambda model, x: model.latents(x)[1], r"must be a scalar with a gradient, got shape \(4,\)"),
    ],
)
def test_a_loss_that_cannot_be_trained_by_is_named(loss, message, tmp_path):
    model = method()
    model.loss = lambda x: loss(model, x)
    data = TrainingData(features(), 0, 0, CPU)
    with pytest.raises(NfbenchError, match=f"cell: a loss of 'FastFlow' {message}"):
        train(model, data, model.settings, SideFolder(tmp_path, "f"), "cell")
