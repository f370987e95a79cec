"""The code of a job: reached definitions, and edits that change its hash, in a synthetic package."""

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.plan.code import Code

MADE_UP = {
    "__init__.py": "from made.models import Model\nfrom made.tables import Table\n",
    "models.py": '''
"""Models."""
from typing import TYPE_CHECKING
import math as numbers

if TYPE_CHECKING:
    from made.tables import Table

__all__ = ["Model"]
RATE = 3
"""Of something."""
_UNUSED = 4


class Base:
    def rate(self):
        """How much."""
        return RATE


class Model(Base):
    table: "Table"
    part: "Part"


class Part:
    size: int = 1
    count: int = Field(1, description="how many")
''',
    "tables.py": "class Table:\n    title: str\n",
    "effects.py": "import os\n\nos.environ['MADE'] = '1'\n",
    "words.txt": "one",
    "list.csv": "1",
    "stage.py": '''
"""Stages."""
from made import Model
import made.effects
from made import loops

def run(spec: Model):
    from made.late import late
    # first a comment
    value = loops.there(spec.rate() * 2)
    return late(value, "words.txt")

def named(name):
    return f"{name}.csv"

def whole():
    return vars(loops)

def other():
    """Has
    a docstring."""
    return 1
''',
    "late.py": "from math import cos\n\ndef late(value, name):\n    return cos(value)\n\ndef later():\n    return 2\n",
    "loops.py": "import made.back\n\ndef there(n):\n    return n and made.back.back(n)\n\ndef alone():\n    return 3\n",
    "back.py": "from made.loops import there\n\ndef back(n):\n    return there(n)\n",
}


@pytest.fixture
def made(tmp_path):
    for name, text in MADE_UP.items():
        (tmp_path / "made" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "made" / name).write_text(text)
    return tmp_path / "made"


def hash_of(folder, *roots):
    return Code(folder, folder.name).hash(*roots)


def replace(folder, file, old, new):
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))


def test_the_closure_goes_from_definition_to_definition(made):
    assert Code(made, "made").reachable("made.stage:run") == [
        "made.back:back",
        "made.effects:<module>",
        "made.late:late",
        "made.loops:there",
        "made.models:Base",
        "made.models:Model",
        "made.models:Part",
        "made.models:RATE",
        "made.stage:run",
        "made.stage:words.txt",
    ]
    assert Code(made, "made").reachable("made:Model") == [f"made.models:{n}" for n in ("Base", "Model", "Part", "RATE")]
    assert Code(made, "made").reachable("made.stage:named") == [
        "made.effects:<module>",
        "made.stage:list.csv",
        "made.stage:named",
    ]
    assert "made.loops:alone" in Code(made, "made").reachable("made.stage:whole")
    assert {"made.models:_UNUSED", "made.models:Part"} <= set(Code(made, "made").reachable("made.models"))


SAME = {
    "comment": ("stage.py", "# first a comment", "# another one"),
    "docstring of a module": ("models.py", "Models.", "All models."),
    "docstring of a method": ("models.py", "How much.", "How many."),
    "docstring of a constant": ("models.py", "Of something.", "Of something else."),
    "new docstring": ("late.py", "name):\n", 'name):\n    """The cosine."""\n'),
    "format": ("stage.py", "spec.rate() * 2)", "(\n        spec.rate() *  2\n    ))"),
    "__all__": ("models.py", '["Model"]', '["Base", "Model"]'),
    "order": ("late.py", "def late", "def much_later():\n    return 4\n\ndef late"),
    "unrelated constant": ("models.py", "_UNUSED = 4", "_UNUSED = 5"),
    "unrelated function": ("stage.py", "return 1", "return 2"),
    "unrelated function of a module that is reached": ("loops.py", "return 3", "return 4"),
    "unrelated module": ("tables.py", "title: str", "caption: str"),
    "unrelated data": ("list.csv", "1", "2"),
    "for type checkers": ("models.py", "    from made.tables import Table", "    from made.tables import Table, late"),
    "unrelated import": ("models.py", "import math as numbers", "import math, json"),
    "description of a field": ("models.py", '"how many"', '"how many parts"'),
    "shorter way": ("stage.py", "from made import Model", "from made.models import Model"),
    "__version__": ("models.py", "RATE = 3", "RATE = 3\n__version__ = '2'"),
}
OTHER = {
    "function": ("stage.py", "* 2)", "* 3)"),
    "type of a number": ("stage.py", "* 2)", "* 2.0)"),
    "function in another module": ("late.py", "return cos(value)", "return cos(-value)"),
    "constant": ("models.py", "RATE = 3", "RATE = 4"),
    "base class": ("models.py", "return RATE", "return RATE + 1"),
    "field of a class": ("models.py", "part:", "parts:"),
    "default of a field": ("models.py", "Field(1", "Field(2"),
    "quoted type of a field": ("models.py", "size: int = 1", "size: int = 2"),
    "effect": ("effects.py", "'1'", "'2'"),
    "new effect": ("back.py", "def back", "there(0)\n\ndef back"),
    "effect of a package": ("__init__.py", "from made.tables", "print()\nfrom made.tables"),
    "data": ("words.txt", "one", "two"),
    "imported name": ("late.py", "import cos", "import sin as cos"),
    "imported name of the package": ("stage.py", "late import late", "late import later as late"),
    "default": ("late.py", "value, name", "value, name=0"),
    "decorator": ("late.py", "def late(", "@later\ndef late("),
}


