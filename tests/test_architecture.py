"""Architecture: imports go one way, the command line is light, files and functions stay small."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import nfbench

SOURCE = Path(nfbench.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
LAYERS = [
    {"core"},
    {"reference", "backbones", "metrics"},
    {"config"},
    {"datasets"},
    {"plan"},
    {"anomalies", "features", "blocks"},
    {"methods"},
    {"scoring"},
    {"training"},
    {"detector"},
    {"search"},
    {"results"},
    {"inference"},
    {"tables"},
    {"figures", "tracking"},
    {"report"},
    {"stages"},
    {"sharing"},
    {"cli", "__main__"},
]


NAMES = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES
}


def imported_modules(path: Path) -> set[str]:
    """Modules of nfbench that a file imports, in functions too, but not those for the type checker alone."""
    found: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            nodes.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & NAMES.keys() or {node.module}
        nodes.extend(ast.iter_child_nodes(node))
    return found & NAMES.keys()


def imported_rooms(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported_modules(path) if "." in name}


def floor(room: str) -> int:
    """Number of a package's layer; every package is listed in ``LAYERS``."""
    (number,) = (number for number, rooms in enumerate(LAYERS) if room in rooms)
    return number


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_one_way(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    assert all(floor(other) <= floor(room) for other in imported_rooms(path))


def test_no_modules_import_one_another():
    imports = {name: imported_modules(path) - {name} for name, path in NAMES.items()}
    assert "nfbench.features.forward" in imports["nfbench.features.live"]
    try:
        list(graphlib.TopologicalSorter(imports).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_are_small(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert node.end_lineno - first.lineno < 70, f"{node.name} is too long"


@pytest.mark.parametrize("statement", ["import nfbench.cli", "import nfbench.plan.plan"])
def test_light_imports(statement):
    heavy = {"torch", "pandas", "timm", "matplotlib", "mlflow"}
    check = f"import sys; {statement}; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_the_configuration_imports_what_snakemake_brings_alone():
    heavy = {"torch", "numpy", "pandas", "scipy", "PIL", "typer"}
    check = f"import sys; import nfbench.config; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_mlflow_is_imported_by_tracking_alone():
    for path in MODULES:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        found = any(name.partition(".")[0] == "mlflow" for name in names)
        assert not found or path.relative_to(SOURCE).parts[0] == "tracking", path


OPENERS = {
    "Image.open", "cv2.imread", "cv2.imreadmulti", "cv2.imdecode", "plt.imread", "pyplot.imread", "image.imread",
    "imageio.imread", "io.imread", "read_file", "decode_image", "torchvision.io.read_image",
}  # fmt: skip


def opened_images(source: str) -> list[str]:
    """Functions that open an image, as a file calls, imports or names them."""
    found, nodes = [], list(ast.walk(ast.parse(source)))
    imports = [alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    renamed = {alias.asname: alias.name for alias in imports if alias.asname}
    for node in nodes:
        if isinstance(node, ast.Name) and node.id in renamed:
            node.id = renamed[node.id]
    for node in nodes:
        if isinstance(node, ast.Attribute) and any(name.endswith(node.attr) for name in OPENERS):
            found += [name for name in OPENERS if f".{ast.unparse(node)}".endswith(f".{name}")]
        elif isinstance(node, ast.ImportFrom):
            found += [
                alias.name for alias in node.names if f"{(node.module or '').split('.')[-1]}.{alias.name}" in OPENERS
            ]
    return found


def test_images_are_opened_in_one_place():
    found = {path.relative_to(SOURCE).as_posix(): opened_images(path.read_text()) for path in MODULES}
    assert found.pop("datasets/_images.py") == ["Image.open"]
    assert not {path: names for path, names in found.items() if names}


def test_images_are_read_with_their_hash_outside_of_datasets():
    unchecked = {"read_image", "read_mask", "open_picture"}
    for path in MODULES:
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        names = {alias.name for node in nodes for alias in node.names if (node.module or "").startswith("nfbench")}
        assert path.relative_to(SOURCE).parts[0] == "datasets" or not names & unchecked, path


@pytest.mark.parametrize(
    "source",
    [
        "from PIL import Image\nwith Image.open(path): pass",
        "import PIL.Image\nread = PIL.Image.open",
        "import PIL.Image as pictures\npictures.open(path)",
        "from PIL import Image as Picture\nPicture.open(path)",
        "import cv2 as cv\ncv.imread(path)",
        "from cv2 import imread",
        "import matplotlib.pyplot as plt\nplt.imread(path)",
    ],
)
def test_an_opened_image_is_found(source):
    assert opened_images(source)


def test_rule_files_are_short(repository):
    rules = list((repository / "workflow" / "rules").glob("*.smk"))
    assert rules
    assert all(len(path.read_text().splitlines()) < 151 for path in rules)
