"""The options of a plan on the command line: one for each that ``secateur.plan`` takes."""

from enum import StrEnum
from typing import Annotated

import typer

from secateur.errors import UserError


class Scope(StrEnum):
    """Whether channels compete."""

    LOCAL = "local"
    GLOBAL = "global"


class Selection(StrEnum):
    """What a score sees of the channels that are gone already."""

    INDEPENDENT = "independent"
    GREEDY = "greedy"


class Reduction(StrEnum):
    """How the scores of coupled layers become one."""

    MEAN = "mean"
    SUM = "sum"
    MAX = "max"
    FIRST = "first"
    SHORTCUT = "shortcut"


class Heads(StrEnum):
    """What goes of attention."""

    WIDTH = "width"
    WHOLE = "whole"


Sparsity = Annotated[
    float, typer.Option("--sparsity", "-s", help="Fraction of each group's channels to remove.")
]
Criterion = Annotated[str, typer.Option("--criterion", "-c", help="See `secateur ls criteria`.")]
ScopeOption = Annotated[
    Scope, typer.Option(help="local: every group loses that fraction; global: channels compete.")
]
SelectionOption = Annotated[
    Selection, typer.Option(help="greedy: scored without the input channels that are gone already.")
]
ReductionOption = Annotated[Reduction, typer.Option(help="How the scores of coupled layers become one.")]
Keep = Annotated[list[str] | None, typer.Option(help="Name of a module to leave whole; may be repeated.")]
Rates = Annotated[
    list[str] | None,
    typer.Option(
        help="Sparsity of one layer, as in layer1=0.3; repeatable. Or published: see `secateur ls rates`."
    ),
]
Parameters = Annotated[
    str | None, typer.Option(help="Instead of a sparsity: at most so many parameters, a fraction or a count.")
]
Macs = Annotated[
    str | None, typer.Option(help="Instead of a sparsity: at most so many multiply-adds of one --input.")
]
LatencyOption = Annotated[
    str | None,
    typer.Option(
        "--latency", help="Instead of a sparsity: a fraction of the measured time of one --input, or 5ms."
    ),
]
HeadsOption = Annotated[
    Heads, typer.Option(help="What goes of attention: equally many channels of every head, or whole heads.")
]
Logits = Annotated[
    str | None,
    typer.Option(
        help="The name or place of the output that counts, of a model with several; others may shrink."
    ),
]
MinChannels = Annotated[int, typer.Option(help="What every group, head or half keeps at least.", min=1)]
MaxSparsity = Annotated[float | None, typer.Option(help="The most that any group loses.")]
RoundTo = Annotated[int, typer.Option(help="Round widths up to a multiple of this.", min=1)]


def rates_of(words: list[str] | None) -> str | dict[str, float] | None:
    """Sparsities by layer from ``--rates``, or the name of published ones.

    Raises:
        UserError: a word that is neither, or both kinds together.
    """
    if not words:
        return None
    if len(words) == 1 and "=" not in words[0]:
        return words[0]
    found: dict[str, float] = {}
    for word in words:
        name, _, rate = word.rpartition("=")
        try:
            found[name] = float(rate)
        except ValueError:
            name = ""
        if not name:
            raise UserError(
                f"--rates {word} is not of the form LAYER=SPARSITY", hint="for example --rates layer1=0.3"
            )
    return found


def budget_of(option: str, text: str | None) -> float | int | None:
    """A count, or a fraction of the dense network.

    Raises:
        UserError: the text is no number.
    """
    if text is None:
        return None
    try:
        return (
            int(text.replace("_", "").replace(",", "")) if text.isascii() and "." not in text else float(text)
        )
    except ValueError:
        raise UserError(
            f"--{option} {text} is not a number", hint=f"for example --{option} 0.5 or --{option} 100000"
        ) from None


def latency_of(text: str | None) -> float | str | None:
    """A fraction of the dense network's time, or the text of a time, which ``secateur.plan`` reads."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def output_of(words: str | None) -> str | int | None:
    """The name of an output, or its place."""
    return int(words) if words is not None and words.isdecimal() else words
