"""Benchmarks run by hand, so a name that moves away from them would not be noticed."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/**/*.py")])


def taken(source: str) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that a script imports from the package, wherever it does so."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "secateur":
            yield from ((str(node.module), alias.name) for alias in node.names)
        if isinstance(node, ast.Import):
            yield from ((a.name, "__name__") for a in node.names if a.name.split(".")[0] == "secateur")


def missing(source: str) -> list[str]:
    lost = []
    for module, name in taken(source):
        try:
            if not hasattr(import_module(module), name):
                import_module(f"{module}.{name}")
        except ImportError:
            lost.append(f"{module}.{name}")
    return lost


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_a_script_imports_from_the_package_exists(script):
    assert missing(script.read_text(encoding="utf-8")) == []


def test_a_name_that_moved_would_be_noticed():
    assert missing("from secateur.stats import median, gone\nimport secateur.nowhere") == [
        "secateur.stats.gone",
        "secateur.nowhere.__name__",
    ]
