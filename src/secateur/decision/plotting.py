"""Pictures of results in a notebook: security curves on one panel, and the changes of a comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from secateur.decision.figures import POINTS, budget_axes, top_budget
from secateur.decision.intervals import draw_band, draw_bars
from secateur.decision.lines import robust
from secateur.decision.pairing import Compared, Result, near_chance_of, sizes_of
from secateur.decision.verdict import Verdict
from secateur.errors import UserError
from secateur.report.theme import PALETTE, WIDTH, label, themed
from secateur.text import counted

DASHES = ("-", "--", ":", "-.")


def plot(*results: Result | Mapping[str, Any] | Verdict, names: Sequence[str] = ()) -> Figure:
    """Draw attack results as security curves, or the changes of one comparison or verdict.

    Args:
        results: one or more results of ``secateur.attack`` in one norm, or their JSON; or a single result of
            ``secateur.decision.compare`` or ``secateur.check``.
        names: of the attack results, for the legend; by default the name of the attack.

    Returns:
        A matplotlib figure; a notebook shows it. Bands and bars are 95 % intervals over images.

    Raises:
        UserError: nothing to draw, results that do not belong on one panel, or more than eight.

    >>> import secateur
    >>> images = secateur.data.load("digits:split").take(range(40))
    >>> networks = [secateur.models.resolve(f"shipped:digits-{name}") for name in ("plain", "robust")]
    >>> results = [secateur.attack(network, images, "fmn", norm="linf", steps=10) for network in networks]
    >>> figure = plot(*results, names=["plain", "robust"])
    >>> figure.axes[0].get_ylabel(), len(figure.axes[0].get_lines())
    ('robust accuracy', 2)
    """
    if len(results) == 1 and isinstance(results[0], Compared | Verdict):
        return results[0].plot()
    records = [each if isinstance(each, Mapping) else each.to_json() for each in results]
    _refuse(records, names)
    given = [*names] or [f"{record['attack']}" for record in records]
    with themed():
        figure = Figure(figsize=(0.7 * WIDTH, 2.8))
        axes = figure.subplots()
        top = max(_top(record) for record in records)
        for place, (name, record) in enumerate(zip(given, records, strict=True)):
            _draw(axes, record, f"{label(name)}{_caveat(record)}", place, top)
        budget_axes(axes, records[0], top)
        axes.set_ylabel("target not reached" if records[0]["targeted"] else "robust accuracy")
        axes.legend()
        figure.draw_without_rendering()
    return figure


def _refuse(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Refuse results that cannot be drawn on one panel."""
    if not 1 <= len(records) <= len(PALETTE):
        raise UserError(
            f"{counted(len(records), 'result')} cannot be drawn together", hint=f"give 1 to {len(PALETTE)}"
        )
    if names and len(names) != len(records):
        raise UserError(f"{counted(len(names), 'name')} for {counted(len(records), 'result')}")
    if any("outcome" not in record for record in records):
        raise UserError(
            "only results of attacks have security curves",
            hint="an evaluation has plot() itself; of two, draw secateur.decision.compare(a, b).plot()",
        )
    for what in ("norm", "targeted"):
        if len({record[what] for record in records}) > 1:
            raise UserError(f"the results differ in {what}", hint="draw them one by one")


def _draw(axes: Axes, record: Mapping[str, Any], name: str, place: int, top: float) -> None:
    colour, dash, n = PALETTE[place], DASHES[place % len(DASHES)], len(record["outcome"])
    tried = sizes_of(record)
    if record["kind"] == "fixed-eps":
        # Between the sizes that were tried nothing is known.
        sizes = sorted(tried)
        shares = np.array([tried[eps].mean() for eps in sizes])
        draw_bars(axes, np.array(sizes), shares, [n] * len(sizes), colour=colour, fmt="o", ms=4, label=name)
        return
    grid = np.linspace(0.0, top, POINTS)
    shares = np.array([robust(record, eps).mean() for eps in grid])
    draw_band(axes, grid, shares, n, colour=colour, dash=dash, label=name)


def _caveat(record: Mapping[str, Any]) -> str:
    """What the legend has to say beside a name that must not be read as robustness."""
    if near_chance_of(record):
        return " (near chance)"
    return " (unreliable)" if record["grade"] in "CX" else ""


def _top(record: Mapping[str, Any]) -> float:
    tried = sizes_of(record)
    return 1.15 * max(tried) if tried and max(tried) > 0 else top_budget([record])
