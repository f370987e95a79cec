"""Settings never mix in a table, and captions state the anomalies used for training."""

import pandas as pd
import pytest

from nfbench.core.errors import NfbenchError
from nfbench.reference import find_printed, published_table
from nfbench.tables._comparison import printed_settings
from nfbench.tables.backbones import BackbonesTable
from nfbench.tables.methods import MethodsTable
from nfbench.tables.results import ResultsTable
from tests.tables.making import make_table, others
from tests.tables.test_tables import results

KINDS = {
    "results": ResultsTable(title="T", metric="pixel_auroc"),
    "methods": MethodsTable(title="T", metrics=["pixel_auroc"]),
    "backbones": BackbonesTable(title="T", metrics=["pixel_auroc"], rows=[{"backbone": {"name": "resnet18.tv_in1k"}}]),
}
SUPERVISED = ResultsTable(
    title="T", metric="pixel_auroc", published="bgad_mvtec_supervised", published_as={"bgad-10": "BGAD"}
)


def few(method="bgad-10", title="BGAD, 10 anomalies", n_real=10):
    """Runs of two seeds that leave other anomalies out of the test set, with other regions."""
    frame = results(methods=((method, title, "BGAD"),)).assign(setting="few-anomaly", generator="rpag", n_real=n_real)
    return frame.assign(variant_of="bgad", n_regions=frame.n_regions - n_real - frame.seed)


@pytest.fixture(params=KINDS)
def make(request):
    return lambda frame, **change: make_table(KINDS[request.param].model_copy(update=change), frame)


def test_a_table_of_several_settings_says_which_it_shows(make):
    frame = pd.concat([results(), few()])
    with pytest.raises(NfbenchError, match=r"table 't': .* settings one-class, few-anomaly.*'setting: one-class'"):
        make(frame)
    assert "Setting one-class." in make(frame, setting="one-class").caption
    shown = make(frame, setting="few-anomaly")
    assert "BGAD" in " ".join([*(c.title for c in shown.columns), *(r.label for r in shown.rows), shown.caption])
    assert shown.rows[0].cells[0].n_seeds == 2
    with pytest.raises(NfbenchError, match=r"table 't': no run has its setting 'unified'; found: one-class, few"):
        make(frame, setting="unified")


def test_captions_say_what_was_learned_from(make):
    caption = make(few()).caption
    assert "Setting few-anomaly: 10 real anomalies per category, chosen by seed, are used for training" in caption
    assert "left out of the test set, which thus differs by seed; not comparable with one-class rows" in caption
    assert "Trained with pseudo-anomalies: rpag (BGAD, 10 anomalies)." in caption
    plain = make(results()).caption
    assert "anomalies" not in plain


def test_captions_name_the_methods_of_each_generator_and_number():
    frame = pd.concat([few(), few("bgad-5", "BGAD, 5 anomalies", 5).assign(generator="cutpaste")])
    caption = make_table(KINDS["results"], frame).caption
    assert "10 (BGAD, 10 anomalies), 5 (BGAD, 5 anomalies) real anomalies per category" in caption
    assert "which thus differs by seed and method" in caption
    assert "rpag (BGAD, 10 anomalies); cutpaste (BGAD, 5 anomalies)" in caption


def test_regions_are_counted_by_seed_where_the_test_set_is_another():
    config = KINDS["results"]
    assert "136 ground-truth regions." in make_table(config, results()).caption
    caption = make_table(config, few()).caption
    assert "114 to 116 ground-truth regions, by the anomalies left out of the test set" in caption
    assert "regions" not in make_table(config, few().assign(n_regions=None)).caption


def test_published_values_are_those_of_the_setting():
    """The unsupervised table repeats the supervised BGAD, which one-class runs are not compared with."""
    assert printed_settings(few()) == {"supervised-10"}
    config = SUPERVISED.model_copy(update={"published": "bgad_mvtec_unsupervised", "published_as": {}})
    one_class = make_table(config, few().assign(setting="one-class", n_real=0))
    assert "BGAD" not in others(one_class)
    assert one_class.rows[0].cells[0].published is None
    assert make_table(SUPERVISED, few()).rows[0].cells[0].published.value == pytest.approx(99.4)
    with pytest.raises(NfbenchError, match="has values for the settings supervised-10, not for supervised-5"):
        make_table(SUPERVISED, few(n_real=5))


def test_a_method_is_published_under_another_name_or_on_several_backbones():
    names = {"resnet18.tv_in1k": "SANFlow (WRN-50)", "resnet50.tv_in1k": "SANFlow (WRN-101)"}
    config = ResultsTable(
        title="T", metric="pixel_auroc", published="sanflow_pixel_auroc", published_as={"uflow-x": names}
    )
    frame = pd.concat([results(), results().assign(backbone="resnet50.tv_in1k@320", input_size=320)])
    table = make_table(config, frame)
    assert [cell.published.value for cell in table.rows[0].cells[:2]] == [98.6, 99.1]
    assert not any(other.startswith("SANFlow") for other in others(table))
    assert published_table("sanflow_image_auroc").value("SANFlow", "screw", "image_auroc") is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"bgad": "BGAD"}, r"'published_as' has the method 'bgad', which has no runs; did you mean 'bgad-10'\?"),
        (
            {"bgad-10": "BGADD"},
            r"unknown published method 'BGADD' in 'published_as' of 'bgad-10'; did you mean 'BGAD'\?",
        ),
        (
            {"bgad-10": {"resnet18.tv_in1k": "BGADD"}},
            r"unknown published method 'BGADD' in 'published_as' of 'bgad-10'",
        ),
    ],
)
def test_names_that_are_not_there_are_errors(names, message):
    with pytest.raises(NfbenchError, match=message):
        make_table(SUPERVISED.model_copy(update={"published_as": names}), few())


def test_a_metric_that_a_published_row_does_not_have_is_none():
    where = {"dataset": "MVTec AD", "variant": "Model (3a)"}
    assert find_printed("sanflow_ablation_statistics", where, "image_auroc").text == "97.6"
    assert find_printed("sanflow_ablation_statistics", where, "pixel_auroc") is None
    with pytest.raises(NfbenchError, match=r"has 0 rows with dataset 'MVTec AD', variant 'Model \(3x\)'"):
        find_printed("sanflow_ablation_statistics", {**where, "variant": "Model (3x)"}, "pixel_auroc")
    with pytest.raises(NfbenchError, match=r"has 2 rows with variant .* and metric 'image_auroc'"):
        find_printed("sanflow_ablation_statistics", {"variant": "Model (3a)"}, "image_auroc")
