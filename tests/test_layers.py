"""The direction of data: a room imports only from rooms below it."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "secateur"

LAYERS = [
    {"errors", "kinds", "text", "hashing", "durable", "cpu", "undisturbed"},
    {"stats", "budgets", "display", "untrusted"},
    {"registry", "recipes", "run_options", "config"},
    {"data", "models", "graph"},
    {"surgery"},
    {"proof"},
    {"repair"},
    {"pruning", "train", "attacks"},
    {"trust", "measure"},
    {"store", "stages", "evaluate"},
    {"study", "engine", "transfer"},
    {"report", "exports"},
    {"decision"},
    {"progress", "cli", "__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
NO_TORCH = {
    "errors",
    "kinds",
    "text",
    "display",
    "hashing",
    "durable",
    "stats",
    "untrusted",
    "budgets",
    "registry",
    "recipes",
    "run_options",
    "config",
    "store",
    "report",
    "cli",
    "progress",
}
# Rooms of one level that may lean on each other, and why.
SAME_LEVEL = {
    ("config", "registry"): "a study names what the registry knows",
    ("config", "recipes"): "a study contains recipes",
    ("run_options", "recipes"): "an option has a description and a range, as a setting of a recipe",
    ("config", "run_options"): "a study says how its attacks are run",
    ("config", "budgets"): "a study lists sizes of attacks",
    ("train", "attacks"): "adversarial training runs the loop of PGD",
    ("stages", "store"): "a stage reads its parent's artefacts",
    ("stages", "evaluate"): "an attack cell is an evaluation with a record",
    ("study", "engine"): "the study hands cell ids to an engine",
    ("cli", "progress"): "the command line shows the progress",
    ("__main__", "cli"): "python -m secateur is the command line",
}


def room_of(path: Path) -> str:
    part = path.relative_to(SRC).parts[0]
    return part.removesuffix(".py")


def imports_of(path: Path, *, top_level: bool = False) -> list[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def allowed(room: str, other: str) -> bool:
    if room == other or (room, other) in SAME_LEVEL:
        return True
    return LEVEL[other] < LEVEL[room]


def modules() -> list[Path]:
    return [p for p in sorted(SRC.rglob("*.py")) if p.name != "__init__.py" or p.parent != SRC]


@pytest.mark.slow
@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_a_room_imports_only_from_rooms_below(path):
    room = room_of(path)
    assert room in LEVEL, f"{room} has no place in the house"
    for name in imports_of(path):
        if name.startswith("secateur.") and (other := name.split(".")[1]) in LEVEL:
            assert allowed(room, other), f"{path.name}: {room} must not import {other}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in modules() if room_of(p) in NO_TORCH], ids=lambda p: str(p.relative_to(SRC))
)
def test_torch_stays_out_of_the_light_rooms(path):
    assert not [
        name for name in imports_of(path, top_level=True) if name.split(".")[0] in {"torch", "torchvision"}
    ]


def test_an_import_that_points_upwards_is_caught():
    assert not allowed("graph", "study")
    assert not allowed("attacks", "pruning")
    assert allowed("study", "store")


def test_a_result_is_drawn_by_a_function_of_a_room_above():
    named = {}
    for path in modules():
        for found in re.findall(r'drawn_by: ClassVar\[str\] = "([\w.]+:\w+)"', path.read_text()):
            named[room_of(path)] = found
    assert named
    for room, target in named.items():
        module, _, function = target.partition(":")
        assert LEVEL[module.split(".")[1]] > LEVEL[room]
        assert callable(getattr(import_module(module), function))
