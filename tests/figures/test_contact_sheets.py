"""Contact sheets: one for each generator and category, of the variants that were cached."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot as plt

from nfbench.anomalies._base import make_generator, view_seed
from nfbench.config import AnomaliesConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import file_sha256
from nfbench.datasets._manifest import build_manifest, read_manifest, write_manifest
from nfbench.datasets.folder import DATASET
from nfbench.figures.anomalies import AnomaliesFigure


@pytest.fixture
def manifest(image_folder, tmp_path):
    write_manifest(tmp_path / "part.csv", build_manifest(DATASET.samples(image_folder, "part")))
    return tmp_path / "part.csv"


def run(manifest, generator, real=(), seed=0):
    anomalies = generator and SimpleNamespace(generator=generator, real=list(real))
    data = SimpleNamespace(anomalies=anomalies, manifest=str(manifest), manifest_sha256=file_sha256(manifest))
    recipe = SimpleNamespace(backbone=SimpleNamespace(input_size=64))
    record = SimpleNamespace(data=data, features=SimpleNamespace(recipe=recipe))
    return SimpleNamespace(cell=SimpleNamespace(dataset="own", category="part", seed=seed), record=record)


def test_one_sheet_for_each_generator(manifest):
    figure = AnomaliesFigure().draw(
        [run(manifest, "blend"), run(manifest, None), run(manifest, "blend"), run(manifest, "rpag", ["x", "y"])]
    )
    parts = figure.subfigs
    assert [part.get_suptitle().rpartition(": ")[2] for part in parts] == ["part", "part"]
    assert [len(part.axes) for part in parts] == [3 * 6, 2 * 6]  # three images; the two real anomalies
    generator, _ = make_generator(AnomaliesConfig(generator="blend"), read_manifest(manifest), 0, 64)
    shown = parts[0].axes[1].images[0].get_array()
    assert np.array_equal(shown, generator(0, view_seed("blend", 0, 0, 1)).image)
    plt.close(figure)


def test_runs_without_pseudo_anomalies_have_no_sheet(manifest):
    with pytest.raises(NfbenchError, match="needs a variant with 'anomalies"):
        AnomaliesFigure().draw([run(manifest, None)])
