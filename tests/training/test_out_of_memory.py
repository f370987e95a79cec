"""A training that runs out of memory ends with one line that says what to lower."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nfbench.blocks.method import LevelShape, resolve_settings
from nfbench.core.errors import NfbenchError
from nfbench.plan.cells import Cell
from nfbench.training import fit
from tests.tiny_models import stand_in

CELL = Cell("one-class", "mvtec_ad", "bottle", "variant", "resnet18@256-l12", 3)
META = SimpleNamespace(backbone=stand_in([LevelShape(8, 4, 4)], 64), recipe=None, key="key")
FEATURES = SimpleNamespace(shapes=[LevelShape(8, 4, 4)], meta=META)
IMAGES = SimpleNamespace(features=FEATURES, anomalies=None, pseudo=None, test=None, real=[])
FAULTS = {
    "GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 18.30 GiB.\nGPU 0 has a total"),
    "cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    "torch": RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    "numpy": np._core._exceptions._ArrayMemoryError((2**40,), np.dtype(np.float32)),
    "Python": MemoryError(),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize(
    ("method", "hint"),
    [
        ("fastflow", "lower the variant's 'batch_size' (now 32) or the backbone's 'input_size'"),
        ("padim", "lower the backbone's 'input_size' or choose fewer 'levels'"),
    ],
)
def test_out_of_memory_is_one_line(tmp_path, monkeypatch, fault, method, hint):
    def fails(*arguments, **options):
        raise fault

    monkeypatch.setattr(fit, "assemble", fails)
    with pytest.raises(NfbenchError) as caught:
        fit.fit(CELL, method, resolve_settings(method), [IMAGES], torch.device("cpu"), tmp_path, "origin")
    text = str(caught.value)
    assert text.startswith(f"{CELL}: out of memory (")
    assert text.endswith(f"; {hint}")
    assert text.isprintable()


def test_other_errors_stay_what_they_are(tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(fit, "assemble", fails)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit.fit(CELL, "padim", resolve_settings("padim"), [IMAGES], torch.device("cpu"), tmp_path, "origin")
