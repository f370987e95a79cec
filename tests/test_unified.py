"""The grid of the setting unified: one training for many categories, unions, and what is refused."""

import json

import pytest

from nfbench.config import load_bench
from nfbench.core.errors import NfbenchError
from nfbench.plan.cells import Cell, classes_of, expand, members

FOUND = {
    "mvtec_ad": ["cable", "capsule", "screw"],
    "visa": ["capsules", "pcb1"],
    "mvtec_3d": ["cable_gland"],
    "other": ["screw"],
}
BACKBONE = "resnet18.tv_in1k"


def bench(tmp_path, datasets, union=None, **config):
    named = {"u": {"union": union}, "other": {"root": "elsewhere"}} if union else {}
    block = {"methods": ["hgad", "padim"], "backbones": [BACKBONE], "datasets": datasets}
    grid = [{**block, "setting": "unified"}, block]
    (tmp_path / "e.yaml").write_text(json.dumps({"title": "e", "seeds": 2, "datasets": named, "grid": grid}))
    return load_bench(config, tmp_path)


def available(found):
    def categories(dataset):
        union = members(found, dataset, categories)
        return list(union) if union else FOUND[dataset]

    return categories


def test_cells_of_a_dataset_share_one_training(tmp_path):
    found = bench(tmp_path, {"mvtec_ad": "available"})
    cells = expand(found, "e", available(found))
    assert len(cells) == 2 * 3 * 2 * 2
    unified = [cell for cell in cells if cell.setting == "unified"]
    assert len({cell.trained for cell in unified}) == 2 * 2
    assert {cell.trained.category for cell in unified} == {"all"}
    assert all(cell.trained == cell for cell in cells if cell.setting == "one-class")
    assert all(classes_of(found, cell, available(found)) == FOUND["mvtec_ad"] for cell in unified)
    assert all(classes_of(found, c, available(found)) == [c.category] for c in cells if c.setting == "one-class")


def test_categories_that_are_left_out_are_not_learned(tmp_path):
    found = bench(tmp_path, {"mvtec_ad": "available"}, categories=("cable", "screw"))
    cell = Cell("unified", "mvtec_ad", "cable", "hgad", f"{BACKBONE}@256", 0)
    assert classes_of(found, cell, available(found)) == ["cable", "screw"]


def test_a_union_keeps_whole_names(tmp_path):
    """capsule and capsules, cable and cable_gland are four classes."""
    union = {"mvtec_ad": ["capsule", "cable"], "visa": "available", "mvtec_3d": {"available": ["cable_gland", "rope"]}}
    found = bench(tmp_path, {"u": "available"}, union)
    by_category = members(found, "u", available(found))
    assert by_category == {
        "capsule": "mvtec_ad", "cable": "mvtec_ad", "capsules": "visa", "pcb1": "visa", "cable_gland": "mvtec_3d"
    }  # fmt: skip
    cell = Cell("unified", "u", "capsules", "hgad", f"{BACKBONE}@256", 0)
    assert classes_of(found, cell, available(found)) == list(by_category)
    assert {cell.category for cell in expand(found, "e", available(found))} == set(by_category)


def test_a_union_has_each_category_once(tmp_path):
    found = bench(tmp_path, {"u": "available"}, {"mvtec_ad": "available", "other": "available"})
    with pytest.raises(NfbenchError, match="'mvtec_ad' and 'other' both have a category 'screw'"):
        members(found, "u", available(found))


def test_a_union_is_of_no_union(tmp_path):
    with pytest.raises(NfbenchError, match=r"e.yaml: 'datasets.u.union': 'u' is a union itself"):
        bench(tmp_path, {"u": "available"}, {"u": "available"})


def test_a_union_has_no_other_keys(tmp_path):
    (tmp_path / "e.yaml").write_text(
        json.dumps(
            {
                "title": "e",
                "datasets": {"u": {"union": {"visa": "available"}, "max_train": 3}},
                "grid": [{"methods": ["padim"], "backbones": [BACKBONE], "datasets": {"u": "available"}}],
            }
        )
    )
    with pytest.raises(NfbenchError, match="'union' excludes all other keys"):
        load_bench({}, tmp_path)


def test_one_dataset_means_the_same_categories_everywhere(tmp_path):
    bench(tmp_path, {"mvtec_ad": "available"})
    other = (tmp_path / "e.yaml").read_text().replace('"available"', '["cable"]')
    (tmp_path / "f.yaml").write_text(other)
    with pytest.raises(NfbenchError, match=r"f.yaml: the list .* for one model of 'mvtec_ad' is defined differently"):
        load_bench({}, tmp_path)


def test_a_dataset_that_is_never_unified_is_named(tmp_path):
    found = bench(tmp_path, {"mvtec_ad": "available"})
    with pytest.raises(NfbenchError, match="no experiment has runs of the dataset 'visa' in the setting unified"):
        classes_of(found, Cell("unified", "visa", "pcb1", "hgad", BACKBONE, 0), available(found))
