"""Conditions: their names, and the keys 'shots', 'contamination' and 'shift' of a block."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfbench.config import Condition, condition_of, load_bench, shift_of_view
from nfbench.config.conditions import SHIFTS, condition_pattern
from nfbench.core.errors import NfbenchError

NUMBERS = st.integers(1, 99999).map(lambda number: number / 1000)
CONDITIONS = st.one_of(
    st.just(Condition()),
    st.integers(1, 99999).map(lambda count: Condition("shots", float(count))),
    st.tuples(NUMBERS, NUMBERS).map(lambda pair: Condition("contamination", min(pair), max(pair))),
    st.tuples(st.sampled_from(sorted(SHIFTS)), NUMBERS).map(lambda pair: Condition(*pair)),
)
BLOCK = {"methods": ["padim"], "backbones": ["resnet18.tv_in1k"], "datasets": {"mvtec_ad": ["bottle"]}}


def bench(tmp_path, experiment=(), **block):
    values = {"title": "e", "seeds": 1, "grid": [{**BLOCK, **block}], **dict(experiment)}
    (tmp_path / "e.yaml").write_text(json.dumps(values))
    return load_bench({}, tmp_path)


@given(CONDITIONS)
def test_a_name_says_all_about_its_condition(condition):
    import re

    assert condition_of(str(condition)) == condition
    assert re.fullmatch(condition_pattern(), f"-{condition}" if condition.axis else "")
    assert shift_of_view(condition.test_view) == (str(condition) if condition.is_shift else "")


@pytest.mark.parametrize(
    "name", ["shots", "shots-1", "blur2-of-3", "contamination0.1", "dust3", "shots4 ", "blur1e-05"]
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="no condition has the name"):
        condition_of(name)


def test_views_without_a_shift_are_told_apart():
    assert [shift_of_view(view) for view in ("train", "test", "pseudo-blend-k8", "test-x")] == [""] * 4


def test_a_block_names_its_conditions_and_begins_with_unchanged_images(tmp_path):
    shift = {"rotation": [5], "light": [0, 0.5], "noise": [0]}
    found = bench(tmp_path, shots=[4, 1], contamination=[0, 0.05, 0.2], shift=shift)
    assert found.experiment("e").grid[0].conditions == (
        "",
        "shots4",
        "shots1",
        "contamination0-of-0.2",
        "contamination0.05-of-0.2",
        "contamination0.2-of-0.2",
        "light0.5",
        "rotation5",
    )
    assert bench(tmp_path).experiment("e").grid[0].conditions == ("",)


def test_only_changed_training_images_need_a_training():
    names = ["", "shots4", "contamination0-of-0.2", "contamination0.1-of-0.2", "blur2"]
    assert [condition_of(name).training for name in names] == ["", "shots4", "", "contamination0.1-of-0.2", ""]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"shots": [0]}, r"'grid.0.shots.0': .*greater than or equal to 1"),
        ({"shots": [4, 4]}, r"'grid.0.shots': lists a value twice"),
        ({"contamination": [1.5]}, r"'grid.0.contamination.0': .*less than or equal to 1"),
        ({"contamination": [0]}, r"'grid.0.contamination': needs a ratio above 0"),
        ({"shift": {"blur": [0.00001]}}, r"'grid.0.shift.blur': 1e-05 has too many digits"),
        ({"shift": {"light": [1.23456789]}}, r"'grid.0.shift.light': 1.23456789 has too many digits"),
        ({"shift": {"rotate": [1]}}, r"unknown key 'grid.0.shift.rotate'.*did you mean 'rotation'"),
        ({"shift": {"rotation": [200]}}, r"'grid.0.shift.rotation.0': .*less than or equal to 180"),
        ({"shots": [2], "setting": "unified"}, r"'shots' changes the training images of the setting one-class, not"),
        (
            {"contamination": [0.1], "setting": "few-anomaly"},
            r"'contamination' changes .* not of few-anomaly; remove it",
        ),
    ],
)
def test_a_bad_value_is_one_line_with_its_key(tmp_path, block, message):
    with pytest.raises(NfbenchError, match=message) as refused:
        bench(tmp_path, **block)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("axis", ["shots", "contamination"])
@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ("anomalies", {"anomalies": {"generator": "blend"}}),
        ("search", {"search": {"backbones": ["resnet18.tv_in1k"], "space": {"lr": {"low": 0.001, "high": 0.01}}}}),
    ],
)
def test_variants_whose_training_images_are_their_own_are_refused(tmp_path, axis, reason, part):
    variants = {"variants": {"own": {"method": "fastflow", **part}}}
    block = {"methods": ["own"], axis: [1]}
    with pytest.raises(NfbenchError, match=f"'grid.0.{axis}': variant 'own' has '{reason}', .*without '{axis}'"):
        bench(tmp_path, variants, **block)
    assert (
        bench(tmp_path, variants, methods=["own"], shift={"blur": [2]}).experiment("e").grid[0].conditions[1] == "blur2"
    )


@pytest.mark.parametrize(("part", "extra"), [("tables", {"title": "t", "metrics": ["image_auroc"]}), ("figures", {})])
def test_what_shows_conditions_needs_some(tmp_path, part, extra):
    shown = {part: {"r": {"kind": "robustness", **extra}}}
    with pytest.raises(
        NfbenchError, match=f"'{part}.r': a {part[:-1]} of kind 'robustness' needs a block with 'shots'"
    ):
        bench(tmp_path, shown)
    assert bench(tmp_path, shown, shots=[2])


def test_miniatures_have_enough_images_for_their_shots(tmp_path):
    bench(tmp_path, shots=[1, 4, 16, 100])
    found = load_bench({"miniature": True}, tmp_path)
    assert found.experiment("e").grid[0].shots == (1, 4, 6)
