"""The promise of the architecture: imports point one way, without a circle, and the documented tree is the real one."""

import ast
import re
from pathlib import Path

from conftest import ROOT

PACKAGE = ROOT / "fashion_lightning"
SWAPPED = ("classifier", "networks", "augmentation", "schedules")
COMMANDS = ("fit", "test", "predict", "runs", "study", "verify", "export", "demo", "__main__")
# A module imports from its own level or from those below.
LEVELS = [["errors"], ["data", "storage"], ["training"], ["reports", *SWAPPED], ["jobs"], ["command_line"], [*COMMANDS]]
MAX_LINES = 250


def modules() -> dict[str, Path]:
    """Dotted name, without the package's, to path."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in paths}


def imports(path: Path) -> set[str]:
    """Names of the package's modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fashion_lightning":
            base = (node.module or "").removeprefix("fashion_lightning").removeprefix(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".removeprefix(".")
                found.add(name if name in modules() else base)
    return found - {""}


def level(module: str) -> int:
    return next(height for height, names in enumerate(LEVELS) if module.split(".")[0] in names)


def test_imports_point_downwards():
    upwards = [
        f"{module} -> {imported}"
        for module, path in modules().items()
        for imported in imports(path)
        if module != "__init__" and level(imported) > level(module)
    ]
    assert upwards == []


def test_there_is_no_circle():
    left = {module: imports(path) for module, path in modules().items()}
    while free := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


def test_the_folders_that_answer_help_import_nothing():
    for folder in ("command_line", "jobs", "storage"):
        assert (PACKAGE / folder / "__init__.py").read_text() == ""


def test_modules_are_small():
    lines = {module: len(path.read_text().splitlines()) for module, path in modules().items()}
    assert {module: count for module, count in lines.items() if count >= MAX_LINES} == {}


def test_the_documented_tree_is_the_real_one():
    [tree] = re.findall(r"```\n(fashion_lightning/\n.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.S)
    documented, folder = set(), ""
    for line in tree.splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()
        if name.endswith("/"):
            folder = name if not indent else f"fashion_lightning/{name}"
        else:
            documented.add(f"fashion_lightning/{name}" if len(indent) == 2 else f"{folder}{name}")
    real = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.suffix in (".py", ".typed", ".html")}
    assert documented == {path for path in real if not path.endswith("/__init__.py")} | {
        "fashion_lightning/__init__.py"
    }
