"""Who may import whom: the table of modules, held against every import in the code.

Imports inside functions count, and so do names given to ``importlib.import_module``.
"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

GROUND_FLOOR = {"errors", "foreign", "writing", "compiled", "sensors", "records", "recipe", "grid"}
ROOMS = {"scenes", "patches", "labels", "quality", "splits", "subsets", "captions", "series", "shards", "catalog", "training"}

# Module to the modules it may import, itself aside. ``rsdata`` alone stands for the package's own facts (its version).
# Any module may import ``errors``: whoever calls must be able to catch.
MAY_IMPORT: dict[str, set[str]] = {
    "rsdata": set(),
    "errors": set(),
    "foreign": {"errors"},
    "writing": {"errors"},
    "compiled": set(),
    "sensors": {"errors"},
    "records": {"errors", "sensors"},
    "recipe": {"errors", "foreign", "records", "sensors"},
    "grid": {"errors"},
    "workspace": {"errors", "records", "writing", "rsdata"},
    **{room: GROUND_FLOOR | {"rsdata"} for room in ROOMS - {"training"}},
    "training": GROUND_FLOOR | {"shards", "rsdata"},
    "testing": GROUND_FLOOR | ROOMS | {"rsdata"},
    "steps": GROUND_FLOOR | ROOMS | {"workspace", "testing", "rsdata"},  # testing makes a recipe's synthetic scenes
    "flows": {"steps", "recipe", "workspace", "errors", "rsdata"},
    "commands": {"steps", "recipe", "flows", "training", "errors", "rsdata"},
    "__main__": {"commands", "errors"},
    "catalogs": set(),
}
# Loaded only when asked for, so importing them stands inside a function.
WHEN_ASKED = {("commands", "flows"), ("commands", "training"), ("steps", "training"), ("steps", "testing")}
# Heavy packages and the one module that may import each.
HEAVY = {"prefect": "flows"} | dict.fromkeys(("torch", "torchvision", "torchmetrics", "lightning", "pytorch_lightning"), "training")


def imports(source: str, module: str, is_package: bool) -> Iterator[tuple[str, int, bool]]:
    """Every import of a source text: absolute dotted name, line, and whether it stands inside a function.

    ``from a import b`` counts as ``a.b``: b may be a module.
    """

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, int, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield alias.name, child.lineno, inside
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    parents = module.split(".")[: len(module.split(".")) - child.level + is_package]
                    base = ".".join([*parents, *([base] if base else [])])
                for alias in child.names:
                    yield f"{base}.{alias.name}", child.lineno, inside
            elif isinstance(child, ast.Call) and child.args and isinstance(child.args[0], ast.Constant):
                called = child.func.attr if isinstance(child.func, ast.Attribute) else getattr(child.func, "id", "")
                if called in {"import_module", "__import__"} and isinstance(child.args[0].value, str):
                    yield child.args[0].value, child.lineno, inside
            yield from walk(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    yield from walk(ast.parse(source), inside=False)


def part_of(dotted: str) -> str:
    """The row of the table that a module of rsdata belongs to: ``rsdata.shards.lmdb`` to ``shards``."""
    names = dotted.split(".")
    return names[1] if len(names) > 1 and names[1] in MAY_IMPORT else "rsdata"


def findings(source: str, module: str, is_package: bool = False) -> list[str]:
    """What one module imports against the table, as sentences."""
    own = part_of(module)
    if own == "rsdata" and module != "rsdata":
        return [f"{module} is not in the table of modules"]
    found = []
    for dotted, line, inside_function in imports(source, module, is_package):
        top = dotted.split(".")[0]
        if top == "rsdata":
            other = part_of(dotted)
            if other != own and other not in MAY_IMPORT[own]:
                found.append(f"{module}:{line} imports {dotted}; {own} may import {', '.join(sorted(MAY_IMPORT[own])) or 'nothing'}")
            elif (own, other) in WHEN_ASKED and not inside_function:
                found.append(f"{module}:{line} imports {dotted} at once; {own} loads {other} inside the function that needs it")
        elif top in HEAVY and HEAVY[top] != own:
            found.append(f"{module}:{line} imports {dotted}; only rsdata.{HEAVY[top]} may import {top}")
        elif top == "flows":
            found.append(f"{module}:{line} imports {dotted}; the package is called rsdata.flows")
    return found


def sources() -> list[tuple[Path, str, bool]]:
    """Every Python file of the package, its dotted name, and whether it is a package's ``__init__``."""
    found = []
    for folder, package in ((ROOT / "rsdata", "rsdata"), (ROOT / "flows", "rsdata.flows"), (ROOT / "catalogs", "rsdata.catalogs")):
        for path in sorted(folder.rglob("*.py")):
            names = [package, *path.relative_to(folder).with_suffix("").parts]
            is_package = names[-1] == "__init__"
            found.append((path, ".".join(names[:-1] if is_package else names), is_package))
    return found


