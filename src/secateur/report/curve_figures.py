"""Security curves: robust accuracy against the perturbation budget, a panel per model and criterion."""

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MultipleLocator

from secateur.budgets import written
from secateur.report.aggregate import Grid, GridPoint, dense_of, security_curve
from secateur.report.axes import percent_axis
from secateur.report.formatting import NORM_LABELS, arm_label, attack_label, slug
from secateur.report.layout import PanelLayout
from secateur.report.plots import Drawing
from secateur.report.robustness import (
    attack_points,
    budgets_top,
    definition,
    leading_budget,
    models_of,
    quantity,
    stated_budgets,
)
from secateur.report.theme import INK, PANEL_HEIGHT, SOFT, WIDTH, label, shades
from secateur.report.ticks import PanelAxes
from secateur.stats import Floats

_DOTTED, _DASHED = (0, (1, 1.5)), (0, (4, 2))


def draw_curves(grid: Grid, attack: str, arm: str) -> Drawing | None:
    """The security curves of one attack and arm.

    None without a result, and for an attack of one fixed size: nothing is known at other sizes. Models
    without this arm have no row.
    """
    points = attack_points(grid, attack)
    if not points or (points[0].fixed and len(stated_budgets(grid, attack)) < 2):
        return None
    models, criteria = models_of(grid, arm), grid.criteria or ("",)
    figure = Figure(figsize=(WIDTH, 0.7 + len(models) * PANEL_HEIGHT), layout=PanelLayout())
    panels = figure.subplots(len(models), len(criteria), squeeze=False, subplot_kw={"axes_class": PanelAxes})
    what, fixed = quantity(grid, attack), points[0].fixed
    epsilon = _axis(grid, attack, models)
    for row, model in zip(panels, models, strict=True):
        for axes, criterion in zip(row, criteria, strict=True):
            _draw_panel(grid, axes, GridPoint(model, criterion, 0.0, arm, attack), epsilon)
            axes.tick_params(labelleft=axes is row[0])
            if model == models[0] and criterion:
                axes.set_title(label(criterion))
        robust = "robust" if grid.robust.get(model) else "non-robust"
        row[0].set_ylabel(what)
        for axes in row:
            axes.text(
                0.98, 0.93, f"{label(model)}\n({robust})", transform=axes.transAxes, ha="right", va="top",
                fontweight="bold", fontsize=7, zorder=6,
            )  # fmt: skip
    for axes in panels[-1]:
        axes.set_xlabel(f"perturbation budget ε ({NORM_LABELS[points[0].norm]})")
    _add_legend(grid, figure, attack, arm)
    name = attack_label(attack, points[0].norm)
    return Drawing(
        f"curves-{slug(attack)}-{slug(arm)}",
        f"{label(name)}: security curves, {arm_label(arm)}",
        f"{what.capitalize()} under {name}: {definition(grid, attack)} {_marks_text(grid, attack, fixed)} "
        + ("Bands: 95 % intervals." if _banded(grid) else "Intervals are in tables/security_curves.csv."),
        f"Security curves, {name}, {arm_label(arm)}: {what} falls as the budget grows; one panel "
        "per model and criterion, one line per sparsity.",
        figure,
    )


def _marks_text(grid: Grid, attack: str, fixed: bool) -> str:
    written = ", ".join(budget.text for budget in stated_budgets(grid, attack))
    if fixed:
        return f"The attack was run at the marked sizes ({written}) and at no other."
    first = leading_budget(grid, attack)
    leads = first.text if first else "none"
    return f"Marks: the stated budgets ({written}). Dashed line: the leading one, {leads}."


def _axis(grid: Grid, attack: str, models: tuple[str, ...]) -> Floats:
    """The budgets of all panels; those of a fixed-size attack are the sizes that it tried, and 0."""
    budgets = stated_budgets(grid, attack)
    points = [point for point in attack_points(grid, attack) if point.where.model in models]
    if any(point.fixed for point in points):
        return np.array(sorted({0.0, *(budget.epsilon for budget in budgets)}))
    top = budgets_top(grid, attack_points(grid, attack)[0].norm, models)
    shown = [budget.epsilon for budget in budgets if budget.epsilon <= top]
    return np.array(sorted({*np.linspace(0, top, 81).tolist(), *shown}))


def _draw_panel(grid: Grid, axes: Axes, panel: GridPoint, epsilon: Floats) -> None:
    """Draw a curve per sparsity, and that of the dense network; ``panel`` names the rest."""
    attack = panel.attack
    budgets, first = stated_budgets(grid, attack), leading_budget(grid, attack)
    marked = [int(np.argmin(np.abs(epsilon - b.epsilon))) for b in budgets if b.epsilon <= epsilon[-1]]
    for sparsity, colour in _shades(grid).items():
        where = replace(panel, criterion=panel.criterion if sparsity > 0 else "", sparsity=sparsity)
        if where in grid.points:
            point = grid.points[where]
            curve = security_curve(point, epsilon)
            dashes = "-" if point.grade != "C" else _DOTTED
            shown = [i for i in marked if i < curve.epsilon.size]
            axes.plot(curve.epsilon, curve.mean, color=colour, lw=1.2, ls=dashes, marker="o", ms=2.6, mew=0,
                      markevery=shown, zorder=3)  # fmt: skip
            if _banded(grid):
                axes.fill_between(
                    curve.epsilon, curve.low, curve.high, color=colour, alpha=0.13, lw=0, zorder=2
                )
    dense = grid.points.get(dense_of(panel))
    if dense is not None and panel.arm != "none":
        curve = security_curve(dense, epsilon)
        axes.plot(curve.epsilon, curve.mean, color=INK, lw=0.9, ls=_DASHED, zorder=4)
    if first is not None:
        axes.axvline(first.epsilon, color=SOFT, lw=0.7, ls=_DASHED, zorder=1)
    axes.set_xlim(0, 1.02 * epsilon[-1])
    axes.set_ylim(-0.02, 1.02)
    percent_axis(axes.yaxis)
    budget_axis(axes, epsilon[-1], attack_points(grid, attack)[0].norm, levels=grid.study.levels)


def budget_axis(axes: Axes, top: float, norm: str, *, levels: int | None) -> None:
    """Ticks of an axis of budgets up to ``top``; in grey levels (/255) for L∞ and 8-bit images."""
    if norm == "linf" and levels == 256:
        steps = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
        step = next((each for each in steps if 255 * top / each <= 7), steps[-1])
        axes.xaxis.set_major_locator(MultipleLocator(step / 255))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda eps, _: written(eps, norm, levels=levels)))


def _add_legend(grid: Grid, figure: Figure, attack: str, arm: str) -> None:
    handles = [Line2D([], [], color=c, lw=1.4, label=f"sparsity {s:g}") for s, c in _shades(grid).items()]
    if arm != "none":
        handles.append(Line2D([], [], color=INK, lw=0.9, ls=_DASHED, label="dense, not fine-tuned"))
    if any(p.grade == "C" for p in attack_points(grid, attack) if p.where.arm == arm):
        handles.append(Line2D([], [], color=INK, lw=1.2, ls=_DOTTED, label="grade C: unreliable"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5 if len(handles) > 8 else 4)


def _shades(grid: Grid) -> dict[float, str]:
    """A colour per sparsity."""
    return dict(zip(grid.sparsities, shades(len(grid.sparsities)), strict=True))


def _banded(grid: Grid) -> bool:
    # More bands than that hide each other.
    return len(grid.sparsities) <= 5
