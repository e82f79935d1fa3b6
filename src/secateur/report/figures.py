"""All figures in reading order; those of cost, latency, accuracy and median distances (thesis 4.1 to 4.8)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from secateur.report.aggregate import AttackPoint, Grid, GridPoint, NetworkPoint, distances, tuned_arms
from secateur.report.axes import (
    GAPS,
    MACS_LABEL,
    add_legend,
    breaks,
    count_axis,
    criterion_panels,
    draw_against_macs,
    draw_models,
    first_to_last,
    gap,
    label_below,
    model_marks,
    percent_axis,
    same_range,
    sparsity_axis,
    styles,
)
from secateur.report.curve_figures import draw_curves
from secateur.report.formatting import (
    NORM_LABELS,
    arm_label,
    attack_label,
    compact,
    number,
    slug,
    unique_stem,
)
from secateur.report.intervals import Estimate
from secateur.report.latency import LatencyAndMacs, latency_and_macs, latency_sentences
from secateur.report.paired_changes import Change
from secateur.report.pairing import UNRELIABLE
from secateur.report.plots import Drawing, Mark, draw_line
from secateur.report.records import NORMS
from secateur.report.robustness import attack_points, models_of
from secateur.report.robustness_figures import draw_left, draw_robust
from secateur.report.theme import INK, SOFT, label
from secateur.stats import median_interval

Draw = Callable[..., Drawing | None]
Plan = Callable[[], Drawing | None]
"""Draws a figure; None where there is nothing to show."""


def draw(grid: Grid, change: dict[GridPoint, Change]) -> Iterator[Drawing]:
    """Every figure that the study has data for, in reading order. Call inside ``theme.themed()``."""
    stems: set[str] = set()
    for plan in plans(grid, change):
        if (drawing := plan()) is not None:
            yield replace(drawing, stem=unique_stem(drawing.stem, stems))


def plans(grid: Grid, change: dict[GridPoint, Change]) -> list[Plan]:
    """What draws every figure of a study, in reading order; their stems are not yet unique."""
    return [partial(_drawn, word, draw, *given) for word, draw, given in _plans(grid, change)]


def _plans(grid: Grid, change: dict[GridPoint, Change]) -> Iterator[tuple[str, Draw, tuple[Any, ...]]]:
    """The kind of the networks in a figure, the function that draws it, and what it is given."""
    arms = tuned_arms(grid)
    pairs = [(attack, arm) for arm in arms for attack in grid.attacks]
    kinds = _kinds(grid)
    for attack, arm in pairs:
        for word, part in kinds:
            if models_of(part, arm):
                yield word, draw_robust, (part, attack, arm)
                yield word, draw_curves, (part, attack, arm)
                yield word, draw_left, (part, change, attack, arm)
    if grid.networks:
        yield from ((word, draw_cost, (part,)) for word, part in kinds)
        yield "", draw_latency, (grid,)
        for arm in arms:
            yield from ((word, draw_accuracy, (part, arm)) for word, part in kinds if models_of(part, arm))
    for attack, arm in pairs:
        for word, part in kinds:
            if models_of(part, arm):
                yield word, draw_distances, (part, attack, arm)


def _kinds(grid: Grid) -> list[tuple[str, Grid]]:
    """The grid with its non-robust and with its robust models alone; as it is where it has one kind only."""
    kinds = {
        robust: tuple(model for model in grid.models if grid.robust.get(model, False) == robust)
        for robust in (False, True)
    }
    if not all(kinds.values()):
        return [("", grid)]
    words = {False: "non-robust", True: "robust"}
    return [(words[robust], replace(grid, models=models)) for robust, models in kinds.items()]


def _drawn(word: str, draw: Draw, *given: Any) -> Drawing | None:
    """The drawing with the kind of its networks in its name and title."""
    drawing = draw(*given)
    if drawing is None or not word:
        return drawing
    return replace(drawing, stem=f"{drawing.stem}-{word}", title=f"{drawing.title}: {word} networks")


def draw_cost(grid: Grid) -> Drawing:
    """Parameters and multiply-adds."""
    figure, rows = criterion_panels(grid, ("parameters", "MACs"))
    signs: set[str] = set()
    values: tuple[Callable[[NetworkPoint], Estimate], ...] = (lambda p: p.parameters, lambda p: p.macs)
    for criterion, row in rows:
        for axes, value in zip(row, values, strict=True):
            count_axis(axes)
            sparsity_axis(axes, grid.sparsities)
            for model, style in styles(grid).items():
                marks = model_marks(grid, model, criterion, "none", _network_mark(grid, value))
                signs |= draw_line(axes, marks, style)
    add_legend(figure, grid, signs)
    text = first_to_last(
        grid, "none", lambda p: compact(grid.networks[p].parameters.mean), known=grid.networks
    )
    return Drawing(
        "cost",
        "Parameters and MACs",
        "Parameters, and multiply-accumulate operations per image, against sparsity, one row per criterion "
        f"(logarithmic). {GAPS}",
        f"Line chart of parameters and MACs against sparsity. Parameters: {text}.",
        figure,
    )


def _network_mark(
    grid: Grid, value: Callable[[NetworkPoint], Estimate]
) -> Callable[[GridPoint], Mark | None]:
    def mark(where: GridPoint) -> Mark | None:
        point = grid.networks.get(where)
        return Mark(where.sparsity, value(point)) if point else gap(grid, where)

    return mark


def draw_latency(grid: Grid) -> Drawing | None:
    """Latency as a share of the dense network's; None where nothing was measured."""
    if grid.study.conditions is None or not any(network.latency for network in grid.study.networks):
        return None
    titles = ("measured latency, share of the dense network", "against the MACs (dotted: in proportion)")
    figure, rows = criterion_panels(grid, titles)
    signs: set[str] = set()
    # Medians determine the axis; the quartiles of a busy machine may lie outside.
    shares = [network.latency.share.median for network in grid.study.networks if network.latency]
    top = 1.18 * max([1.0, *shares])
    for criterion, row in rows:
        row[0].axhline(1, color=INK, lw=0.6, zorder=1)
        row[1].plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls=(0, (1, 1.5)), zorder=1)
        sparsity_axis(row[0], grid.sparsities)
        signs |= _draw_latencies(grid, row[0], criterion, lambda p: p.sparsity, gaps=True)
        signs |= _draw_latencies(grid, row[1], criterion, lambda p: p.macs, gaps=False)
        row[1].set_xlim(-0.03, 1.06)
        percent_axis(row[1].xaxis)
        label_below(row[1], MACS_LABEL)
        for axes in row:
            axes.set_ylim(0, top)
            percent_axis(axes.yaxis)
    add_legend(figure, grid, signs)
    sentences = " ".join(f"{model}: {sentence}" for model, sentence in latency_sentences(grid))
    return Drawing(
        "latency",
        "Measured latency",
        "Time of one forward pass as a share of the dense network's, both measured in turns "
        f"({grid.study.conditions}); one row per criterion. On the dotted line latency falls in proportion "
        "to the multiply-adds. At sparsity 0 the dense network against a copy of itself: the noise of the "
        f"measurement. {GAPS}",
        f"Line charts of measured latency. {sentences}",
        figure,
    )


