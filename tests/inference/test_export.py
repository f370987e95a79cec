"""Exported files: every method gives the numbers of the method, for batches of any size, and bad files one line."""

import io
import json
import sys
import zipfile
from contextlib import chdir
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.export.pt2_archive._package import PT2ArchiveReader, PT2ArchiveWriter

from nfbench.blocks.features import Features
from nfbench.blocks.method import PACKAGE, resolve_settings
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin, plugin_names
from nfbench.features.forward import normalize, read_images
from nfbench.features.recipe import Recipe
from nfbench.inference import export
from nfbench.inference.decisions import Decisions
from nfbench.inference.export import TOLERANCE, Exported, write_exported
from nfbench.inference.exported import load_exported
from nfbench.inference.images import Given
from nfbench.inference.load import load_model
from nfbench.inference.predict import predict
from nfbench.results import record
from nfbench.scoring.scorer import Scorer
from tests.in_process import run_nfbench
from tests.tiny_models import build_tiny

CPU = torch.device("cpu")
OF_FIBRES = ("cflow", "nfad", "bgad", "sanflow", "hgad")
KINDS = {"torch": "pt2", "onnx": "onnx"}
SMALL = {
    "fastflow": {"flow_steps": 2}, "uflow": {"flow_steps": 1}, "csflow": {"kernel_sizes": (3,)},
    "differnet": {"flow_steps": 1}, **{name: {"coupling_blocks": 1} for name in OF_FIBRES},
}  # fmt: skip
THRESHOLDS = {
    "source": "held out", "pixels": None,
    "images": [{"image": "a.png", "sha256": "0", "score": 0.5, "largest": None}],
}  # fmt: skip
DESCRIBED = {
    "nfbench": "0", "method": "m", "variant": "m", "title": "M", "setting": "one-class", "dataset": "d",
    "category": "c", "seed": 0, "backbone": "b@32", "weights_sha256": "0", "side": 32, "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25), "resize": "r", "thresholds": THRESHOLDS,
}  # fmt: skip


