"""Choice of the device, and the error if a requested GPU does not exist."""

import subprocess
import sys

import pytest
import torch

from nfbench.core.device import pick_device, require_gpu, tf32
from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import provenance


def no_driver() -> None:
    raise RuntimeError("Found no NVIDIA driver on your system.\nPlease check that you have an NVIDIA GPU.")


@pytest.fixture
def without_gpu(monkeypatch):
    """A build of torch with CUDA on a machine without a driver."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", no_driver)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    return monkeypatch


def test_the_build_for_cpus_is_named(without_gpu):
    without_gpu.setattr(torch.backends.cuda, "is_built", lambda: False)
    with pytest.raises(NfbenchError, match=r"torch \S+ is a build for CPUs alone; install one with CUDA"):
        require_gpu()


def test_the_missing_driver_is_named_in_one_line(without_gpu):
    with pytest.raises(NfbenchError) as raised:
        require_gpu()
    message = str(raised.value)
    assert "is built with CUDA, but cannot start it: Found no NVIDIA driver on your system. Please check" in message
    assert "\n" not in message


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles"])
def test_hidden_gpus_are_named(without_gpu, hidden):
    without_gpu.setenv("CUDA_VISIBLE_DEVICES", hidden)
    with pytest.raises(NfbenchError, match=f"CUDA_VISIBLE_DEVICES is '{hidden}', which hides all GPUs"):
        require_gpu()


def test_only_cuda_insists(without_gpu):
    assert pick_device("auto").type == pick_device("cpu").type == "cpu"
    with pytest.raises(NfbenchError, match="'device' is cuda, but torch sees no GPU on"):
        pick_device("cuda")


@pytest.fixture
def with_gpu(monkeypatch):
    """A machine where torch would find a GPU; what is set for it is unset afterwards."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    monkeypatch.setattr(torch.version, "cuda", None)  # no slot is taken
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    backends, deterministic = torch.backends, torch.utils.deterministic
    before = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, deterministic.fill_uninitialized_memory
    yield monkeypatch
    torch.use_deterministic_algorithms(False)
    backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, deterministic.fill_uninitialized_memory = before


IEEE = {"fp32_products": "ieee", "fp32_convolutions": "ieee", "deterministic": True}


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_gpu_computes_with_the_float32_of_ieee_and_the_record_says_so(with_gpu, name):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device = pick_device(name)
    assert provenance(device)["arithmetic"] == IEEE
    assert not torch.utils.deterministic.fill_uninitialized_memory
    with tf32(allowed=True):
        within = provenance(device)["arithmetic"]
    assert within == {**IEEE, "fp32_products": "tf32", "fp32_convolutions": "tf32"}
    assert provenance(device)["arithmetic"] == IEEE


def test_a_gpu_costs_no_import_of_the_compiler():
    """More than a second in every job."""
    script = (
        "import sys, torch; from nfbench.core.device import pick_device; torch.cuda.is_available = lambda: True;"
        "torch.version.cuda = None; pick_device('cuda'); assert torch.are_deterministic_algorithms_enabled();"
        "assert torch.is_deterministic_algorithms_warn_only_enabled(); assert 'torch._dynamo' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_tf32_ends_with_an_error_too(with_gpu):
    pick_device("cuda")
    with pytest.raises(ValueError, match="stop"), tf32(allowed=True):
        raise ValueError("stop")
    assert provenance(torch.device("cuda"))["arithmetic"] == IEEE


def test_a_cpu_keeps_its_kernels_and_has_no_choice_of_arithmetic(with_gpu):
    assert provenance(pick_device("cpu"))["arithmetic"] is None
    assert not torch.are_deterministic_algorithms_enabled()


def test_where_there_is_a_gpu_nothing_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    require_gpu()


@pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:1", ""])
def test_another_word_is_no_device(name):
    with pytest.raises(NfbenchError, match=f"unknown device '{name}'; known: auto, cpu, cuda"):
        pick_device(name)