def _draw_latencies(
    grid: Grid, axes: Axes, criterion: str, x: Callable[[LatencyAndMacs], float], *, gaps: bool
) -> set[str]:
    """Draw a line per model; ``gaps``: whether grid points without a measurement have an x on this axis."""
    signs: set[str] = set()
    for model, style in styles(grid).items():
        # The marks become a line; their quartiles are drawn afterwards, at the same x.
        measured: list[LatencyAndMacs] = []

        def mark(where: GridPoint, measured: list[LatencyAndMacs] = measured) -> Mark | None:
            found = latency_and_macs(grid, where.model, where.criterion, where.sparsity)
            if found is None:
                planned = where in grid.networks or where in grid.holes
                return Mark(where.sparsity, None) if planned and gaps else None
            measured.append(found)
            return Mark(x(found), Estimate((), found.latency.share))

        signs |= draw_line(axes, model_marks(grid, model, criterion, "none", mark), style)
        for each in measured:
            ends = (each.latency.share_low, each.latency.share_high)
            axes.plot([x(each)] * 2, ends, color=style.colour, lw=0.9, alpha=0.55, zorder=3)
            signs.add("quartiles")
    return signs


def draw_accuracy(grid: Grid, arm: str) -> Drawing:
    """Test accuracy against sparsity and against multiply-adds."""
    figure, rows = criterion_panels(
        grid, ("test accuracy against sparsity", "against the MACs that are left")
    )
    signs: set[str] = set()
    for criterion, row in rows:
        sparsity_axis(row[0], grid.sparsities)
        signs |= draw_models(grid, row[0], criterion, arm, _network_mark(grid, lambda p: p.accuracy))
        draw_against_macs(grid, row[1], criterion, arm, lambda point: Mark(0.0, point.accuracy))
        row[0].set_ylim(-0.02, 1.02)
        for axes in row:
            percent_axis(axes.yaxis)
    same_range([row[1] for _, row in rows])
    add_legend(figure, grid, signs, arm)
    networks = grid.networks
    text = first_to_last(grid, arm, lambda p: f"{100 * networks[p].accuracy.mean:.1f} %", known=networks)
    return Drawing(
        f"accuracy-{slug(arm)}",
        f"Best accuracies, {arm_label(arm)}",
        "Test accuracy at the best epoch (chosen on validation images), one row per criterion; left against "
        f"sparsity, right against the multiply-adds that are left. {GAPS}",
        f"Line chart of test accuracy, {arm_label(arm)}: {text}.",
        figure,
    )


