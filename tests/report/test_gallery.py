"""Pictures of the report: a map is shown beside its own image."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from nfbench.report.gallery import gallery
from nfbench.results.record import read_record
from tests.made_up import MadeUp, relist


def picture(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("L"))


@pytest.fixture
def made(tmp_path):
    return MadeUp(tmp_path, {"padim": "padim", "bgad": "bgad"}, ("bottle",), seeds=1, images=True).write()


def keep_examples(made, cell, index, suspect, bright):
    """Maps of images by number, white for the image ``bright``."""
    maps = np.stack([np.full((64, 64), float(number == bright), dtype=np.float32) for number in index])
    path = made.paths.run_record(cell).parent / "examples.npz"
    np.savez_compressed(path, index=np.array(index), suspect=np.array(suspect), maps=maps)
    relist(path.with_name("run.json"))


def test_maps_of_runs_with_other_examples_lie_beside_their_images(made):
    whole, few = made.cells
    keep_examples(made, whole, [2, 1, 3, 0], [False, False, False, True], 3)
    keep_examples(made, few, [4, 3, 5], [False, False, True], 3)
    shown = gallery({cell: read_record(made.paths.run_record(cell)) for cell in made.cells}, made.paths, 3)
    assert [example["defect"] for example in shown] == ["dent", "dent", "good"]  # images 1, 3 and 2
    assert [[method for _, method, _, _ in example["maps"]] for example in shown] == [
        ["padim"],
        ["padim", "bgad"],
        ["padim"],
    ]
    brightness = [[picture(url).mean() > 100 for *_, url in example["maps"]] for example in shown]
    assert brightness == [[False], [True, True], [False]]
