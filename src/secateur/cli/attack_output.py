"""The output of `secateur attack`: robust accuracy first, then distances, cost and grade."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secateur.cli.output import print_table, say
from secateur.errors import UserError

NORM_SYMBOLS = {"l0": "L0", "l0_pixels": "L0 (pixels)", "l1": "L1", "l2": "L2", "linf": "L∞"}
ENOUGH = 30
"""Fewest attacked images for which shares are shown as percentages."""


def check_outputs(out: Path | None, examples: Path | None, pictures: Path | None) -> None:
    """Refuse output paths that cannot be written, before anything runs."""
    for option, path in (("--out", out), ("--examples", examples)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UserError(f"{option} {path} cannot be written", hint="name a file in a folder that exists")
    if examples is not None and examples.suffix != ".safetensors":
        raise UserError(f"--examples {examples} must end in .safetensors", hint="name it FILE.safetensors")
    if pictures is not None and pictures.exists() and not pictures.is_dir():
        raise UserError(f"--pictures {pictures} is a file", hint="name a folder")


def print_attack(summary: Mapping[str, Any]) -> None:
    """Print clean and robust accuracy, distances, cost, and the grade with its reasons."""
    partial = " (partial: --limit)" * summary["partial"]
    images = f"{summary['n']} images of {summary['data']}{partial}"
    few = summary["attacked"] < ENOUGH
    print_table(
        f"{summary['attack']} on {images}, grade {summary['grade']}",
        ("", "too few images" if few else "share", "95 % interval", "images"),
        [_row(few, *row) for row in _shares(summary)],
    )
    if "targeted" in summary:
        say(f"{summary['targeted']}\n")
    fixed = summary.get("kind") == "fixed-eps"
    print_table(
        f"{'sizes' if fixed else 'distances'} of the {summary['found']} examples found"
        + ", as large as the attack makes them: no distances to the nearest" * fixed,
        ("norm", "median, correct", "median, all", "mean, found"),
        [
            (NORM_SYMBOLS[norm], *(_number(summary[kind][norm]) for kind in DISTANCES))
            for norm in summary[DISTANCES[0]]
        ],
    )
    say(
        f"found {summary['found']} of {summary['attacked']} attacked images; "
        f"{summary['forwards']:.0f} forwards and {summary['backwards']:.0f} backwards per image; "
        f"{summary['seconds']:.1f} s"
    )
    say(f"grade {summary['grade']}: {summary['meaning']}")
    for reason in summary["reasons"]:
        say(f"  {reason}")
    from secateur.trust import joint_lines

    # Only an audit runs other attacks; without one there are no lines.
    for line in joint_lines(summary["joint"]):
        say(line)


DISTANCES = ("median_correct", "median_all", "mean_found")


def _shares(summary: Mapping[str, Any]) -> Sequence[tuple[str, float, float, float, int]]:
    """Label, share, interval and number of images; clean accuracy first."""
    rows = [("clean accuracy", summary["clean_accuracy"], *summary["clean_interval"], summary["n"])]
    for key, words in (("robust_accuracy", "robust accuracy"), ("target_not_reached", "target not reached")):
        for at in summary.get(key, ()):
            label = f"{words}, {NORM_SYMBOLS[summary['norm']]} ≤ {at['written']}"
            rows.append((label, at["value"], at["low"], at["high"], at["n"]))
    return rows


def _row(few: bool, label: str, share: float, low: float, high: float, n: int) -> tuple[str, str, str, str]:
    # With so few images a percentage would suggest more precision than there is.
    count = f"{round(share * n)} of {n}"
    return (label, count, "", "") if few else (label, f"{share:.1%}", f"{low:.1%} to {high:.1%}", count)


def _number(value: float | None) -> str:
    return "not found" if value is None else f"{value:.4g}"