def draw_distances(grid: Grid, attack: str, arm: str) -> Drawing | None:
    """Median distances in every norm; None for fixed-size attacks and without a result."""
    attacked = attack_points(grid, attack)
    if not attacked or attacked[0].fixed:
        return None
    own = attacked[0].norm
    norms = list(dict.fromkeys((*NORMS, own)))
    titles = [f"{NORM_LABELS[norm]}{' (minimised)' if norm == own else ''}" for norm in norms]
    figure, rows = criterion_panels(grid, titles)
    signs: set[str] = set()
    for criterion, row in rows:
        for axes, norm in zip(row, norms, strict=True):
            sparsity_axis(axes, grid.sparsities)
            signs |= draw_models(grid, axes, criterion, arm, _median_mark(grid, attack, norm))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    for column in zip(*(row for _, row in rows), strict=True):
        # One axis per norm, for all criteria. Distances of 0 alone would give an axis without height.
        top = max(1e-9, *(axes.get_ylim()[1] for axes in column)) * 1.06
        for axes in column:
            axes.set_ylim(bottom=0, top=top)
    add_legend(figure, grid, signs, arm)
    name = attack_label(attack, own)
    points = grid.points
    text = first_to_last(grid, arm, lambda p: number(points[p].median(own).mean), known=points, attack=attack)
    return Drawing(
        f"distances-{slug(attack)}-{slug(arm)}",
        f"{label(name)}: median distances, {arm_label(arm)}",
        f"Median distance of the perturbations that {name} finds, over the images that each network "
        "classifies correctly; an image without an adversarial example counts as infinitely far. The images "
        "differ from network to network: one that loses accuracy keeps the images far from the boundary. "
        "Compare networks by robust accuracy and by the distance left on common images. One row per "
        "criterion. Bars: 95 % intervals, over trainings from three on; of one training, over its images. "
        f"{breaks(signs)}",
        f"Line chart of median distances, {name}, {arm_label(arm)}; in {NORM_LABELS[own]}: {text}.",
        figure,
    )


def _median_mark(grid: Grid, attack: str, norm: str) -> Callable[[GridPoint], Mark | None]:
    def mark(where: GridPoint) -> Mark | None:
        where = replace(where, attack=attack)
        point = grid.points.get(where)
        if point is None:
            return gap(grid, where)
        # A median needs no other network: an unreliable one is drawn hollow, not replaced by a sign.
        word = "" if point.state == UNRELIABLE else point.state
        return Mark(where.sparsity, _median(point, norm), point.grade, word)

    return mark


def _median(point: AttackPoint, norm: str) -> Estimate:
    """The median over trainings; of one training with the interval over its images."""
    found = point.median(norm)
    if len(point.attacks) > 1:
        return found
    low, high = median_interval(distances(point.attacks[0], norm, "correct"))
    return replace(found, low=low, high=high)
