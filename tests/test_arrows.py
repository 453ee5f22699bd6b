"""The layer order, read from the source.

A failure here hides a part that can no longer be used, or changed, alone. ``MAY_IMPORT`` holds, for each
part of the package, the parts that it may import, at module level or inside a function.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "equipoise"

GROUND = frozenset({"errors", "registry", "randomness", "contracts", "debugging", "user_code", "_version"})
SIBLINGS = frozenset({"nn", "rules", "balance", "measure"})
CORE = GROUND | {"functional"} | SIBLINGS
MODELS = CORE | {"models"}
TRAIN = MODELS | {"data", "train"}
PAPERS = TRAIN | {"population", "sweep", "plots", "papers"}
MAY_IMPORT: dict[str, frozenset[str]] = {
    "__init__": GROUND,
    **dict.fromkeys(GROUND, GROUND),
    **{part: GROUND | {part} for part in ("functional", "data", "plots")},
    **{part: GROUND | {"functional", part} for part in SIBLINGS},
    "models": MODELS,
    "train": TRAIN,
    "population": TRAIN | {"population"},
    "sweep": TRAIN | {"population", "sweep"},
    "papers": PAPERS,
    "report": PAPERS - {"papers"} | {"report"},
    "cli": PAPERS | {"report", "cli", "equipoise"},
    "__main__": frozenset({"cli"}),
}
ROOT_NAMES = frozenset({"__version__", "EquipoiseError", "debug"})
HEAVY = frozenset({"sklearn", "scipy", "matplotlib", "pyarrow", "PIL", "rich", "tyro", "datasets"})
STANDARD_OF_CONTRACTS = frozenset({"__future__", "collections", "typing"})
LONGEST = {"src": 300, "tests": 300, "benchmarks": 300, "examples": 60}


def part_of(path: Path) -> str:
    """The part that a file belongs to: ``nn/linear.py`` -> ``nn``, ``cli.py`` -> ``cli``."""
    return path.parts[0].removesuffix(".py")


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(tree: ast.AST, *, functions: bool, type_checking: bool) -> Iterator[ast.AST]:
    """Every node, with or without those inside functions and those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not functions:
            continue
        if isinstance(node, ast.If) and _is_type_checking(node) and not type_checking:
            for other in node.orelse:
                yield other
                yield from statements(other, functions=functions, type_checking=type_checking)
            continue
        yield node
        yield from statements(node, functions=functions, type_checking=type_checking)


