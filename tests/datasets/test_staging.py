"""Generated data appears completely or not at all, even if processes are killed or run twice."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.datasets import synthetic
from nfbench.datasets._base import find_dataset
from nfbench.datasets._staging import staged_folder
from nfbench.plan.specs import PrepareSpec
from nfbench.stages.prepare import prepare_data

pytestmark = pytest.mark.slow

DATASET = synthetic.DATASET


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(synthetic, "N_TRAIN", 4)
    monkeypatch.setattr(synthetic, "N_TEST_NORMAL", 2)
    monkeypatch.setattr(synthetic, "N_TEST_PER_DEFECT", 1)


def data_below(root):
    """Everything that is not in a hidden folder or hidden itself."""
    found = [path.relative_to(root) for path in root.rglob("*")]
    return [path for path in found if not any(part.startswith(".") for part in path.parts)]


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_a_stopped_job_leaves_no_data(tmp_path, monkeypatch, after):
    draws = iter(range(after))
    draw = synthetic._pictures

    def stopping(category):
        def once(drawn):
            if next(draws, None) is None:
                raise KeyboardInterrupt
            return drawn()

        return {name: lambda drawn=drawn: once(drawn) for name, drawn in draw(category).items()}

    monkeypatch.setattr(synthetic, "_pictures", stopping)
    with pytest.raises(KeyboardInterrupt):
        DATASET.samples(tmp_path, "washer")
    assert not data_below(tmp_path)
    monkeypatch.setattr(synthetic, "_pictures", draw)
    assert len(DATASET.samples(tmp_path, "washer")) == 4 + 2 + 4


def test_a_killed_job_leaves_no_data_and_the_next_one_cleans_up(tmp_path):
    code = "from nfbench.datasets.synthetic import DATASET, Path; DATASET.samples(Path('data'), 'washer')"
    job = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    data = tmp_path / "data"
    while not list(data.glob(".washer.*/train/good/*.png")):
        assert job.poll() is None
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert not data_below(data)
    assert list(data.iterdir())
    assert len(DATASET.samples(data, "washer")) == 4 + 2 + 4
    assert [path.name for path in data.iterdir()] == ["washer"]


def test_leftovers_of_earlier_versions_are_no_images(tmp_path):
    samples = DATASET.samples(tmp_path, "stone")
    for folder in {sample.image.parent for sample in samples}:
        (folder / f".000.{socket.gethostname()}.4194000.x1y2z3.png").touch()
    assert DATASET.samples(tmp_path, "stone") == samples


def test_two_clones_make_one_data_folder_at_once(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: DATASET.samples(tmp_path / "a", "stone"), range(2)))
    assert found == [found[0]] * 2
    DATASET.samples(tmp_path / "b", "stone")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["stone"]


def test_a_miniature_appears_whole(tmp_path, monkeypatch):
    reader = find_dataset("mpdd")
    make, root = reader.miniature, tmp_path / "images/mpdd"

    def stopped(folder):
        make(folder)
        raise KeyboardInterrupt

    spec = PrepareSpec(
        dataset={"dataset": "mpdd"}, root=str(root), category="tubes", miniature=True, files="", code="",
        manifest=str(tmp_path / "manifests/mpdd/tubes.csv"),
    )  # fmt: skip
    monkeypatch.setattr(type(reader), "miniature", lambda _, folder: stopped(folder))
    with pytest.raises(KeyboardInterrupt):
        prepare_data(spec)
    assert not root.exists()
    monkeypatch.setattr(type(reader), "miniature", lambda _, folder: make(folder))
    prepare_data(spec)
    make(tmp_path / "direct")
    assert files_of(root) == files_of(tmp_path / "direct")
    (root / "tubes/train/good/000.png").unlink()
    prepare_data(spec)
    assert files_of(root) == files_of(tmp_path / "direct")


def test_what_is_there_stays_and_what_is_missing_comes(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("theirs")
    with staged_folder(folder) as staged:
        (staged / "a").write_text("ours")
        (staged / "sub").mkdir()
        (staged / "sub/b").write_text("ours")
    assert files_of(tmp_path) == {
        (folder / "a").relative_to(tmp_path): b"theirs", (folder / "sub/b").relative_to(tmp_path): b"ours",
    }  # fmt: skip


@pytest.mark.parametrize("taken", ["data", "data/synthetic"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, taken):
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).write_text("a file")
    with pytest.raises(NfbenchError, match=r"folder .*data/synthetic/stone cannot be created"):
        DATASET.samples(tmp_path / "data/synthetic", "stone")


@pytest.mark.parametrize("name", ["folder", "mvtec_ad", "visa", "lgg_mri", "shanghaitech", "kolektor_sdd2", "mvtec_3d"])
def test_a_root_that_is_a_file_is_named(tmp_path, name):
    (tmp_path / "taken").write_text("a file")
    for root in (tmp_path / "taken", tmp_path / "taken/images"):
        with pytest.raises(NfbenchError, match=r"folder .*/taken.* is not a folder; set 'data_root'"):
            find_dataset(name).available(root)
