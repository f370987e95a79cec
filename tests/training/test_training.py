"""Training resumes bit-equal, stops if the loss diverges, keeps the right models, and splits by seed."""

import time
from itertools import pairwise
from unittest.mock import patch

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.core.errors import NfbenchError
from nfbench.training.checkpoint import CheckpointPace, SideFolder, load_kept, load_state, save_kept, save_state
from nfbench.training.data import CachedViews, TrainingData
from nfbench.training.loop import Diverged, kept_epochs, learning_rate, train

SHAPES = [LevelShape(8, 4, 4), LevelShape(12, 2, 2)]
CPU = torch.device("cpu")


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return Features([rng.normal(size=(20, *shape)).astype(np.float16) for shape in SHAPES])


def prepare(features, tmp_path, name="side", **overrides):
    options = {"epochs": 6, "batch_size": 5, "flow_steps": 2, "checkpoints": 3, **overrides}
    settings = resolve_settings("fastflow", overrides=options)
    method = build_method("fastflow", SHAPES, settings, (16, 16), seed=0)
    return (
        method,
        TrainingData(features, settings.val_fraction, 0, CPU),
        settings,
        SideFolder(tmp_path / name, "f"),
        "cell",
        0.0,
    )


class Clock:
    """Stands for the module ``time``."""

    now = 0.0

    def monotonic(self):
        return self.now


def without_times(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


@pytest.mark.parametrize("killed_after", [1, 4, 5])
def test_resumed_training_is_bit_equal(features, tmp_path, killed_after):
    whole = train(*prepare(features, tmp_path, "whole"))
    method, *rest = prepare(features, tmp_path, "killed")
    seen = []

    def count(features):
        seen.append(1)
        if len(seen) > killed_after * 3:  # 18 training images, batches of 5, the last one dropped: 3 steps an epoch
            raise KeyboardInterrupt
        return type(method).loss(method, features)

    method.loss = count
    with pytest.raises(KeyboardInterrupt):
        train(method, *rest)
    fresh, *rest = prepare(features, tmp_path, "killed")
    resumed = train(fresh, *rest)
    assert without_times(resumed.history) == without_times(whole.history)
    assert resumed.kept.keys() == whole.kept.keys() == {2, 4, 6}
    for epoch, state in whole.kept.items():
        assert all(torch.equal(value, resumed.kept[epoch][name]) for name, value in state.items())


def test_checkpoints_of_another_fingerprint_are_not_used(features, tmp_path):
    train(*prepare(features, tmp_path))
    assert SideFolder(tmp_path / "side", "f").load() is not None
    assert SideFolder(tmp_path / "side", "g").load() is None
    SideFolder(tmp_path / "side", "g").remove()
    assert not (tmp_path / "side" / ".resume").exists()


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "flipped": lambda data: (
        data[: len(data) // 2] + bytes(255 - byte for byte in data[len(data) // 2 :][:64]) + data[len(data) // 2 + 64 :]
    ),
    "garbled": lambda data: b"not a checkpoint" * 100,
}


@pytest.mark.parametrize(
    ("files", "goes_on_after"),
    [(["state.pt"], 4), (["kept4.pt"], 0), (["state.pt", "before.pt"], 0)],
    ids=["last", "kept", "both"],
)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    features, tmp_path, damage, files, goes_on_after, caplog
):
    whole = train(*prepare(features, tmp_path))
    side = SideFolder(tmp_path / "side", "f")
    for file in files:
        path = side.folder / file
        path.write_bytes(damage(path.read_bytes()))
    found = side.load()
    assert (found["epoch"] if found else 0) == goes_on_after
    for file in files:
        assert f"{side.folder / file} is damaged" in caplog.text
        assert (side.folder / file).with_suffix(".damaged.pt").is_file()
    again = train(*prepare(features, tmp_path))
    assert without_times(again.history) == without_times(whole.history)
    assert again.kept.keys() == whole.kept.keys() == side.load()["kept"].keys() | {6}


def test_kept_models_are_written_once(features, tmp_path, monkeypatch):
    written = []
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, path: (written.append(path.name.split(".")[1]), save(state, path)))
    train(*prepare(features, tmp_path))  # six epochs, of which three are kept
    assert written == ["state", "kept2", "state", "state", "kept4", "state", "state"]


@pytest.mark.parametrize("speed", [20e6, 200e6, 2e9])
@given(epoch=st.floats(5, 500), size=st.integers(1, 10**10))
@hypothesis.settings(max_examples=25)
def test_checkpoints_take_at_most_a_twentieth_of_the_time(speed, epoch, size):
    """Of any size, at any speed of the disk once one is written; and they are written at all."""
    clock = Clock()
    with patch("nfbench.training.checkpoint.time", clock):
        pace, writes = CheckpointPace(20.0, size), []
        while clock.now < 4000 + 100 * epoch + 100 * size / speed:
            clock.now += epoch
            if pace.is_due():
                with pace.writing():
                    clock.now += size / speed
                writes.append(clock.now)
    assert writes
    assert all(later - earlier >= 20 for earlier, later in pairwise(writes))
    for count, end in list(enumerate(writes, 1))[1 if speed < 200e6 else 0 :]:
        assert count * size / speed <= 0.0501 * end


