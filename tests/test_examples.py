"""The examples in docstrings run and print what they say; every public function has one."""

import doctest
import inspect
import pkgutil
import sys
from dataclasses import is_dataclass
from importlib import import_module

import pytest

import secateur

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ROOMS = ["attacks", "data", "exports", "graph", "measure", "models", "pruning", "report", "train", "transfer"]
ROOMS += ["trust", "stats", "budgets", "recipes"]
PUBLIC = (*ROOMS, "study", "config", "store")


def modules():
    """Every module but those that run when they are imported or need an extra."""
    names = [module.name for module in pkgutil.walk_packages(secateur.__path__, "secateur.")]
    return [name for name in names if not name.endswith(("__main__", ".ray"))]


def public():
    """What the packages for users export, each by the module that defines it."""
    found = {}
    for room in ("", *PUBLIC):
        package = import_module(f"secateur.{room}".rstrip("."))
        for name in getattr(package, "__all__", None) or vars(package):
            value = getattr(package, name, None)
            home = getattr(value, "__module__", "") or ""
            if name.startswith("_") or not home.startswith("secateur") or not callable(value):
                continue
            # A record explains itself by its fields; functions and other classes are shown in use.
            record = is_dataclass(value) or hasattr(value, "model_fields")
            if (hasattr(package, "__path__") or home == package.__name__) and not record:
                found[f"{home}.{value.__qualname__}"] = value
    return found


def examples_of(value):
    """The examples of a function, or of a class and what it defines."""
    parts = [value]
    if inspect.isclass(value):
        parts += [member for name, member in vars(value).items() if not name.startswith("_")]
    documents = [inspect.getdoc(part) or "" for part in parts]
    return [example for text in documents for example in doctest.DocTestParser().get_examples(text)]


def run_examples(module):
    """How many examples of a module were tried; AssertionError with what the wrong ones printed."""
    lines: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(test, out=lines.append)
    assert not runner.failures, "".join(lines)
    return runner.tries


@pytest.mark.slow
@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_print_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_examples(import_module(name))


def test_every_public_function_has_an_example():
    without = sorted(name for name, value in public().items() if not examples_of(value))
    assert not without, f"{len(without)} public names without an example: {', '.join(without)}"


def test_a_wrong_example_is_caught(monkeypatch):
    module = type(sys)("wrong")
    module.__doc__ = ">>> 1 + 1\n3\n"
    with pytest.raises(AssertionError, match="Expected"):
        run_examples(module)
