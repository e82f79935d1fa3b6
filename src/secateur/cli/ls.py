"""The command ls: what can be chosen by name."""

from typing import Annotated

import typer

from secateur.cli.completion import one_of
from secateur.cli.options import Json, PlugIns, plug_in
from secateur.cli.output import print_json, print_table
from secateur.errors import UserError
from secateur.registry import ATTACKS, CHECKPOINTS, CRITERIA, DATASETS, MODELS, RATES, Registry

_KINDS = {
    "models": MODELS,
    "checkpoints": CHECKPOINTS,
    "data": DATASETS,
    "criteria": CRITERIA,
    "attacks": ATTACKS,
    "rates": RATES,
}
# Facts for the program, not for people: they are not listed.
_UNSHOWN = {"science", "renamed", "installed", "steps", "built_in", "files", "needs_layers"}
_UNSHOWN |= {"settings", "audits", "converges_from"}
# Facts shown in the JSON only: the summary already says them, or the table has no room.
_ONLY_JSON = {
    "label",
    "paper",
    "bibtex",
    "arch",
    "gdrive",
    "dataset",
    "norm",
    "epsilon",
    "clean_accuracy",
    "robust_accuracy",
}


def ls(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="models, checkpoints, data, criteria, attacks or rates; all of them by default.",
            autocompletion=one_of(_KINDS),
        ),
    ] = None,
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """List what can be chosen by name."""
    if kind is not None and kind not in _KINDS:
        raise UserError(f"there is no list of '{kind}'", hint=f"choose one of {', '.join(_KINDS)}")
    plug_in(plugin)
    chosen = {kind: _KINDS[kind]} if kind else _KINDS
    if as_json:
        print_json({name: _rows(registry) for name, registry in chosen.items()})
        return
    for name, registry in chosen.items():
        rows = _rows(registry)
        facts = sorted({key for row in rows for key in row} - {"name", "summary"} - _ONLY_JSON)
        table = [(row["name"], row["summary"], *(row.get(fact, "") for fact in facts)) for row in rows]
        print_table(name, ("name", "what it is", *facts), table)


COMMANDS = (ls,)


def _rows(registry: Registry) -> list[dict[str, str]]:
    return [
        {
            "name": entry.name,
            "summary": entry.summary,
            **{key: _text(value) for key, value in entry.facts.items() if key not in _UNSHOWN},
        }
        for entry in registry.entries()
    ]


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(part if isinstance(part, str) else f"{part:g}" for part in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {part}" for key, part in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
