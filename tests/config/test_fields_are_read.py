"""Every setting of a study changes something: each field is read somewhere."""

import ast
import inspect
import typing
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import BaseModel

from secateur import evaluate, pruning
from secateur.config import Study
from secateur.config.recipe import RecipeFields
from secateur.recipes import PARTS, Recipe
from secateur.run_options import RunOptions

SRC = Path(__file__).parent.parent.parent / "src" / "secateur"
# Documented, and read by nothing yet. A field that is read must go from here, and none may be added.
UNREAD: set[str] = set()
# Handed on whole: to a recipe (its own fields are looked for instead), to ``pruning.plan`` and to an attack.
HANDED_ON = {
    "Pruning": set(inspect.signature(pruning.plan).parameters),
    "Attack": set(inspect.signature(evaluate.attack).parameters)
    | {field.name for field in fields(RunOptions)},
}


def models(model, seen=None):
    """A settings class and all those inside it."""
    seen = {} if seen is None else seen
    if model.__name__ in seen:
        return seen
    seen[model.__name__] = model
    for field in model.model_fields.values():
        stack = [field.annotation]
        while stack:
            part = stack.pop()
            if isinstance(part, type) and issubclass(part, BaseModel):
                models(part, seen)
            stack += typing.get_args(part)
    return seen


def reads(*rooms):
    """Names that are read as an attribute, or as a key of plain data, in some rooms."""
    found = set()
    for room in rooms:
        for path in (SRC / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    found.add(node.attr)
                keys = []
                if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
                    keys = [node.slice]
                elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".get"):
                    keys = node.args[:1]
                found |= {key.value for key in keys if isinstance(key, ast.Constant)}
    return found


def unread():
    study = reads("study", "stages", "config", "cli", "report", "engine")
    training = reads("train", "study", "stages", "config")
    found = set()
    for name, model in models(Study).items():
        if issubclass(model, RecipeFields) or name.removesuffix("Fields").lower() in PARTS:
            continue
        known = study | HANDED_ON.get(name, set())
        found |= {f"{name}.{field}" for field in model.model_fields if field not in known}
    for record in (Recipe, *PARTS.values()):
        found |= {f"{record.__name__}.{part.name}" for part in fields(record) if part.name not in training}
    return found


@pytest.mark.slow
def test_every_field_of_a_study_is_read():
    assert unread() == UNREAD


def test_every_field_of_a_recipe_as_written_is_one_of_the_recipe():
    assert {field.name for field in fields(Recipe)} == set(RecipeFields.model_fields)
    for name, part in PARTS.items():
        written = models(RecipeFields)[f"{name.capitalize()}Fields"].model_fields
        assert {field.name for field in fields(part)} == set(written)


@pytest.mark.slow
def test_a_field_that_nothing_reads_is_found(monkeypatch):
    class Wider(Study):
        nobody_reads_this: int = 0

    monkeypatch.setitem(unread.__globals__, "Study", Wider)
    assert unread() >= {"Wider.nobody_reads_this"}
