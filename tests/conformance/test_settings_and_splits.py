"""For every method, 'compile' compiles the trained modules or is refused, and a split leaves images to train on."""

import functools
import math
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from nfbench.blocks.method import build_to_count, resolve_settings
from nfbench.blocks.settings import EpochSettings, MethodSettings, TrainedSettings, epochs_of
from nfbench.core.errors import NfbenchError
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData, held_out_count
from nfbench.training.loop import train
from tests.conformance.test_methods import CPU, METHODS, anomalous_views, build, features_of, find, fit, localize, score

TRAINED = [name for name in METHODS if epochs_of(resolve_settings(name))]
FITTED = [name for name in METHODS if name not in TRAINED]
BY_THE_LOOP = [name for name in TRAINED if isinstance(resolve_settings(name), TrainedSettings)]
"""The others take their steps by a loop of their own."""


def with_fewest_levels(name):
    """The tiny model with only its last level, if the method takes one level."""
    tiny = find(name).tiny
    if tiny.network:
        return tiny
    with suppress(NfbenchError):
        settings = resolve_settings(name, overrides=tiny.settings)
        build_to_count(name, tiny.shapes[-1:], settings, (tiny.side, tiny.side))
        return tiny._replace(shapes=tiny.shapes[-1:])
    return tiny


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_THE_LOOP)
def test_compile_compiles_what_every_loss_calls(name, tmp_path, monkeypatch):
    """By the compiler's front end alone; the numbers are those of the same training without."""
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counter))
    monkeypatch.setattr(find(name), "tiny", with_fewest_levels(name))  # each level takes as long again
    torch._dynamo.reset()
    fields = type(resolve_settings(name)).model_fields
    short = {"epochs": 1, **{key: 1 for key in ("coupling_blocks", "flow_steps") if key in fields}}
    _, plain = fit(name, tmp_path / "plain", **short)
    assert counter.frame_count == 0
    _, compiled = fit(name, tmp_path / "compiled", compile=True, **short)
    assert counter.frame_count > 0
    assert compiled.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=1e-4)
    assert compiled.kept[1].keys() == plain.kept[1].keys()
    torch._dynamo.reset()


class Killed(Exception):
    """The end of a job."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_training_that_is_killed_goes_on_with_equal_weights(name, tmp_path):
    def run(folder, epochs_before=2):
        method = build(name, epochs=2, checkpoints=1)
        data = data_of(method, 15, 0.0)
        batches = data.batches

        def until_killed(epoch, *rest):
            if epoch > epochs_before:
                raise Killed
            return batches(epoch, *rest)

        data.batches = until_killed
        return train(method, data, method.settings, SideFolder(tmp_path / folder, "f"), name, 0.0)

    whole = run("whole")
    with pytest.raises(Killed):
        run("killed", epochs_before=1)
    resumed = run("killed")
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
    assert resumed.kept.keys() == whole.kept.keys() == {2}
    assert all(torch.equal(resumed.kept[2][key], value) for key, value in whole.kept[2].items())


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("key", sorted(TrainedSettings.model_fields.keys() - MethodSettings.model_fields.keys()))
def test_settings_of_training_are_refused_where_nothing_is_trained(name, key):
    with pytest.raises(NfbenchError, match=rf"setting '{key}' of method '{name}' has no effect, because nothing is"):
        resolve_settings(name, overrides={key: 1})


@pytest.mark.parametrize("name", sorted(set(TRAINED) - set(BY_THE_LOOP)))
@pytest.mark.parametrize("key", sorted(TrainedSettings.model_fields.keys() - EpochSettings.model_fields.keys()))
def test_settings_of_the_loop_are_refused_where_another_one_trains(name, key):
    with pytest.raises(NfbenchError, match=rf"setting '{key}' of method '{name}' has no effect, because the method"):
        resolve_settings(name, overrides={key: 1})


def data_of(method, count, val_fraction):
    images = anomalous_views(method) if method.needs_anomalies else None
    return TrainingData(features_of(method, count, 1), val_fraction, 0, CPU, images)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("count", "val_fraction"), [(1, 0.0), (2, 0.5), (2, 0.1)])
def test_one_image_is_enough_to_train_on_or_one_line_says_how_many_are(name, count, val_fraction, tmp_path):
    few = {"val_fraction": val_fraction, **({"epochs": 2} if name in TRAINED else {})}
    method = build(name, **few)
    data = data_of(method, count, val_fraction)
    try:
        result = train(method, data, method.settings, SideFolder(tmp_path, "few"), name, math.inf)
    except NfbenchError as error:  # a covariance of one image, or of one that shows an anomaly whenever it is drawn
        assert name in ("padim", "bgad") and "images" in str(error)  # noqa: PT018, PT017
        return
    assert result.kept
    found = score(method.eval(), features_of(method, 3, 2))
    assert np.isfinite(found.images["paper"]).all()
    assert localize(method) or found.maps is None or np.isfinite(found.maps).all()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("count", "val_fraction"), [(1, 0.1), (1, 0.5), (8, 0.95), (30, 0.99)])
def test_a_split_that_leaves_nothing_to_train_on_is_refused(name, count, val_fraction):
    with pytest.raises(
        NfbenchError, match=rf"'val_fraction' is {val_fraction:g} and holds out {count} of {count} normal"
    ):
        data_of(build(name), count, val_fraction)


def test_the_number_of_held_out_images():
    assert [held_out_count(n, 0.1) for n in (2, 10, 14, 16, 100)] == [1, 1, 1, 2, 10]
    assert held_out_count(1, 0.0) == 0
    with pytest.raises(NfbenchError, match="there are no normal training images"):
        held_out_count(0, 0.0)
