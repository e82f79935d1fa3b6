"""Values that the shell completes: names that are registered, norms, forms of --data and --model, cells."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import typer

from secateur.errors import UserError
from secateur.registry import ATTACKS, CHECKPOINTS, CRITERIA, DATASETS, HUB, MODELS, RATES, Registry

VARIABLE = "_SECATEUR_COMPLETE"
"""Set by the shell's script, to the shell's name among others."""
NORMS = {
    "L0": "values that change",
    "L0-pixels": "pixels that change",
    "L1": "sum of the changes",
    "L2": "Euclidean length",
    "Linf": "largest change",
}
_SPELLED = {0.0: "L0", 1.0: "L1", 2.0: "L2", float("inf"): "Linf"}
TRACKERS = {"tensorboard:": "a folder", "wandb:": "a project", "trackio:": "a project"}
PACKAGES = {
    "torchvision:": "its networks by name",
    "timm:": "its networks by name",
    HUB: "a folder, or a network of Hugging Face by name",
}
Pair = tuple[str, str]
"""A value, and what it is."""


Values = Callable[[Any, str], Iterable[Pair]]
"""From the context of a command and the beginning of a value to values."""
Complete = Callable[[Any, str], list[Pair]]


@contextmanager
def in_words_of_bash() -> Iterator[None]:
    """Inside, a completion that bash asks for is about whole words, and what is printed suits bash.

    Bash takes words apart at colons: ``--data folder:cats`` is ``--data``, ``folder``, ``:``, ``cats``. It
    replaces what stands after the last colon, and inserts a value as it is.
    """
    if os.environ.get(VARIABLE) != "complete_bash" or "COMP_WORDS" not in os.environ:
        yield
        return
    words, place = rejoined(os.environ["COMP_WORDS"].split("\n"), int(os.environ.get("COMP_CWORD", "0")))
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(words), str(place)
    told = StringIO()
    try:
        with redirect_stdout(told):
            yield
    finally:
        begun = words[place] if place < len(words) else ""
        values = [line[begun.rfind(":") + 1 :].replace(" ", "\\ ") for line in told.getvalue().splitlines()]
        if len(values) == 1 and values[0].endswith((":", "=", "/")):
            # Of a single value bash thinks that the word is complete, and adds a space.
            values.append(f"{values[0]}…")
        sys.stdout.write("\n".join(values) + "\n")


def rejoined(words: Sequence[str], cursor: int) -> tuple[list[str], int]:
    """Words that were taken apart at colons, and the place of the one at ``cursor``.

    >>> rejoined(["secateur", "--data", "folder", ":", "cats"], 4)
    (['secateur', '--data', 'folder:cats'], 2)
    """
    found: list[str] = []
    place, glued = cursor, False
    for at, word in enumerate(words):
        colon = set(word) == {":"}
        if found and (colon or glued):
            found[-1] += word
            place -= at <= cursor
        else:
            found.append(word)
        glued = colon
    return found, place


def offering(values: Values) -> Complete:
    """A function that typer asks for the values of an option.

    What keeps names from being found, such as a folder without a study, is told by the command, not here.
    """

    def complete(ctx: typer.Context, incomplete: str) -> list[Pair]:
        found: dict[str, str] = {}
        with suppress(UserError, OSError, KeyError, TypeError):
            for value, said in values(ctx, incomplete):
                if value.startswith(incomplete):
                    found.setdefault(value, said)
        return [*found.items()]

    return complete


def one_of(names: Iterable[str]) -> Complete:
    """Completes to one of some names.

    >>> one_of(["models", "data"])(None, "d")
    [('data', '')]
    """
    return offering(lambda ctx, incomplete: ((name, "") for name in names))


def _entries(registry: Registry, **facts: str) -> Iterator[Pair]:
    wanted = facts.items()
    return ((each.name, each.summary) for each in registry.entries() if wanted <= each.facts.items())


def _given(ctx: Any, name: str) -> str | None:
    """The value of an option that was typed before the one that is completed."""
    source = ctx.get_parameter_source(name)
    return ctx.params.get(name) if source is not None and source.name == "COMMANDLINE" else None


def _norms(ctx: Any, incomplete: str) -> Iterator[Pair]:
    attack = _given(ctx, "name")
    known = ATTACKS.facts(attack).get("norms") if attack else None
    names = {_SPELLED.get(norm, "L0-pixels") for norm in known} if known else {*NORMS}
    return ((name, said) for name, said in NORMS.items() if name in names)


def _data(ctx: Any, incomplete: str) -> Iterator[Pair]:
    """Sources of images; after the colon of one that reads files, what lies there."""
    source, colon, path = incomplete.partition(":")
    if colon and source in DATASETS.names() and not DATASETS.facts(source).get("built_in"):
        yield from ((f"{source}:{each}", "") for each in _paths(path))
        return
    for entry in DATASETS.entries():
        yield (entry.name if entry.facts.get("built_in") else f"{entry.name}:"), entry.summary
        if entry.name == "digits":
            yield "digits:split", "the same in a train and a test split"


def _models(ctx: Any, incomplete: str) -> Iterator[Pair]:
    """The zoo, trained networks, the packages that have more, and files once one is begun."""
    yield from _entries(MODELS)
    for entry in CHECKPOINTS.entries():
        shipped = entry.name.startswith("shipped:")
        yield entry.name if shipped else f"robustbench:{entry.name}", entry.summary
    yield from PACKAGES.items()
    for path in _paths(incomplete) if incomplete else ():
        if path.endswith((".py", "/", ".pt2")):
            yield (f"{path}:" if path.endswith(".py") else path), ""


def _presets(ctx: Any, incomplete: str) -> Iterator[Pair]:
    from secateur.config.presets import NAMES

    return ((name, "") for name in NAMES)


def _trackers(ctx: Any, incomplete: str) -> Iterator[Pair]:
    kind, colon, path = incomplete.partition(":")
    if colon and kind == "tensorboard":
        return ((f"{kind}:{each}", "") for each in _paths(path) if each.endswith("/"))
    return iter(TRACKERS.items())


def _settings(ctx: Any, incomplete: str) -> Iterator[Pair]:
    attack = ctx.params.get("name") or "ddn"
    return ((f"{name}=", rule.wanted) for name, rule in ATTACKS.facts(attack).get("settings", {}).items())


def _cells(ctx: Any, incomplete: str) -> Iterator[Pair]:
    """Labels of the cells of the run folder that was named before; ids where one is begun."""
    from secateur.store import Store

    for cell in Store.open(Path(ctx.params["folder"])).cells:
        begun = len(incomplete) > 1 and cell.id.startswith(incomplete)
        yield (cell.id, cell.label) if begun else (cell.label, cell.id[:8])


def _paths(begun: str) -> list[str]:
    """What lies at a path that is being typed; folders end with a slash."""
    folder, _, stem = begun.rpartition("/")
    place = Path(folder or ("/" if begun.startswith("/") else "."))
    head = f"{folder}/" if begun.rpartition("/")[1] else ""
    found = [each for each in place.iterdir() if each.name.startswith(stem)]
    shown = [each for each in found if stem.startswith(".") or not each.name.startswith(".")]
    return sorted(f"{head}{each.name}{'/' * each.is_dir()}" for each in shown)


attack_names = offering(lambda ctx, incomplete: _entries(ATTACKS))
minimum_norm_names = offering(lambda ctx, incomplete: _entries(ATTACKS, kind="minimum-norm"))
criterion_names = offering(lambda ctx, incomplete: _entries(CRITERIA))
rate_names = offering(lambda ctx, incomplete: _entries(RATES))
norm_names = offering(_norms)
data_names = offering(_data)
model_names = offering(_models)
preset_names = offering(_presets)
tracker_names = offering(_trackers)
setting_names = offering(_settings)
cell_names = offering(_cells)