@pytest.mark.parametrize(("path", "module", "is_package"), sources(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_follow_the_table(path, module, is_package):
    assert findings(path.read_text(encoding="utf-8"), module, is_package) == []


def test_flows_and_rooms_are_among_the_sources():
    modules = {module for _, module, _ in sources()}
    assert {"rsdata", "rsdata.errors", "rsdata.flows", "rsdata.splits.audit", "rsdata.captions"} <= modules


def test_every_package_is_named_for_installation():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(project["tool"]["setuptools"]["packages"]) == {module for _, module, is_package in sources() if is_package}


@pytest.mark.parametrize(
    ("module", "source", "finding"),
    [
        ("rsdata.splits.frame", "from rsdata.labels.nomenclature import load_nomenclature", "splits may import"),
        ("rsdata.splits.frame", "import rsdata.labels", "splits may import"),
        ("rsdata.splits.frame", "from rsdata import labels", "splits may import"),
        ("rsdata.splits.frame", "from ..labels import nomenclature", "imports rsdata.labels.nomenclature"),
        ("rsdata.splits.frame", "from .. import labels", "imports rsdata.labels"),
        ("rsdata.splits.frame", "def f():\n    from rsdata import labels", "rsdata.splits.frame:2"),
        ("rsdata.splits.frame", "if TYPE_CHECKING:\n    import rsdata.workspace", "rsdata.splits.frame:2"),
        ("rsdata.splits.frame", "import importlib\nimportlib.import_module('rsdata.labels')", "splits may import"),
        ("rsdata.grid", "from rsdata.records import PatchId", "grid may import errors"),
        ("rsdata.errors", "import rsdata.grid", "errors may import nothing"),
        ("rsdata.patches", "import prefect.tasks", "only rsdata.flows may import prefect"),
        ("rsdata.steps", "def f():\n    from prefect import task", "only rsdata.flows may import prefect"),
        ("rsdata.shards.lmdb", "import torch", "only rsdata.training may import torch"),
        ("rsdata.testing.safe", "from rsdata.workspace import write_atomically", "testing may import"),
        ("rsdata.commands.dataset", "from rsdata.flows.build_dataset import build", "inside the function that needs it"),
        ("rsdata.flows.build_dataset", "from rsdata import labels", "flows may import"),
        ("rsdata.steps", "from flows import build_dataset", "the package is called rsdata.flows"),
        ("rsdata.helpers", "", "not in the table of modules"),
    ],
)
def test_a_forbidden_import_is_found(module, source, finding):
    assert any(finding in each for each in findings(source, module))


@pytest.mark.parametrize(
    ("module", "source", "is_package"),
    [
        ("rsdata.splits", "from .frame import frame\nfrom ..records import SPLITS", True),
        ("rsdata.splits.frame", "from . import positions\nfrom .positions import positions\nfrom rsdata.grid import Tile", False),
        ("rsdata.training.dataset", "import torch\nfrom rsdata.shards import open_shard", False),
        ("rsdata.flows.build_dataset", "from prefect import flow\nfrom rsdata import steps", False),
        ("rsdata.commands", "from rsdata import __version__\ndef f():\n    from rsdata.training import train", False),
        ("rsdata.steps", "def f():\n    from rsdata.testing import synthesize", False),
        ("rsdata.patches", "import torchlight, prefectly", False),
    ],
)
def test_an_allowed_import_is_not_found(module, source, is_package):
    assert findings(source, module, is_package) == []
