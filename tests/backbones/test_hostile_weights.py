"""Weights that are not a plain state dict: one line that names the file, and no code of it is run."""

import json
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from nfbench.backbones._base import find_backbone
from nfbench.backbones._extractors import create_network
from nfbench.backbones._weights import load_backbone
from nfbench.core.errors import NfbenchError

pytestmark = pytest.mark.slow

BACKBONE = find_backbone("tf_efficientnet_lite0")
FIRST = "conv_stem.weight"
RAN = Path("/tmp/nfbench-ran")


class Evil:
    """Runs code when it is unpickled."""

    def __init__(self, function=Path.touch, *arguments):
        self.function, self.arguments = function, arguments or (RAN,)

    def __reduce__(self):
        return (self.function, self.arguments)


@pytest.fixture(scope="module")
def good():
    torch.manual_seed(0)
    return create_network(BACKBONE).state_dict()


def changed(state, value, name=FIRST):
    return {**state, name: value}


def header(text: bytes, length: int | None = None, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def one(**entry) -> bytes:
    described = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **entry}
    return header(json.dumps({"a": described}).encode(), body=bytes(4))


def zipped(path: Path, **files: bytes) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in files.items():
            opened.writestr(f"archive/{name.replace('_', '.')}", content)


def tampered(path: Path, state, change) -> None:
    """A file of torch's with another pickle in it."""
    torch.save(state, path)
    with zipfile.ZipFile(path) as opened:
        files = {info.filename: opened.read(info) for info in opened.infolist()}
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, change(content) if name.endswith("data.pkl") else content)


OBJECTS = {
    "code": lambda s: Evil(),
    "code in a state dict": lambda s: changed(s, Evil()),
    "code by os.system": lambda s: changed(s, Evil(__import__("os").system, f"touch {RAN}")),
    "code by eval": lambda s: [Evil(eval, f"open({str(RAN)!r}, 'w')")],
    "code as a name": lambda s: {**s, Evil(): torch.zeros(1)},
    "whole model": lambda s: torch.nn.Linear(2, 2),
    "None": lambda s: None,
    "number": lambda s: 5,
    "text": lambda s: "weights\nof two lines",
    "list": lambda s: list(s.values()),
    "pairs": lambda s: list(s.items()),
    "tensor": lambda s: torch.zeros(5),
    "empty dict": lambda s: {},
    "empty ordered dict": lambda s: OrderedDict(),
    "nested in state_dict": lambda s: {"state_dict": s, "epoch": 5},
    "nested in model": lambda s: {"model": s},
    "nested deeply": lambda s: {"a": {"b": {"c": s}}},
    "with an optimizer": lambda s: {**s, "optimizer": {"lr": 0.1}},
    "with the epoch": lambda s: {**s, "epoch": 5},
    "value of None": lambda s: changed(s, None),
    "value of a list": lambda s: changed(s, [1.0, 2.0]),
    "value of text": lambda s: changed(s, "x" * 100_000),
    "names of numbers": lambda s: dict(enumerate(s.values())),
    "names of tuples": lambda s: {(name,): value for name, value in s.items()},
    "another prefix": lambda s: {f"module.{name}": value for name, value in list(s.items())[:-1]},
    "one missing": lambda s: {name: value for name, value in s.items() if name != FIRST},
    "transposed": lambda s: changed(s, s[FIRST].transpose(0, 1)),
    "without an axis": lambda s: changed(s, s[FIRST][0]),
    "scalar": lambda s: changed(s, torch.tensor(1.0)),
    "of no values": lambda s: changed(s, torch.zeros(0, 3, 3, 3)),
    "huge by a stride of 0": lambda s: changed(s, torch.zeros(1).expand(10**15)),
    "complex": lambda s: changed(s, s[FIRST].to(torch.complex64)),
    "sparse": lambda s: changed(s, s[FIRST].to_sparse()),
    "compressed rows": lambda s: changed(s, torch.eye(3).to_sparse_csr()),
    "quantized": lambda s: changed(s, torch.quantize_per_tensor(s[FIRST], 0.1, 0, torch.qint8)),
    "without memory": lambda s: changed(s, s[FIRST].to("meta")),
    "truth values": lambda s: changed(s, s[FIRST] > 0),
    "NaN": lambda s: changed(s, torch.full_like(s[FIRST], torch.nan)),
    "infinite": lambda s: changed(s, torch.full_like(s[FIRST], torch.inf)),
}  # fmt: skip
FILES = {
    "empty.pth": b"",
    "noise.pth": random.Random(0).randbytes(5000),
    "page.pth": b"<html>log in</html>",
    "pickle.pth": pickle.dumps({"a": 1}),
    "pickled_code.pth": pickle.dumps(Evil()),
    "pickle_of_a_function.pth": b"cos\nsystem\n(S'touch /tmp/nfbench-ran'\ntR.",
    "pickle_cut_short.pth": pickle.dumps({"a": [1] * 100})[:50],
    "pickle_of_odd_codes.pth": b"\x80\x05\xff\xfe\xfd.",
    "pickle_of_a_long_number.pth": b"\x80\x02\x8b\xff\xff\xff\x7f1.",
    "pickle_nested.pth": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "pickle_of_memory.pth": b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
    "zip.pth": None,
    "script.pth": None,
    "cut_0.pth": 0.3,
    "cut_1.pth": 0.9,
    "cut_2.pth": 0.999,
    "cut_3.safetensors": 0.3,
    "cut_4.safetensors": 0.999,
    "empty.safetensors": b"",
    "noise.safetensors": random.Random(1).randbytes(5000),
    "header_of_10^18.safetensors": header(b"{}", 10**18),
    "header_of_a_gibibyte.safetensors": header(b"{}", 2**30),
    "header_of_all_ones.safetensors": header(b"{}", 2**64 - 1),
    "header_of_nothing.safetensors": header(b""),
    "header_of_a_list.safetensors": header(b"[]"),
    "header_of_a_number.safetensors": header(b"5"),
    "header_nested.safetensors": header(b'{"a":' + b"[" * 5000),
    "header_of_bytes.safetensors": header(b"\xff\xfe\xfd"),
    "no_tensors.safetensors": header(b"{}"),
    "metadata_only.safetensors": header(b'{"__metadata__": {"a": "b"}}'),
    "metadata_of_numbers.safetensors": header(b'{"__metadata__": {"a": 5}}'),
    "unknown_type.safetensors": one(dtype="F33"),
    "type_of_numbers.safetensors": one(dtype=5),
    "negative_shape.safetensors": one(shape=[-1]),
    "huge_shape.safetensors": one(shape=[10**18, 10**18]),
    "shape_of_words.safetensors": one(shape=["a"]),
    "another_shape.safetensors": one(shape=[2]),
    "offsets_beyond_the_end.safetensors": one(data_offsets=[0, 4000], shape=[1000]),
    "offsets_backwards.safetensors": one(data_offsets=[4, 0]),
    "offsets_of_10^18.safetensors": one(data_offsets=[10**18, 10**18 + 4]),
    "no_offsets.safetensors": header(b'{"a": {"dtype": "F32", "shape": [1]}}', body=bytes(4)),
    "bytes_left_over.safetensors": one() + b"more",
    "pickle.safetensors": pickle.dumps(Evil()),
    "complex.safetensors": save({FIRST: torch.zeros(1, dtype=torch.complex64)}),
    "float8.safetensors": save({FIRST: torch.zeros(1).to(torch.float8_e4m3fn)}),
}