@pytest.mark.parametrize(("file", "old", "new"), SAME.values(), ids=SAME.keys())
def test_edits_that_change_no_result_change_no_hash(made, file, old, new):
    before = hash_of(made, "made.stage:run")
    replace(made, file, old, new)
    assert hash_of(made, "made.stage:run") == before


@pytest.mark.parametrize(("file", "old", "new"), OTHER.values(), ids=OTHER.keys())
def test_every_real_edit_changes_the_hash(made, file, old, new):
    before = hash_of(made, "made.stage:run")
    replace(made, file, old, new)
    assert hash_of(made, "made.stage:run") != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(*, a): pass", "def f(*, a=None): pass"),
        ("f = {**a}", "f = {None: a}"),
        ("f = 1", "f = True"),
        ("f = 1", "f = 1.0"),
        ("f = 'a'", "f = b'a'"),
        ("f = a[1:]", "f = a[:1]"),
        ("f = 'a b'", "f = 'a' , 'b'"),
        ("f = a.b", "f = a().b"),
        ("def f(): return", "async def f(): return"),
        ("def f():\n  if a:\n    b()\n  else:\n    c()", "def f():\n  if a:\n    b()\n  c()"),
        ("f = 1\nf = 2", "f = 2\nf = 1"),
    ],
)
def test_unequal_code_has_unequal_hashes(tmp_path, one, other):
    hashes = set()
    for text in (one, other):
        (tmp_path / "__init__.py").write_text(text)
        hashes.add(Code(tmp_path, "made").hash("made:f"))
    assert len(hashes) == 2


def test_names_that_are_bound_under_a_condition_are_followed(made):
    (made / "either.py").write_text("try:\n    from made.late import late\nexcept ImportError:\n    late = None\n")
    (made / "user.py").write_text("from made.either import late\n\ndef use():\n    return late\n")
    assert {"made.either:<module>", "made.late:late"} <= set(Code(made, "made").reachable("made.user:use"))


def test_a_module_that_passes_a_definition_on_follows_it(made):
    """As a plug-in does that another module implements."""
    (made / "plugin.py").write_text("from made.late import late as make_plugin\n\n__all__ = ['make_plugin']\n")
    assert "made.late:late" in Code(made, "made").reachable("made.plugin")


@pytest.mark.parametrize("line", ["from made.late import *", "import made.late as late", "from . import late"])
def test_what_takes_a_module_whole_follows_all_of_it(made, line):
    (made / "user.py").write_text(f"{line}\n\ndef use():\n    return vars(late)\n")
    assert {"made.late:late", "made.late:later"} <= set(Code(made, "made").reachable("made.user:use"))


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("made.stages:run", "'made.stages:run': package 'made' has no module 'made.stages'"),
        ("made.stage:runs", "'made.stage:runs': module 'made.stage' has no 'runs'; did you mean 'run'?"),
        ("torch", "'torch': package 'made' has no module 'torch'"),
        ("madeup", "'madeup': package 'made' has no module 'madeup'"),
    ],
)
def test_unknown_roots_are_named(made, root, message):
    with pytest.raises(NfbenchError, match=message.replace("?", r"\?")):
        hash_of(made, root)


def test_a_missing_module_is_named(made):
    replace(made, "stage.py", "made.late", "made.early")
    with pytest.raises(NfbenchError, match=r"package 'made' imports 'made.early', which does not exist"):
        hash_of(made, "made.stage:run")
