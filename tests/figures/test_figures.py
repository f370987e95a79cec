"""Figures that have nothing to show say so."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.core.files import write_csv
from nfbench.figures.base import DrawnRun


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("segmentation", "needs a method with standard normal latents"),
        ("calibration", "needs a method with standard normal latents"),
        ("thresholds", "needs images with masks"),
    ],
)
def test_nothing_to_draw_is_one_clear_error(tmp_path: Path, kind, message):
    write_csv(tmp_path / "calibration.csv", ("images", "scale"), [])
    write_csv(tmp_path / "miou.csv", ("map", "threshold"), [])
    record = SimpleNamespace(segmentation=SimpleNamespace(false_alarms={"fair": None}))
    run = DrawnRun(SimpleNamespace(seed=0), record, tmp_path, tmp_path)
    with pytest.raises(NfbenchError, match=f"kind '{kind}' {message}"):
        getattr(importlib.import_module(f"nfbench.figures.{kind}"), f"draw_{kind}")([run])
