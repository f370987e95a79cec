"""Changes of code and files that make results stale or leave them valid, and the jobs that run again."""

import ast
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

import nfbench

SOURCE = Path(nfbench.__file__).parent
GATHERED = {"aggregate_results": 1, "build_table": 3, "build_figure": 6, "build_report": 1}
EVALUATED = {"evaluate_run": 4, **GATHERED}
SCORED = {"score_run": 4, **EVALUATED}
TRAINED = {"train_flow": 4, **SCORED}
EXTRACTED = {"extract_features": 4, **TRAINED}
PREPARED = {"prepare_data": 2, **EXTRACTED}
ONE_METHOD = {"train_flow": 2, "score_run": 2, "evaluate_run": 2, **GATHERED}

NEW_FILES = {
    "methods/brand_new.py": "methods/padim.py",
    "backbones/brand_new.py": "backbones/alexnet.py",
    "datasets/brand_new.py": "datasets/mpdd.py",
    "anomalies/brand_new.py": "anomalies/cutpaste.py",
    "metrics/brand_new.py": "metrics/image_pg.py",
    "figures/brand_new.py": "figures/speed.py",
    "tables/brand_new.py": "tables/backbones.py",
}
"""A file of each kind of plug-in, and which one it is a copy of."""


def edit(path: Path, definition: str) -> None:
    """Change what a definition does; of a file without definitions, its text."""
    if not definition:
        path.write_text(path.read_text() + "\np { color: red }\n")
        return
    tree = ast.parse(path.read_text())
    named = {name: node for node in tree.body for name in _names(node)}
    if isinstance(named[definition], ast.Assign):
        named[definition].value = ast.Tuple([named[definition].value], ast.Load())
    else:
        named[definition].body.append(ast.parse("new = 1").body[0])
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)))


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []


def change_looks(path: Path) -> None:
    """Another format, no comments but a new one, and other docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = f"{node.value.value} In other words."
    path.write_text(f"# {path.name}\n{ast.unparse(tree)}\n")


def add_plugin(package: Path, file: str) -> None:
    """Add a copy of another plug-in, under a name of its own."""
    model = package / NEW_FILES[file]
    (package / file).write_text(model.read_text().replace(model.stem, "brand_new"))


@contextmanager
def restored(*paths: Path) -> Iterator[None]:
    """Put files back as they were: contents and times, or absence."""
    before = {path: (path.read_bytes(), path.stat()) if path.exists() else None for path in paths}
    try:
        yield
    finally:
        for path, known in before.items():
            if known is None:
                path.unlink()
            else:
                path.write_bytes(known[0])
                os.utime(path, ns=(known[1].st_atime_ns, known[1].st_mtime_ns))


def touch_all(part: Path) -> None:
    for path in part.rglob("*.*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))


def copy_all(part: Path) -> None:
    """Copy files without their times."""
    shutil.copytree(part, part.with_name("new"), copy_function=shutil.copyfile)
    shutil.rmtree(part)
    part.with_name("new").rename(part)


def replace_image(path: Path) -> None:
    Image.new("RGB", Image.open(path).size, "red").save(path)


def replace_mask(path: Path) -> None:
    Image.new("L", Image.open(path).size, 1).save(path)


FILE_CHANGES = {
    "image added": (lambda part: shutil.copy(part / "train/good/000.png", part / "train/good/100.png"), True),
    "image removed": (lambda part: (part / "train/good/000.png").unlink(), True),
    "image replaced": (lambda part: replace_image(part / "train/good/000.png"), True),
    "image renamed": (lambda part: (part / "train/good/000.png").rename(part / "train/good/9.png"), True),
    "test image added": (lambda part: shutil.copy(part / "test/good/000.png", part / "test/good/100.png"), True),
    "mask added": (
        lambda part: shutil.copy(part / "ground_truth/dent/000_mask.png", part / "ground_truth/dent/003_mask.png"),
        True,
    ),
    "mask removed": (lambda part: (part / "ground_truth/dent/000_mask.png").unlink(), True),
    "mask replaced": (lambda part: replace_mask(part / "ground_truth/dent/000_mask.png"), True),
    "all touched": (touch_all, False),
    "all copied with new times": (copy_all, False),
    "hidden file added": (lambda part: (part / "train/good/.hidden.png").touch(), False),
    "hidden folder added": (lambda part: shutil.copytree(part / "train", part / ".old"), False),
}
"""What is done to the folder of a category, and whether it is prepared again."""


@contextmanager
def folder_restored(folder: Path) -> Iterator[None]:
    kept = shutil.copytree(folder, folder.with_name("kept"))
    try:
        yield
    finally:
        shutil.rmtree(folder)
        kept.rename(folder)