class Stub(nn.Module):
    """A backbone of one convolution a level."""

    def __init__(self, shapes, side):
        super().__init__()
        strides = [side // shape.height for shape in shapes]
        self.levels = nn.ModuleList(
            nn.Conv2d(3, shape.channels, stride, stride) for shape, stride in zip(shapes, strides, strict=True)
        )

    def forward(self, x):
        return [level(x) for level in self.levels]


@dataclass(frozen=True)
class Fitted:
    """A scorer that has seen normal images, and images to score."""

    scorer: Scorer
    pictures: list = field(default_factory=list)

    @property
    def described(self):
        return {**DESCRIBED, "side": self.scorer.recipe.backbone.input_size}


class OnePass:
    """Normal images in one batch, each time they are asked for."""

    def __init__(self, features):
        self.features = features

    def __call__(self):
        return iter([self.features])

    def shuffled(self, number, batch_size):
        return self.features[:batch_size], self.features[batch_size:]


def pictures_of(side, count, seed, anomalous=()):
    """Images of one scene in changing light, some of them with a square that does not belong there."""
    scene = np.random.default_rng(0).integers(60, 180, (side, side, 3))
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        image = scene * rng.uniform(0.9, 1.1) + rng.normal(0, 8, scene.shape)
        if number in anomalous:
            image[side // 4 : side // 2, side // 4 : side // 2] = 250
        found.append(Image.fromarray(image.clip(0, 255).astype(np.uint8)))
    return found


def fitted(name, rotations=0, **settings):
    method, tiny = plugin(PACKAGE, name).METHOD, plugin(PACKAGE, name).METHOD.tiny
    torch.manual_seed(0)
    given = resolve_settings(name, overrides={**tiny.settings, **SMALL.get(name, {}), **settings})
    model = build_tiny(name, given)
    kind = (
        {"name": "tf_efficientnet_lite0", "rotations": rotations, "image": method.takes_image}
        if method.takes_levels
        else {"name": "image"}
    )
    backbone = BackboneConfig(**kind, input_size=tiny.side).resolved()
    shapes = {f"level{number}": tuple(shape) for number, shape in enumerate(tiny.shapes)}
    recipe = Recipe(backbone=backbone, mean=(0.5,) * 3, std=(0.25,) * 3, level_shapes=shapes, weights_sha256="0")
    stub = Stub(tiny.shapes, tiny.side).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        inputs = normalize(read_images(pictures_of(tiny.side, 24, 1), tiny.side), recipe, CPU)
        classes = torch.zeros(24, dtype=torch.long) if method.takes_class else None
        passes = OnePass(Features(stub(inputs), inputs if method.takes_image else None, classes))
        model.prepare(passes)
        model.eval().calibrate(passes)
    scorer = Scorer(model, recipe, CPU, stub)
    scorer.__dict__["_network"] = stub
    return Fitted(scorer, pictures_of(tiny.side, 8, 2, anomalous=(1, 4, 6)))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """By method and kind: what was exported, and what was written; each once, and both kinds from one graph."""
    folder, trace = tmp_path_factory.mktemp("exported"), cache(export._trace)

    @cache
    def made(name, kind) -> tuple[Fitted, Exported]:
        one = of(name)
        path = folder / f"{name}.{KINDS[kind]}"
        return one, write_exported(one.scorer, path, kind, one.described, one.pictures)

    of = cache(fitted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_trace", trace)
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", plugin_names(PACKAGE))
def test_a_file_gives_the_scores_of_the_method_for_batches_of_any_size(name, kind, exported):
    one, written = exported(name, kind)
    model = load_exported(written.path)
    assert written.agreement.n_images == 8
    assert written.size == written.path.stat().st_size
    for count in (1, 3, 7):
        chosen = one.pictures[-count:]
        maps, scores = model.score(read_images(chosen, model.size).numpy())
        expected = one.scorer.score(chosen)
        paper = expected.images["paper"]
        np.testing.assert_allclose(scores, paper, atol=TOLERANCE * np.abs(paper).max())
        if one.scorer.model.gradient_maps or expected.maps is None:
            assert maps is None
        else:
            reach = max(np.ptp(expected.maps), 0.01 * np.abs(expected.maps).max())
            assert maps.shape == expected.maps.shape
            np.testing.assert_allclose(maps, expected.maps, atol=2 * TOLERANCE * reach)


def test_several_neighbours_and_the_weights_of_patchcore(tmp_path):
    one = fitted("patchcore", neighbors=3, reweighting=True, embedding="average")
    written = write_exported(one.scorer, tmp_path / "model.onnx", "onnx", one.described, one.pictures)
    assert written.agreement.scores < TOLERANCE


def test_rotated_views_are_made_in_the_graph(tmp_path):
    one = fitted("differnet", rotations=3)
    written = write_exported(one.scorer, tmp_path / "model.onnx", "onnx", one.described, one.pictures)
    assert written.agreement.maps is None
    assert written.agreement.scores < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_says_what_it_is(kind, exported):
    model = load_exported(exported("padim", kind)[1].path)
    assert model.thresholds.model_dump() == THRESHOLDS
    assert model.metadata.outputs == ("map", "score")
    assert (model.size, model.metadata.category) == ((32, 32), "c")
    for wrong in (np.zeros((1, 3, 31, 32), np.uint8), np.zeros((1, 3, 32, 32), np.float32)):
        with pytest.raises(ValueError, match=r"\(B, 3, 32, 32\) uint8"):
            model.score(wrong)


def test_a_file_names_no_place_of_the_machine_that_wrote_it(exported):
    for kind in KINDS:
        _, written = exported("padim", kind)
        content = written.path.read_bytes()
        for place in (Path(__file__).parent, Path(torch.__file__).parent, written.path.parent):
            assert str(place).encode() not in content
        assert written.path.stem.encode() not in content.replace(b"padim.py", b"")


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    one, other, trace = fitted("padim"), fitted("padim", smoothing=3.0), export._trace
    monkeypatch.setattr(export, "_trace", lambda _: trace(other.scorer))
    with pytest.raises(NfbenchError, match="was not written: it differs from PaDiM by"):
        write_exported(one.scorer, tmp_path / "model.pt2", "torch", one.described, one.pictures)
    assert not list(tmp_path.iterdir())


def test_what_onnx_cannot_hold_is_one_line(tmp_path, monkeypatch):
    one = fitted("sanflow", score="expected")
    with pytest.raises(
        NfbenchError, match=r"'SANFlow' cannot be exported to ONNX: it has no operator .*digamma.*torch"
    ):
        write_exported(one.scorer, tmp_path / "model.onnx", "onnx", one.described, one.pictures)
    monkeypatch.setattr(export, "_LARGEST_ONNX", 10)
    with pytest.raises(NfbenchError, match=r"an ONNX file holds at most 2; use '--format torch'"):
        write_exported(one.scorer, tmp_path / "model.onnx", "onnx", one.described, one.pictures)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_is_named(package, exported, tmp_path, monkeypatch):
    one, written = exported("padim", "onnx")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        NfbenchError, match=rf"^ONNX files need .* \(missing: {package}\): pip install 'nfbench\[export\]'$"
    ):
        write_exported(one.scorer, tmp_path / "model.onnx", "onnx", one.described, one.pictures)
    if package == "onnxruntime":
        with pytest.raises(NfbenchError, match="missing: onnxruntime"):
            load_exported(written.path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.98])
def test_a_file_that_was_cut_short_is_one_line(kind, share, exported, tmp_path):
    content = exported("padim", kind)[1].path.read_bytes()
    path = tmp_path / f"cut.{KINDS[kind]}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(NfbenchError, match=r"cut\.\w+ (is damaged, or 'nfbench export' did not|is an ONNX file, but)"):
        load_exported(path)


def test_files_of_others_are_one_line(tmp_path):
    zipped, text, foreign = tmp_path / "a.pt2", tmp_path / "b.onnx", tmp_path / "c.pt2"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("readme", "hello")
    text.write_text("hello")
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), foreign)
    for path in (zipped, text, foreign):
        with pytest.raises(NfbenchError, match=rf"{path.name} (is damaged|contains)"):
            load_exported(path)
    with pytest.raises(FileNotFoundError):
        load_exported(tmp_path / "none.onnx")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_version_is_one_line(kind, exported, tmp_path, monkeypatch):
    one, _ = exported("padim", kind)
    path = tmp_path / f"model.{KINDS[kind]}"
    with monkeypatch.context() as patch:
        patch.setattr(export, "_compare", lambda *_: export.Agreement(0, 0, 0, 8, True))
        newer = lambda self: json.dumps({**one.described, "format": 2, "outputs": ["map", "score"]})  # noqa: E731
        patch.setattr(export.Metadata, "model_dump_json", newer)
        write_exported(one.scorer, path, kind, one.described, one.pictures)
    with pytest.raises(NfbenchError, match=r"from another version of nfbench \(key 'format'\)"):
        load_exported(path)


