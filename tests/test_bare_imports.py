"""Parsing the workflow needs only Snakemake's own dependencies: no numpy, Pillow, torch or typer."""

import subprocess
import sys
from pathlib import Path

import pytest

import nfbench
from nfbench.config import FigureConfig, TableConfig
from nfbench.core.registry import plugin_names
from nfbench.datasets._base import PACKAGE

SOURCE = Path(nfbench.__file__).parent
ROOMS = ("core", "config", "plan", "reference", "datasets", "backbones", "metrics")
KINDS = (TableConfig.package, FigureConfig.package)
COMPUTING = {
    "core.device", "core.scratch", "core.torchvision_guard", "backbones._extractors", "backbones._weights",
    "datasets._drawing", "datasets._miniature", "datasets._video", "metrics._aupimo", "metrics._calibration",
    "metrics._f1", "metrics._inputs", "metrics._iou", "metrics._legacy", "metrics._levels", "metrics._pixel",
    "metrics._ranking", "metrics._spro", "metrics._tails", "metrics._thresholds",
}  # fmt: skip
"""Modules of these rooms that are imported where something is computed."""

BROUGHT = {
    "annotated_types", "attr", "attrs", "certifi", "charset_normalizer", "idna", "jinja2", "jsonschema", "markupsafe",
    "psutil", "pydantic", "pydantic_core", "referencing", "requests", "rpds", "sqlalchemy", "tenacity",
    "typing_extensions", "typing_inspection", "urllib3", "yaml",
}  # fmt: skip
"""Packages that Snakemake depends on."""

SKELETON = (
    "btad/01/train/ok", "folder/part/train/good", "kolektor_sdd2/train/10000.png", "lgg_mri/kaggle_3m/TCGA_CS_4941",
    "mpdd/tubes/train/good", "mvtec_3d/bagel/train/good/rgb", "mvtec_ad/bottle/train/good", "visa/candle/Data",
    "shanghaitech/training/frames/01_001", "shanghaitech/testing/frames/01_0014", "mvtec_ad_2/can/test_public",
    "mvtec_loco/pushpins/test/logical_anomalies", "real_iad/realiad_256/pcb", "real_iad/realiad_jsons/pcb.json",
)  # fmt: skip
"""What readers look for to tell that a category is there."""

ONLY_BROUGHT = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        known = {{"nfbench", *sys.stdlib_module_names, *{BROUGHT}}}
        if name.partition(".")[0] not in known and not name.startswith("_sysconfigdata"):
            raise ImportError(f"{{name}} does not come with Snakemake")

sys.meta_path.insert(0, Refuse())
"""
CATEGORIES = """
from pathlib import Path
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
for name in sys.argv[2:]:
    try:
        print(name, *find_dataset(name).available(Path(sys.argv[1], name)))
    except NfbenchError as error:
        print(name, "error:", error)
"""


def run_bare(script, *arguments):
    command = [sys.executable, "-c", ONLY_BROUGHT + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_modules_are_imported_with_what_snakemake_brings():
    paths = [path.relative_to(SOURCE.parent).with_suffix("") for room in ROOMS for path in (SOURCE / room).glob("*.py")]
    names = sorted({".".join(path.parts).removesuffix(".__init__") for path in paths})
    bare = [name for name in names if name.removeprefix("nfbench.") not in COMPUTING]
    assert len(bare) == len(names) - len(COMPUTING)
    bare += [f"{package}.{kind}" for package in KINDS for kind in plugin_names(package)]
    run_bare("from importlib import import_module\nfor name in sys.argv[1:]: import_module(name)", *bare)


def test_what_is_there_is_listed_with_what_snakemake_brings(tmp_path):
    for path in SKELETON:
        (tmp_path / path).mkdir(parents=True)
    names = plugin_names(PACKAGE)
    found = dict(line.split(" ", 1) for line in run_bare(CATEGORIES, tmp_path, *names).splitlines())
    assert list(found) == names
    for name in {path.partition("/")[0] for path in SKELETON}:
        assert not found[name].startswith("error"), found[name]


def test_published_numbers_and_code_hashes_need_no_more():
    read = """
from nfbench.backbones._base import find_backbone
from nfbench.plan.code import code_hash
from nfbench.reference import published_names, printed_rows
print(len([row for name in published_names() for row in printed_rows(name)]))
print(code_hash("nfbench.training.fit:fit"), find_backbone("resnet18.tv_in1k").name)
"""
    rows, shown = run_bare(read).splitlines()
    assert int(rows) > 1000
    assert shown.split()[1] == "resnet18.tv_in1k"


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_other_packages_are_refused(name):
    with pytest.raises(AssertionError, match=f"{name} does not come with Snakemake"):
        run_bare(f"import {name}")