def imported(nodes: Iterable[ast.AST], path: Path) -> Iterator[str]:
    """The dotted names that the nodes of the file ``path`` import; relative ones are made absolute."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = ("equipoise", *path.parent.parts)
            base = parents[: len(parents) - node.level + 1] if node.level else ()
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def own_part(name: str) -> str | None:
    """The part of ours that a dotted name reaches, None for another library or a name of the package root."""
    head, _, rest = name.partition(".")
    if head != "equipoise" or rest in ROOT_NAMES:
        return None
    return rest.partition(".")[0] or "equipoise"


def wrong_arrows(path: Path, text: str) -> list[str]:
    part = part_of(path)
    if part not in MAY_IMPORT:
        return [f"{path}: the part '{part}' has no place in the layer order; give it one in tests/test_arrows.py"]
    nodes = statements(ast.parse(text), functions=True, type_checking=part != "__init__")
    reached = {own for name in imported(nodes, path) if (own := own_part(name))}
    return [f"{path}: '{part}' must not import '{own}'" for own in sorted(reached - MAY_IMPORT[part])]


def impure_contracts(path: Path, text: str) -> list[str]:
    if path != Path("contracts.py"):
        return []
    nodes = statements(ast.parse(text), functions=True, type_checking=True)
    heads = {name.partition(".")[0] for name in imported(nodes, path)}
    return [f"contracts imports {head}; only torch" for head in sorted(heads - STANDARD_OF_CONTRACTS - {"torch"})]


def heavy_imports(path: Path, text: str) -> list[str]:
    nodes = statements(ast.parse(text), functions=False, type_checking=False)
    heads = {name.partition(".")[0] for name in imported(nodes, path)}
    return [f"{path}: import {head} inside the function that needs it" for head in sorted(heads & HEAVY)]


def prints(path: Path, text: str) -> list[str]:
    if part_of(path) == "cli":
        return []
    calls = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) and ast.unparse(n.func) == "print"]
    return [f"{path}:{call.lineno}: library code does not print" for call in calls]


def too_long(path: Path, text: str, *, longest: int = LONGEST["src"]) -> list[str]:
    lines = len(text.splitlines())
    return [f"{path}: {lines} lines, at most {longest}"] if lines > longest else []


RULES = [wrong_arrows, impure_contracts, heavy_imports, prints, too_long]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule) -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert files
    assert [fault for file in files for fault in rule(file.relative_to(SOURCE), file.read_text())] == []


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "examples"])
def test_no_file_beside_the_package_is_too_long(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    limit = LONGEST[folder]
    assert [fault for f in files for fault in too_long(f.relative_to(ROOT), f.read_text(), longest=limit)] == []


VIOLATIONS = [
    (
        wrong_arrows,
        "measure/alignment.py",
        "from equipoise.rules import make",
        "'measure' must not import 'rules'",
    ),
    (
        wrong_arrows,
        "measure/alignment.py",
        "from equipoise import rules",
        "'measure' must not import 'rules'",
    ),
    (
        wrong_arrows,
        "measure/alignment.py",
        "from ..rules.base import Rule",
        "'measure' must not import 'rules'",
    ),
    (wrong_arrows, "nn/dale.py", "def f():\n    import equipoise.balance.graph", "must not import 'balance'"),
    (wrong_arrows, "rules/fa.py", "def f():\n    from .. import nn", "'rules' must not import 'nn'"),
    (wrong_arrows, "rules/fa.py", "importlib.import_module('equipoise.train')", "must not import 'train'"),
    (wrong_arrows, "rules/fa.py", "import equipoise as eq", "must not import 'equipoise'"),
    (wrong_arrows, "data/load.py", "from equipoise.train import Run", "'data' must not import 'train'"),
    (wrong_arrows, "plots/style.py", "import equipoise.measure", "'plots' must not import 'measure'"),
    (wrong_arrows, "models/mlp.py", "from equipoise.train import run", "'models' must not import 'train'"),
    (wrong_arrows, "population/core.py", "from equipoise.sweep import s", "must not import 'sweep'"),
    (wrong_arrows, "report/page.py", "from equipoise.papers import fa", "'report' must not import 'papers'"),
    (wrong_arrows, "papers/fa.py", "from equipoise.cli import main", "'papers' must not import 'cli'"),
    (
        wrong_arrows,
        "functional/fa.py",
        "if TYPE_CHECKING:\n    from equipoise.nn import X",
        "must not import 'nn'",
    ),
    (wrong_arrows, "__init__.py", "from equipoise import rules", "'__init__' must not import 'rules'"),
    (wrong_arrows, "utils.py", "", "no place in the layer order"),
    (impure_contracts, "contracts.py", "import numpy", "only torch"),
    (impure_contracts, "contracts.py", "from equipoise.errors import InputError", "only torch"),
    (heavy_imports, "data/digits.py", "from sklearn.datasets import load_digits", "import sklearn inside"),
    (
        heavy_imports,
        "data/digits.py",
        "try:\n    import pyarrow.parquet as pq\nexcept ImportError: ...",
        "pyarrow",
    ),
    (heavy_imports, "cli/main.py", "class A:\n    import tyro", "import tyro inside"),
    (
        heavy_imports,
        "a.py",
        "if TYPE_CHECKING:\n    import rich\nelse:\n    import scipy",
        "import scipy inside",
    ),
    (prints, "train/loop.py", "def f():\n    print('x')", "train/loop.py:2: library code does not print"),
    (too_long, "nn/dale.py", "pass\n" * 301, "301 lines, at most 300"),
]


@pytest.mark.parametrize(("rule", "path", "text", "expected"), VIOLATIONS)
def test_a_violation_is_caught(rule, path: str, text: str, expected: str) -> None:
    faults = rule(Path(path), text)
    assert len(faults) == 1
    assert expected in faults[0]


ALLOWED = [
    (wrong_arrows, "__init__.py", "if TYPE_CHECKING:\n    from equipoise import rules, train"),
    (
        wrong_arrows,
        "train/loop.py",
        "from equipoise import data, models\nfrom . import spec\nfrom .spec import Run",
    ),
    (wrong_arrows, "nn/dale.py", "from equipoise import __version__\nfrom equipoise.functional import dale"),
    (
        wrong_arrows,
        "cli/main.py",
        "import equipoise\nfrom equipoise.papers import fa\nfrom equipoise import report",
    ),
    (impure_contracts, "contracts.py", "from typing import Protocol\nfrom torch import Tensor"),
    (heavy_imports, "plots/style.py", "def f():\n    import matplotlib"),
    (heavy_imports, "plots/style.py", "if TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
    (prints, "cli/main.py", "print('x')"),
    (prints, "train/loop.py", "console.print('x')"),
    (too_long, "nn/dale.py", "pass\n" * 300),
]


@pytest.mark.parametrize(("rule", "path", "text"), ALLOWED)
def test_what_is_allowed_passes(rule, path: str, text: str) -> None:
    assert rule(Path(path), text) == []