def refused(path: Path) -> str:
    RAN.unlink(missing_ok=True)
    with pytest.raises(NfbenchError) as raised:
        load_backbone(BACKBONE, (1, 2), str(path))
    assert not RAN.exists()
    line = str(raised.value)
    assert line.isprintable()
    assert len(line) < 600
    return line


@pytest.mark.parametrize("name", OBJECTS)
def test_other_objects_are_refused_in_one_line(tmp_path, good, name):
    torch.save(OBJECTS[name](good), tmp_path / "w.pth")
    assert "weights" in refused(tmp_path / "w.pth")


@pytest.mark.parametrize("name", FILES)
def test_damaged_and_made_up_files_are_refused_in_one_line(tmp_path, good, name):
    path, content = tmp_path / name, FILES[name]
    if name == "zip.pth":
        zipped(path, data_pkl=b"\x80\x02}.", version=b"3")
    elif name == "script.pth":
        torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    elif isinstance(content, float):
        torch.save(good, path) if path.suffix == ".pth" else save_file(good, path)
        path.write_bytes(path.read_bytes()[: int(content * path.stat().st_size)])
    else:
        path.write_bytes(content)
    assert str(path) in refused(path) or "weights" in refused(path)


def test_a_tampered_pickle_runs_nothing(tmp_path, good):
    tampered(tmp_path / "w.pth", {"a": 1}, lambda _: pickle.dumps(Evil()))
    assert f"weights file {tmp_path}/w.pth cannot be read" in refused(tmp_path / "w.pth")


def test_a_compressed_file_is_refused_before_it_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("archive/data.pkl", bytes(1 << 24))
    assert "it is a compressed zip, which torch does not write" in refused(tmp_path / "w.pth")


def test_what_to_save_is_said(tmp_path, good):
    torch.save({"state_dict": good, "epoch": 5}, tmp_path / "w.pth")
    assert refused(tmp_path / "w.pth") == (
        f"weights file {tmp_path}/w.pth is no plain state dict: 'state_dict' is of type OrderedDict where a tensor of "
        "real numbers under a name is expected; save 'model.state_dict()' alone"
    )


@pytest.mark.parametrize("kind", ["half", "double", "bfloat16"])
def test_other_precisions_are_taken(tmp_path, good, kind):
    save_file({name: getattr(value, kind)() for name, value in good.items()}, tmp_path / "w.safetensors")
    assert load_backbone(BACKBONE, (1,), str(tmp_path / "w.safetensors"))
