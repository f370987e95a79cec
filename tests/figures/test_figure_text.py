"""Text of figures: names and titles are shown literally, never parsed as formulas."""

from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image

import nfbench.figures
from nfbench.figures._base import draw_grid, new_figure, write_figure
from tests.figures.test_figures import drawn_run

TEXTS = ["5$_$", r"$\frac$", "{b} a_b^c", "\\alpha <b> %s", "tab\t, bell\x07, nul\x00, byte\udce9", "螺丝 " + "x" * 100]


def texts_of(figure):
    return {text.get_text() for text in figure.findobj(mpl.text.Text)}


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_can_be_drawn_everywhere(text, tmp_path):
    figure = new_figure(3, 3)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], label=text)
    axis.set_title(text)
    axis.set_xlabel(text)
    axis.set_ylabel(f"line\n{text}")
    axis.text(0.5, 0.5, text)
    axis.annotate(text, (0.5, 0.5))
    figure.suptitle(text)
    figure.legend()
    paths = [tmp_path / "f.png", tmp_path / "f.pdf"]
    write_figure(figure, paths)
    assert all(path.stat().st_size for path in paths)
    assert not any(found.get_parse_math() for found in figure.findobj(mpl.text.Text))


@pytest.mark.parametrize("name", ["5$_$", r"$\frac$", "a$x_{1}$b"])
def test_names_are_shown_as_they_are(name, tmp_path):
    run = drawn_run(tmp_path, name, name.replace("\\", "") + "c")
    figure = draw_grid([run], {0: run.title}, lambda *_: ([], []), (3, 3), ("x", "y"))
    write_figure(figure, [tmp_path / "f.png"])
    assert run.title in texts_of(figure)
    assert f"mvtec_ad\n{run.cell.category}\ny" in texts_of(figure)


def test_dollars_take_as_much_room_as_other_letters(tmp_path):
    """A formula would be narrower than its text."""
    widths = []
    for text in ("$a_b$", "Sa_bS"):
        figure = new_figure(1, 1)
        figure.text(0, 0.5, text * 20)
        write_figure(figure, [tmp_path / "f.png"])
        widths.append(Image.open(tmp_path / "f.png").width)
    assert widths[0] == pytest.approx(widths[1], rel=0.05)


def test_no_figure_writes_a_formula():
    for path in Path(nfbench.figures.__file__).parent.glob("*.py"):
        assert "$" not in path.read_text(), path
