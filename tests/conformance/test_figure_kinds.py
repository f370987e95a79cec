"""Every kind of figure meets its contract: it is drawn from its example and shows names literally."""

import matplotlib as mpl
import pytest

from nfbench.config import FigureConfig
from nfbench.core.registry import plugin_names
from nfbench.figures._base import write_figure
from nfbench.plan.code import reachable
from nfbench.plan.experiment_specs import FigureSpec
from tests.executed import Executed
from tests.whole import GENERATOR, whole_runs

pytestmark = pytest.mark.usefixtures("parsed_once")

KINDS = plugin_names(FigureConfig.package)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs with all possible outputs, of methods whose titles look like formulas."""
    folder = tmp_path_factory.mktemp("whole")
    title = r" $\frac$ <b> {x} a_b^c"
    return whole_runs(folder, ["fastflow"], ["bottle"], seeds=1, title=title, conditions=("", "blur2"))


@pytest.mark.parametrize("kind", KINDS)
def test_description(kind):
    model = FigureConfig.of_kind(kind)
    assert model.model_fields["kind"].default == kind
    assert model.__doc__ != FigureConfig.__doc__
    assert all(field.description for name, field in model.model_fields.items() if name != "kind")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_drawn_without_formulas_and_all_that_runs_is_part_of_its_code(kind, runs, tmp_path):
    figure = FigureConfig.model_validate({"kind": kind, **FigureConfig.of_kind(kind).example})
    paths = [tmp_path / "figure.png", tmp_path / "figure.pdf"]
    shown = [run for run in runs if figure.of_conditions or not run.cell.condition]
    with Executed() as executed:
        drawn = figure.draw(shown)
        if kind == KINDS[0]:
            write_figure(drawn, paths[:1])  # by the same code for all kinds
    axes, texts = drawn.findobj(mpl.axes.Axes), drawn.findobj(mpl.text.Text)
    write_figure(drawn, paths)
    assert any(axis.has_data() for axis in axes)
    assert any(text.get_text() for text in texts)
    assert not any(text.get_parse_math() for text in texts)
    assert all(path.stat().st_size > 5_000 for path in paths)
    spec = FigureSpec(experiment="made_up", root=str(tmp_path), name="figure", figure=figure)
    trained_with = f"nfbench.anomalies.{GENERATOR}"  # which the origin of the runs covers
    reached = set(reachable(f"nfbench.stages.{spec.function}", *spec.plugins, trained_with))
    assert f"{figure.module}:{type(figure).__name__}" in executed.names
    assert not executed.names - reached, sorted(executed.names - reached)
