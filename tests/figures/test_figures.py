"""Figures that have nothing to show say so."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.figures.base import DrawnRun
from nfbench.results.files import MeanIou, Quantile, write_rows


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("segmentation", "needs a method with standard normal latents"),
        ("calibration", "needs a method with standard normal latents"),
        ("thresholds", "needs images with masks"),
    ],
)
def test_nothing_to_draw_is_one_clear_error(tmp_path: Path, kind, message):
    for rows in (MeanIou, Quantile):
        write_rows(rows, tmp_path, [])
    record = SimpleNamespace(segmentation=SimpleNamespace(false_alarms={"fair": None}))
    run = DrawnRun(SimpleNamespace(seed=0), record, tmp_path, tmp_path)
    with pytest.raises(NfbenchError, match=f"kind '{kind}' {message}"):
        getattr(importlib.import_module(f"nfbench.figures.{kind}"), f"draw_{kind}")([run])
