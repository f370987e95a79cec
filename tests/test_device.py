"""Where to compute: what is said where a GPU is asked for and there is none."""

import pytest
import torch

from nfbench.core.device import pick_device, require_gpu
from nfbench.core.errors import NfbenchError


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


def test_where_there_is_a_gpu_nothing_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    require_gpu()


@pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:1", ""])
def test_another_word_is_no_device(name):
    with pytest.raises(NfbenchError, match=f"unknown device '{name}'; known: auto, cpu, cuda"):
        pick_device(name)
