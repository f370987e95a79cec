"""The tutorial's commands work in their order, on small images; its table of columns is that of the program."""

import re
import shlex
import shutil
from contextlib import chdir

import pytest

from nfbench.inference.output import COLUMNS
from tests.conftest import ROOT, make_image_folder
from tests.in_process import run_experiment, run_nfbench
from tests.workflow.conftest import Checkout

TUTORIAL = (ROOT / "docs" / "predict.md").read_text()
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", TUTORIAL, flags=re.S | re.M) for line in block.splitlines()
]


@pytest.mark.slow
def test_five_commands_lead_to_decisions(tmp_path):
    """With random weights, few epochs and the train folder alone; new parts are those of its test folder."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    Checkout(folder)
    make_image_folder(tmp_path / "images", "bottle")
    parts = tmp_path / "images" / "bottle"
    places = {"/data/good_bottles": parts / "train" / "good", "/data/new_bottles": parts / "test"}
    path = folder / "workflow" / "experiments" / "own_images.yaml"
    asked = [re.sub("|".join(places), lambda found: str(places[found[0]]), command) for command in COMMANDS]
    path.write_text(re.sub(r"epochs: \d+", "epochs: 1", path.read_text()))
    done = []
    for command in asked:
        program, *arguments = shlex.split(
            command.replace("-l23/", "-l23-random/").replace("results/", "results/miniature/")
        )
        with chdir(folder):
            if program == "mkdir":
                (folder / arguments[-1]).mkdir(parents=True)
            elif program == "cp":
                shutil.copytree(arguments[-2], folder / arguments[-1])
            elif program == "snakemake":
                run_experiment(folder, arguments[-1], miniature=True)
            elif arguments[0] == "predict":
                with pytest.raises(Exception, match=r"too few to promise a false-alarm rate of 0\.05"):
                    run_nfbench(folder, *arguments)
                run_nfbench(folder, *arguments, "--rule", "sigma")
            else:
                run_nfbench(
                    folder, *arguments, *(["--config", '{"miniature": true}'] if arguments[0] == "report" else [])
                )
        done.append(program if program != "nfbench" else arguments[0])
    assert done == ["mkdir", "cp", "data", "snakemake", "predict", "report"]
    new = [file for file in (parts / "test").rglob("*.*") if file.suffix in (".png", ".jpg", ".bmp", ".tif")]
    overlays = list((folder / "predictions" / "overlays").rglob("*.png"))
    assert len(overlays) == len(new) > 0


def test_columns_are_explained():
    explained = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ", TUTORIAL, flags=re.M)
    assert [name for cell in explained for name in re.findall(r"\w+", cell)] == list(COLUMNS)
