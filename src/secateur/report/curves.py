"""Security curves: robust accuracy against the perturbation budget, a panel per model and criterion."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from secateur.report.aggregate import AttackPoint, Grid, Place, security_curve
from secateur.report.panels import Drawing, percent_axis
from secateur.report.theme import INK, PANEL_HEIGHT, WIDTH, label
from secateur.report.words import NORM_LABELS, arm_label, attack_label, slug
from secateur.stats import Floats


def draw_curves(grid: Grid, attack: str, arm: str) -> Drawing | None:
    """The security curves of one attack and arm; None when no attack has finished."""
    points = [p for p in grid.points.values() if p.place.attack == attack]
    if not points:
        return None
    criteria = grid.criteria or ("",)
    figure = Figure(figsize=(WIDTH, 0.7 + len(grid.models) * PANEL_HEIGHT))
    panels = figure.subplots(len(grid.models), len(criteria), squeeze=False)
    for row, model in zip(panels, grid.models, strict=True):
        top = _farthest([p for p in points if p.place.model == model])
        for axes, criterion in zip(row, criteria, strict=True):
            _curve_panel(grid, axes, (model, criterion, arm, attack), np.linspace(0, top, 121))
            axes.tick_params(labelleft=axes is row[0])
            if model == grid.models[0] and criterion:
                axes.set_title(label(criterion))
        robust = "robust" if grid.robust.get(model) else "non-robust"
        row[0].set_ylabel("robust accuracy")
        for axes in row:
            axes.text(
                0.98, 0.93, f"{label(model)}\n({robust})", transform=axes.transAxes, ha="right", va="top",
                fontweight="bold", fontsize=7, zorder=6,
            )  # fmt: skip
    for axes in panels[-1]:
        axes.set_xlabel(f"perturbation budget ε ({NORM_LABELS[points[0].norm]})")
    _curve_legend(grid, figure, arm)
    name = attack_label(attack, points[0].norm)
    return Drawing(
        f"curves-{slug(attack)}-{slug(arm)}",
        f"{label(name)}: security curves, {arm_label(arm)}",
        f"Robust accuracy against {name}: the share of all images for which no adversarial example within ε "
        "was found. An upper bound: an attack may miss what exists. "
        + ("Bands: 95 % intervals." if _banded(grid) else "Intervals are in tables/security_curves.csv."),
        f"Security curves, {name}, {arm_label(arm)}: robust accuracy falls as the budget grows; one panel "
        "per model and criterion, one line per sparsity.",
        figure,
    )


def _curve_panel(
    grid: Grid,
    axes: Axes,
    where: tuple[str, str, str, str],
    epsilon: Floats,
) -> None:
    model, criterion, arm, attack = where
    for sparsity, colour in _shades(grid).items():
        place = Place(model, criterion if sparsity > 0 else "", sparsity, arm, attack)
        if place in grid.points:
            point = grid.points[place]
            curve = security_curve(point, epsilon)
            dashes = "-" if point.grade != "C" else (0, (1, 1.5))
            axes.plot(epsilon, curve.mean, color=colour, lw=1.2, ls=dashes, zorder=3)
            if _banded(grid):
                axes.fill_between(epsilon, curve.low, curve.high, color=colour, alpha=0.13, lw=0, zorder=2)
    dense = grid.points.get(Place(model, "", 0.0, "none", attack))
    if dense is not None and arm != "none":
        axes.plot(epsilon, security_curve(dense, epsilon).mean, color=INK, lw=0.9, ls=(0, (4, 2)), zorder=4)
    axes.set_xlim(0, epsilon[-1])
    axes.set_ylim(-0.02, 1.02)
    percent_axis(axes.yaxis)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _curve_legend(grid: Grid, figure: Figure, arm: str) -> None:
    handles = [Line2D([], [], color=c, lw=1.4, label=f"sparsity {s:g}") for s, c in _shades(grid).items()]
    if arm != "none":
        handles.append(Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 2)), label="dense, not fine-tuned"))
    if any(point.grade == "C" for point in grid.points.values()):
        handles.append(Line2D([], [], color=INK, lw=1.2, ls=(0, (1, 1.5)), label="grade C: unreliable"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5 if len(handles) > 8 else 4)


def _shades(grid: Grid) -> dict[float, str]:
    """Light to dark would vanish on a dark page: the shades stay in the middle of the map."""
    steps = np.linspace(0.2, 0.85, max(len(grid.sparsities), 2))
    return {s: to_hex(colormaps["plasma"](step)) for s, step in zip(grid.sparsities, steps, strict=False)}


def _banded(grid: Grid) -> bool:
    return len(grid.sparsities) <= 5


def _farthest(points: list[AttackPoint]) -> float:
    """The budget at which nearly every network of a model has fallen."""
    finite = [d[np.isfinite(d)] for p in points for a in p.attacks for d in [a.distances[a.norm]] if d.size]
    reach = max((float(np.quantile(d, 0.97)) for d in finite if d.size), default=0.0)
    return reach or 1.0
