"""A packed run scores elsewhere as the run does here; a file that is not as it was packed is refused in one line."""

import hashlib
import json
import os
import shutil
import warnings
import zipfile
from contextlib import chdir, suppress

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from typer.testing import CliRunner

from nfbench.backbones import _weights
from nfbench.cli import app
from nfbench.core.errors import NfbenchError
from nfbench.core.seals import seal_of
from nfbench.inference.decisions import Decisions
from nfbench.inference.images import Given
from nfbench.inference.load import load_model
from nfbench.inference.package import pack
from nfbench.inference.predict import predict
from nfbench.results.files import ImageScore, read_rows
from tests.inference.conftest import METHODS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def packed(runs, tmp_path_factory):
    with chdir(runs.folder):
        return pack(runs.of("fastflow"), tmp_path_factory.mktemp("packed") / "fabric.nfbench", weights=True)


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def write(path, files, **options):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", **options) as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        for name, content in files:
            archive.writestr(name, content)
    return path


def resealed(files, **changes):
    values = {**json.loads(files["manifest.json"]), **changes}
    return {**files, "manifest.json": json.dumps({**values, "seal": seal_of(values)}).encode()}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_scores_elsewhere_are_those_of_the_evaluation_bit_for_bit(runs, method, tmp_path, monkeypatch):
    """With and without weights in the file, without the results, and where no weights can be loaded."""
    known = {row.image: np.float32(row.paper) for row in read_rows(ImageScore, runs.of(method))}
    asked = [Given(str((runs.folder / path).absolute()), "name.png") for path in known]
    (tmp_path / "elsewhere").mkdir()
    for weights in (False, True):
        without = shutil.ignore_patterns("features")
        shutil.copytree(runs.folder, tmp_path / "moved", ignore=without, copy_function=os.link)  # packing reads alone
        with chdir(tmp_path / "moved"):
            path = pack(runs.of(method).relative_to(runs.folder), tmp_path / "a.nfbench", weights)
        shutil.rmtree(tmp_path / "moved")
        if weights:
            monkeypatch.setattr(_weights.torch, "manual_seed", lambda _: torch.default_generator.manual_seed(7))
        with chdir(tmp_path / "elsewhere"):
            model = load_model(path, CPU)
            found = list(predict(model, Decisions.of(model.thresholds, "sigma"), asked))
        assert [np.float32(one.score) for one in found] == list(known.values())


def test_the_command_packs_what_predict_reads(runs, tmp_path):
    image = (runs.folder / read_rows(ImageScore, runs.of("fastflow"))[0].image).absolute()
    with chdir(tmp_path):
        done = CliRunner().invoke(app, ["pack", str(runs.of("fastflow"))])
        assert done.exit_code == 0, done.output
        (path,) = tmp_path.glob("*.nfbench")
        assert path.name == "fabric-tiny-fastflow-tf_efficientnet_lite0@64-random-seed0.nfbench"
        assert path.name in done.output
        done = CliRunner().invoke(app, ["predict", path.name, str(image), "--rule", "sigma"])
        assert done.exit_code == 0, done.output
        assert (tmp_path / "predictions" / "predictions.csv").is_file()
        with pytest.raises(NfbenchError, match=r"end in \.nfbench"):
            pack(runs.of("fastflow"), "a.zip")
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_the_same_run_gives_the_same_bytes_and_the_card_says_what_it_is(runs, packed, tmp_path):
    again = pack(runs.of("fastflow"), tmp_path / "again.nfbench", weights=True)
    assert again.read_bytes() == packed.read_bytes()
    assert set(members(packed)) == {
        "README.md", "manifest.json", "run.json", "thresholds.json", "training.json", "model.safetensors",
        "backbone.safetensors",
    }  # fmt: skip
    card = members(packed)["README.md"].decode()
    for said in (
        "# tiny-fastflow on synthetic-tiny/fabric", "Images: 7 normal images", "3 normal images held out",
        "`tf_efficientnet_lite0` at 64", "image AUROC", "From 3 normal images (held out)", "Images: Apache-2.0",
        "included as `backbone.safetensors`", "Packed by nfbench", "CITATION.cff",
    ):  # fmt: skip
        assert said in card, said
    assert "not included" in members(pack(runs.of("fastflow"), again))["README.md"].decode()