def test_the_checkpoint_of_another_training_is_not_gone_on_with(features, tmp_path, caplog):
    train(*prepare(features, tmp_path, "other", epochs=3))
    own, other = SideFolder(tmp_path / "side", "f"), SideFolder(tmp_path / "other", "f")
    other.path.rename(other.path.with_name("copy.pt"))
    SideFolder(tmp_path / "other", "g").save({"epoch": 2, "kept": {}})
    own.folder.mkdir(parents=True)
    (tmp_path / "other" / ".resume" / "g" / "state.pt").rename(own.path)
    assert own.load() is None
    assert "state.pt is the checkpoint of another training" in caplog.text


def test_lost_loss_stops_with_the_last_good_checkpoint(features, tmp_path):
    method, data, settings, side, label, _ = prepare(features, tmp_path)
    calls = []

    def lose(features):
        calls.append(1)
        return type(method).loss(method, features) * (float("nan") if len(calls) == 8 else 1)

    method.loss = lose
    with pytest.raises(
        NfbenchError, match=r"cell: the loss is nan in epoch 3, batch 2; the last good checkpoint is .*"
    ):
        train(method, data, settings, side, label, 0.0)
    state = side.load()
    assert state["epoch"] == 2
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_exploding_loss_stops(features, tmp_path):
    with pytest.raises(Diverged, match=r"the loss is .* in epoch .* try a lower 'lr' \(now 1e\+06\)"):
        train(*prepare(features, tmp_path, lr=1e6))


def test_loss_descends_and_history_is_complete(features, tmp_path):
    result = train(*prepare(features, tmp_path, epochs=8))
    assert [row["epoch"] for row in result.history] == list(range(1, 9))
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert all(np.isfinite(row["val_log_likelihood"]) for row in result.history)


def test_each_kept_epoch_is_told_and_can_end_the_training(features, tmp_path):
    told = []

    def stop_at_4(method, epoch, val):
        assert not method.training
        told.append((epoch, val))
        if epoch == 4:
            raise StopIteration

    values = prepare(features, tmp_path, epochs=8, checkpoints=4)
    with pytest.raises(StopIteration):
        train(*values[:5], on_kept=stop_at_4)
    undisturbed = train(*prepare(features, tmp_path, "other", epochs=8, checkpoints=4)[:5]).history
    assert told == [(epoch, undisturbed[epoch - 1]["val_log_likelihood"]) for epoch in (2, 4)]


def test_without_held_out_images_there_is_no_val(features, tmp_path):
    result = train(*prepare(features, tmp_path, val_fraction=0))
    assert {row["val_log_likelihood"] for row in result.history} == {None}


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"gradient_clip": 1e-4}, {"schedule": "cosine"}])
def test_options_take_part(features, tmp_path, options):
    plain = train(*prepare(features, tmp_path, "plain"))
    other = train(*prepare(features, tmp_path, "other", **options))
    assert other.history[-1]["loss"] != plain.history[-1]["loss"]
    assert other.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], abs=0.1)


@pytest.mark.parametrize(
    ("epochs", "checkpoints", "expected"),
    [(20, 4, [5, 10, 15, 20]), (3, 5, [1, 2, 3]), (7, 1, [7]), (10, 3, [3, 7, 10]), (0, 5, [0])],
)
def test_kept_epochs(epochs, checkpoints, expected):
    assert kept_epochs(epochs, checkpoints) == expected


def test_schedules():
    constant = resolve_settings("fastflow")
    cosine = resolve_settings("fastflow", overrides={"schedule": "cosine"})
    assert learning_rate(constant, 0.9) == 1e-3
    assert [learning_rate(cosine, x) for x in (0, 0.5)] == pytest.approx([1e-3, 5e-4])
    assert learning_rate(cosine, 1) == pytest.approx(0, abs=1e-9)
    falling = {"schedule": "step", "milestones": (0.2, 0.9), "gamma": 0.5, "lr": 1}
    step = resolve_settings("fastflow", overrides=falling)
    assert [learning_rate(step, number / 10) for number in range(10)] == [1, 1, *[0.5] * 7, 0.25]


def test_schedule_of_cflow_ad():
    settings = resolve_settings("fastflow", overrides={"schedule": "warmup_cosine", "lr": 2e-4})
    rates = [learning_rate(settings, step / 1000) for step in range(1000)]  # 25 meta-epochs of 40 steps
    assert rates[0] == pytest.approx(2e-5)
    assert rates[79] < rates[80] == pytest.approx(1.9686e-4, rel=1e-4)
    assert np.allclose(np.diff(rates[:80]), (rates[80] - rates[0]) / 80)
    assert all(len(set(rates[first : first + 40])) == 1 for first in range(80, 1000, 40))
    assert rates[960] == pytest.approx(2e-7 + (2e-4 - 2e-7) * 0.5 * (1 + np.cos(np.pi * 24 / 25)))


