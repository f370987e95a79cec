"""The tutorial's commands work in their order, on small images; its table of columns is that of the program."""

import re
import shlex
import shutil

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.inference.output import COLUMNS
from tests.conftest import ROOT, make_image_folder
from tests.in_process import run_experiment, run_nfbench
from tests.workflow.conftest import Checkout

TUTORIAL = (ROOT / "docs" / "predict.md").read_text()
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", TUTORIAL, flags=re.S | re.M) for line in block.splitlines()
]


BACKBONES = {
    "backbones: [tf_efficientnet_lite0]": "backbones: [{name: tf_efficientnet_lite0, input_size: 64, weights: random}]",
    "levels: [2, 3]": "levels: [2, 3], input_size: 64, weights: random",
    "epochs: 10": "epochs: 1",
}


@pytest.mark.slow
def test_five_commands_lead_to_decisions(tmp_path):
    """On small images, with random weights and one epoch; new parts are those of a test folder."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    Checkout(folder)
    parts = make_image_folder(tmp_path / "images", "bottle") / "bottle"
    places = {"/data/good_bottles": parts / "train" / "good", "/data/new_bottles": parts / "test"}
    path = folder / "workflow" / "experiments" / "own_images.yaml"
    for large, small in BACKBONES.items():
        assert large in path.read_text()
        path.write_text(path.read_text().replace(large, small))
    done = []
    for command in COMMANDS:
        asked = re.sub("|".join(places), lambda found: str(places[found[0]]), command)
        program, *arguments = shlex.split(asked.replace("@256-l23/", "@64-l23-random/"))
        if program == "mkdir":
            (folder / arguments[-1]).mkdir(parents=True)
        elif program == "cp":
            shutil.copytree(arguments[-2], folder / arguments[-1])
        elif program == "snakemake":
            run_experiment(folder, arguments[-1])
        elif arguments[0] == "predict":
            with pytest.raises(NfbenchError, match=r"too few to guarantee a false-alarm rate of 0\.05"):
                run_nfbench(folder, *arguments)
            run_nfbench(folder, *arguments, "--rule", "sigma")
        else:
            run_nfbench(folder, *arguments)
        done.append(program if program != "nfbench" else arguments[0])
    assert done == ["mkdir", "cp", "data", "snakemake", "predict", "report"]
    new = [file for file in (parts / "test").rglob("*.*") if file.is_file()]
    assert len(list((folder / "predictions" / "overlays").rglob("*.png"))) == len(new) == 6


def test_columns_are_explained():
    explained = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ", TUTORIAL, flags=re.M)
    assert [name for cell in explained for name in re.findall(r"\w+", cell)] == list(COLUMNS)
