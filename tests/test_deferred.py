"""Deferred modules of a library are imported only when the library uses them."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

FREIA = """
import sys
import nfbench.results.foresight, nfbench.search.summary
from nfbench.blocks.method import LevelShape, build_to_count, resolve_settings
from nfbench.methods import fastflow, uflow
for method in ("fastflow", "cflow"):  # as before the first job of each run
    build_to_count(method, [LevelShape(8, 4, 4)], resolve_settings(method), (16, 16))
assert not {"pandas", "sympy", "sklearn"} & sys.modules.keys()
assert "FrEIA" in sys.modules and "scipy.stats" not in sys.modules
from FrEIA.modules import AllInOneBlock
turned = AllInOneBlock([(6,)], subnet_constructor=lambda a, b: __import__("torch").nn.Linear(a, b), permute_soft=True)
w = turned.w_perm[..., 0] if turned.w_perm.ndim > 2 else turned.w_perm
assert abs((w @ w.T).trace().item() - 6) < 1e-4, "a rotation by the real scipy.stats"
import scipy.stats
assert scipy.stats.norm.cdf(0) == 0.5
"""
HIGRA = """
import sys
import numpy as np
from nfbench.scoring.a_contrario import log_pfa
assert "higra" not in sys.modules
log_pfa(np.random.default_rng(0).random((4, 5)), 3)
assert "higra" in sys.modules and "matplotlib" not in sys.modules and "scipy.cluster" not in sys.modules
import higra
import matplotlib
matplotlib.use("Agg")
graph = higra.get_4_adjacency_graph((2, 2))
higra.plot_graph(graph, vertex_positions=np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
from matplotlib import pyplot
assert len(pyplot.gca().collections) == 2, "drawn by the real pyplot"
"""
TIMM = """
import sys
from nfbench.backbones._base import find_backbone
from nfbench.backbones._weights import load_backbone
load_backbone(find_backbone("tf_efficientnet_lite0"), (1, 2), "random")
assert "timm" in sys.modules and "torch._dynamo" not in sys.modules
from timm.models.naflexvit import NaFlexVit
from torchvision.ops import roi_align
import torch
assert roi_align(torch.zeros(1, 1, 4, 4), torch.zeros(0, 5), 2).shape == (0, 1, 2, 2)
"""


@pytest.mark.parametrize("program", [FREIA, HIGRA, TIMM], ids=["FrEIA", "higra", "timm"])
def test_a_job_does_not_import_what_it_does_not_use(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