def test_weights_that_are_not_here_are_said_at_once(runs, tmp_path, monkeypatch):
    path = pack(runs.of("fastflow"), tmp_path / "a.nfbench")
    monkeypatch.setattr(_weights.torch, "manual_seed", lambda _: torch.default_generator.manual_seed(7))
    with pytest.raises(
        NfbenchError, match=r"does not include the weights of its backbone, .* pack the run with '--weights'"
    ):
        load_model(path, CPU)


def test_files_that_are_not_as_they_were_packed_are_refused(packed, tmp_path):
    files, path = members(packed), tmp_path / "a.nfbench"

    def refused(match):
        with pytest.raises(NfbenchError, match=match) as caught:
            load_model(path, CPU)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)

    whole = packed.read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        refused("is damaged or not a package")
    state = load_model(packed, CPU).method.state_dict()
    for place in [*range(0, len(whole), len(whole) // 23), *range(len(whole) - 600, len(whole), 13)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with suppress(NfbenchError):  # else it was such as the time of a file, which nothing reads
            found = load_model(path, CPU).method.state_dict()
            assert all(torch.equal(found[name], state[name]) for name in state)
    write(path, [("a.txt", b"")])
    refused("unexpected file 'a.txt'")
    write(path, [("README.md", b"")])
    refused("has no manifest.json")
    for name in ("../x", "/tmp/x", "model.pt", "sub/run.json"):
        write(path, [*files.items(), (name, b"x")])
        refused("has an unexpected file")
    write(path, [*files.items(), ("run.json", b"x")])
    refused("has a duplicate file")
    write(path, files.items(), compression=zipfile.ZIP_DEFLATED)
    refused("is compressed")
    write(path, [item for item in files.items() if item[0] != "backbone.safetensors"])
    refused("the file 'backbone.safetensors' does not match the manifest")
    for name in files.keys() - {"manifest.json"}:
        changed = files[name][:-1] + bytes([files[name][-1] ^ 1])
        write(path, {**files, name: changed}.items())
        refused(f"{name} has changed")
        write(path, {**files, name: files[name] + b" "}.items())
        refused(f"{name} has changed")
    write(path, {**files, "manifest.json": files["manifest.json"].replace(b'"format": 1', b'"format": 2')}.items())
    refused("manifest.json has changed")
    write(path, resealed(files, format=2).items())
    refused("has format 2, but nfbench .* reads 1; write the package again")
    write(path, resealed(files, cell=3).items())
    refused("manifest.json: 'cell'")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.nfbench"]


def test_records_of_another_version_are_named_with_it(packed, tmp_path):
    files = members(packed)
    content = json.dumps({"cell": 1}).encode()
    written = json.loads(files["manifest.json"])["written"]
    written["run.json"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    files = resealed({**files, "run.json": content}, written=written, nfbench="0.0.1")
    path = write(tmp_path / "a.nfbench", files.items())
    with pytest.raises(NfbenchError, match=r"was packed by nfbench 0\.0\.1 and cannot be used by .*: run\.json: 'cell"):
        load_model(path, CPU)


def test_weights_of_another_network_are_refused(packed, tmp_path):
    files = members(packed)
    state = load(files["backbone.safetensors"])
    name = next(iter(state))
    content = save({**state, name: state[name] + 1})
    written = json.loads(files["manifest.json"])["written"]
    written["backbone.safetensors"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    files = resealed({**files, "backbone.safetensors": content}, written=written)
    path = write(tmp_path / "a.nfbench", files.items())
    with pytest.raises(NfbenchError, match="differs from the weights that the model was trained with"):
        load_model(path, CPU)
