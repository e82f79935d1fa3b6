"""Options that several commands share."""

from collections.abc import Callable
from dataclasses import fields
from enum import StrEnum
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from secateur.cli.completion import attack_names
from secateur.cli.output import note
from secateur.errors import UserError
from secateur.recipes import setting_of
from secateur.registry import load_plugin
from secateur.run_options import NAMES, RunOptions


class Progress(StrEnum):
    """How progress is shown."""

    AUTO = "auto"
    RICH = "rich"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


# Where cells run.
EngineName = StrEnum("EngineName", "LOCAL RAY")


Config = Annotated[Path, typer.Argument(help="A study file (YAML).", show_default=False)]
Folder = Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Replace a setting of the file, as in images=50. May be repeated."),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Attack at most N images; results are marked as partial.")
]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", min=1, help="Number of cells to run in parallel on this machine.")
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The run folder; runs/NAME by default.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]
ProgressOption = Annotated[Progress, typer.Option(help="How to show progress.")]
Reuse = Annotated[
    list[Path] | None,
    typer.Option(help="Another run folder whose finished cells are reused. May be repeated."),
]
EngineOption = Annotated[
    EngineName, typer.Option(help="Where cells run: processes here, or a Ray cluster ([ray] extra).")
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Address of the Ray cluster; auto finds one on this machine; without it, a local one starts."
    ),
]
PlugIns = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", help="A Python file that registers attacks, criteria or models; its code is run."
    ),
]
Trusted = Annotated[
    bool, typer.Option("--i-trust-this-network", help="Connect to a Ray head that requires no token.")
]


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with an option for every field of ``RunOptions`` that users may set, in place of ``**``."""
    shown = signature(command)
    own = [each for each in shown.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
    for part in fields(RunOptions):
        if part.name in NAMES:
            text = setting_of(part).help
            # Named, so that a switch has no --no- form; a word is checked by RunOptions itself.
            option = typer.Option(f"--{part.name.replace('_', '-')}", help=f"{text[0].upper()}{text[1:]}.")
            kind: Any = Annotated[type(part.default), option]
            own.append(Parameter(part.name, Parameter.KEYWORD_ONLY, default=part.default, annotation=kind))
    command.__signature__ = shown.replace(parameters=own)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in own}
    return command


# What is removed of attention.
Heads = StrEnum("Heads", "WIDTH WHOLE")


HeadsOption = Annotated[
    Heads,
    typer.Option(help="What is removed of attention: equally many channels of every head, or whole heads."),
]
AttackName = Annotated[
    str, typer.Option("--attack", "-a", help="See `secateur ls attacks`.", autocompletion=attack_names)
]
Device = Annotated[str, typer.Option(help="Device of the network, such as cuda.")]
Logits = Annotated[
    str | None,
    typer.Option(help="Name or index of the logits among several outputs; other outputs may shrink."),
]


def refuse_file(folder: Path | None) -> None:
    """Refuse a file where a folder for results is named, before anything is computed."""
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder", hint="choose another --out")


def plug_in(files: list[Path] | None) -> None:
    """Run the files of ``--plugin`` and print what they registered."""
    for path in files or ():
        note(f"{path} registers {', '.join(load_plugin(path))}")


def output_of(words: str | None) -> str | int | None:
    """The name of an output, or its index."""
    return int(words) if words is not None and words.isdecimal() else words