def test_split_and_order_follow_from_the_seed(features):
    first, same, other = (TrainingData(features, 0.1, seed, CPU) for seed in (0, 0, 1))
    assert torch.equal(first.val, same.val)
    assert not torch.equal(first.val, other.val) or not torch.equal(first.train[:5], other.train[:5])
    assert sorted([*first.val.tolist(), *first.train.tolist()]) == list(range(20))
    assert len(first.val) == 2
    batches = [torch.cat([batch.features.levels[0] for batch in first.batches(epoch, 5, False)]) for epoch in (1, 1, 2)]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_small_sets_still_make_a_batch(features):
    data = TrainingData(features[:3], 0, 0, CPU)
    assert [len(batch.features) for batch in data.batches(1, 32, True)] == [3]
    assert data.n_batches(32, True) == 1


def test_memory_mapped_levels_give_the_same_batches(features, monkeypatch):
    resident = TrainingData(features, 0, 0, CPU)
    monkeypatch.setattr("nfbench.training.data.free_memory", lambda device: 0)
    mapped = TrainingData(features, 0, 0, CPU)
    for one, other in zip(resident.batches(1, 5, False), mapped.batches(1, 5, False), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.features.levels, other.features.levels, strict=True))


def test_states_survive_writing(tmp_path):
    kept = {
        3: {"a.b": torch.arange(3.0), "p": torch.tensor([2, 0, 1])},
        12: {"a.b": torch.zeros(3), "p": torch.ones(3)},
    }
    save_kept(tmp_path / "k.safetensors", kept)
    loaded = load_kept(tmp_path / "k.safetensors")
    assert list(loaded) == [3, 12]
    assert all(torch.equal(value, loaded[e][n]) for e, state in kept.items() for n, value in state.items())


@pytest.mark.parametrize(("content", "message"), [(None, "is missing"), (b"x" * 20, "cannot be read")])
def test_bad_state_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(NfbenchError, match=f"m.safetensors {message}"):
        load_state(tmp_path / "m.safetensors")


def test_state_is_written_atomically(tmp_path):
    save_state(tmp_path / "m.safetensors", {"a": torch.zeros(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_time_to_prepare_is_part_of_the_training(features, tmp_path):
    method, *rest = prepare(features, tmp_path, epochs=1)
    method.prepare = lambda passes: time.sleep(0.5)
    assert train(method, *rest).seconds > 0.5


def test_an_epoch_without_a_step_is_an_error(features, tmp_path):
    method, *rest = prepare(features, tmp_path, epochs=2)
    method.losses = lambda batch, generator: iter(())
    with pytest.raises(NfbenchError, match="no batch of epoch 1 gave a loss"):
        train(method, *rest)


@pytest.mark.parametrize("name", ["sanflow", "bgad"])
def test_resumed_training_on_anomalies_is_bit_equal(name, tmp_path):
    """With batch normalization, views that are drawn, and anomalies that join."""
    shapes = [LevelShape(6, 4, 4)]
    rng = np.random.default_rng(0)

    def draw(*outer):
        image = rng.normal(size=(*outer, 3, 16, 16)).astype(np.float16) if name == "sanflow" else None
        return Features([rng.normal(size=(*outer, *shape)).astype(np.float16) for shape in shapes], image)

    normal, pseudo = draw(8), draw(8, 3)
    masks = np.zeros((8, 3, 16, 16), np.uint8)
    masks[:, 1:, :8, :8] = 255
    small = {
        "condition_dim": 8,
        "coupling_blocks": 1,
        "epochs": 4,
        "meta_epochs": 4,
        "batch_size": 4,
        "val_fraction": 0,
    }
    settings = resolve_settings(name, overrides={**small, "checkpoints": 2})

    def run(folder, stop_at=None):
        views = CachedViews(pseudo, masks, CPU)
        joined = [] if name == "sanflow" else [(views, 2)]
        data = TrainingData(normal, 0.0, 0, CPU, views if name == "sanflow" else None, joined)
        if stop_at:
            whole = data.batches
            data.batches = lambda epoch, *rest: whole(epoch, *rest) if epoch < stop_at else (_ for _ in ()).throw(Stop)
        method = build_method(name, shapes, settings, (16, 16), 0)
        return train(method, data, settings, SideFolder(tmp_path / folder, "f"), "cell", 0.0)

    whole = run("whole")
    with pytest.raises(Stop):
        run("killed", stop_at=3)
    resumed = run("killed")
    assert without_times(resumed.history) == without_times(whole.history)
    for epoch, state in whole.kept.items():
        assert all(torch.equal(state[key], resumed.kept[epoch][key]) for key in state)


class Stop(Exception):
    """The end of a job that is killed."""
