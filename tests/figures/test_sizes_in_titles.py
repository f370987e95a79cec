"""Maps of one method at several input sizes are told apart by the size in their titles."""

from types import SimpleNamespace

from nfbench.config import BackboneConfig
from nfbench.figures.maps import _titles


def run(title, input_size):
    backbone = BackboneConfig(name="resnet18.tv_in1k", input_size=input_size)
    features = SimpleNamespace(recipe=SimpleNamespace(backbone=backbone))
    record = SimpleNamespace(cell=SimpleNamespace(title=title), features=features)
    return SimpleNamespace(column=(title, backbone.tag), record=record)


def test_the_size_is_named_where_it_differs():
    runs = [run("PaDiM", 256), run("U-Flow", 256), run("PaDiM", [416, 160]), run("PaDiM", 256)]
    assert _titles(runs) == ["PaDiM, 256", "U-Flow", "PaDiM, 416x160"]


def test_sizes_of_different_methods_stay_out():
    assert _titles([run("PaDiM", 256), run("U-Flow", 448)]) == ["PaDiM", "U-Flow"]