def rewritten(source, target, name, content):
    """A copy of an archive in which one file has other content, written as torch writes archives."""
    with source.open("rb") as file:
        reader = PT2ArchiveReader(file)
        files = {one: reader.read_bytes(one) for one in reader.get_file_names()}
    written = ("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id")
    with target.open("wb") as file, PT2ArchiveWriter(file) as writer:
        for one in dict.fromkeys([*(one for one in files if one not in written), name]):
            old = files.get(one, b"")
            writer.write_bytes(one, content(old) if one == name else old)


def changed(edit):
    def apply(old):
        values = json.loads(old)
        edit(values)
        return json.dumps(values).encode()

    return apply


def first_node(model):
    return model["graph_module"]["graph"]["nodes"][0]


MODEL = "models/model.json"
ATTACKS = {
    "function": (MODEL, changed(lambda m: first_node(m).update(target="torch.hub.load")), "torch.hub.load"),
    "file": (MODEL, changed(lambda m: first_node(m).update(target="torch.ops.aten.from_file.default")), "from_file"),
    "guard": (MODEL, changed(lambda m: m.update(guards_code=["print(1)"])), "guards_code"),
    "expression": (
        MODEL,
        lambda old: old.replace(b"Symbol('", b"__import__('os') or Symbol('", 1),
        "expression",
    ),
    "pickle": (
        "data/weights/model_weights_config.json",
        changed(lambda c: next(iter(c["config"].values())).update(use_pickle=True)),
        "pickles",
    ),
    "object": ("data/constants/custom_obj_0", lambda old: b"x", "custom_obj_0"),
}  # fmt: skip


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('the file has run code')",)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_that_asks_for_code_is_refused(attack, exported, tmp_path):
    _, written = exported("simplenet", "torch")
    name, content, what = ATTACKS[attack]
    rewritten(written.path, tmp_path / "bad.pt2", name, content)
    with pytest.raises(NfbenchError, match=rf"bad\.pt2 contains .*{what}.*could run code"):
        load_exported(tmp_path / "bad.pt2")


def test_a_pickle_in_place_of_the_example_is_refused(exported, tmp_path):
    buffer = io.BytesIO()
    torch.save(Bomb(), buffer)
    _, written = exported("simplenet", "torch")
    rewritten(written.path, tmp_path / "bad.pt2", "data/sample_inputs/model.pt", lambda _: buffer.getvalue())
    with pytest.raises(NfbenchError, match="could run code"):
        load_exported(tmp_path / "bad.pt2")


def test_an_archive_that_is_only_rewritten_is_read(exported, tmp_path):
    one, written = exported("simplenet", "torch")
    rewritten(written.path, tmp_path / "same.pt2", MODEL, lambda old: old)
    images = read_images(one.pictures, 32).numpy()
    np.testing.assert_array_equal(load_exported(tmp_path / "same.pt2").score(images)[1],
                                  load_exported(written.path).score(images)[1])  # fmt: skip


@pytest.mark.slow
def test_the_command_writes_a_finished_run_and_says_how_it_agrees(runs, tmp_path):
    """And a file decides as its run does."""
    run, path = runs.of("fastflow"), tmp_path / "own.onnx"
    said = run_nfbench(runs.folder, "export", str(run), "--tolerance", "1e-3", "--output", str(path))
    assert "differs from the method on 8 made-up images (fewer test images are there) by at most" in said
    assert "of their range" in said
    with chdir(runs.folder):
        trained, model = load_model(run, CPU), load_model(path, CPU)
        assert model.thresholds == trained.thresholds
        images = [Given(entry.image, "n") for entry in record.tested_images(trained.record)]
        found = [list(predict(one, Decisions.of(one.thresholds, "sigma"), images)) for one in (trained, model)]
        with pytest.raises(NfbenchError, match="has no latents, which the rule 'nfa' needs"):
            list(predict(model, Decisions.of(model.thresholds, "nfa"), images[:1]))
    for one, other in zip(*found, strict=True):
        assert other.score == pytest.approx(one.score, rel=1e-3)
        assert other.anomalous == one.anomalous
        assert other.score_map.shape == one.score_map.shape
