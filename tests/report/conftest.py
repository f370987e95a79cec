"""A report of made-up runs in a real browser."""

import pytest

from tests.browser import Browser
from tests.made_up import MadeUp, spoil
from tests.report.reading import ATTACK, BREAKOUT, IMAGE_ATTACK, report_of


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def page(tmp_path_factory):
    """A report of five methods, two backbones and eight categories, with holes and with hostile names."""
    folder = tmp_path_factory.mktemp("made_up")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made = MadeUp(
            folder,
            {"uflow": "uflow", "fastflow": "fastflow", "cflow": "cflow", "padim": "padim", "evil": "patchcore"},
            ("bottle", "cable", "carpet", "grid", "leather", "pill", "screw", "tile"),
            ("resnet18.tv_in1k", "wide_resnet50_2.tv_in1k"),
            skill={"uflow": 4, "fastflow": 3, "cflow": 1},
            titles={"evil": ATTACK, "uflow": "U-Flow"},
            images=True,
        ).write()
        cells = [cell for cell in made.cells if cell.method == "fastflow"]
        made.paths.run_record(cells[0]).unlink()
        spoil(made.paths.run_record(cells[1]), settings=IMAGE_ATTACK)
        log = made.paths.run_log("train_flow", cells[2])
        log.parent.mkdir(parents=True)
        log.write_text(f"2026-01-01 00:00:00,000 ERROR {BREAKOUT}\n{IMAGE_ATTACK}\n")
        made.paths.run_record(cells[2]).unlink()
        return report_of(made)


@pytest.fixture
def opened(browser, page):
    browser.open(page)
    return browser
