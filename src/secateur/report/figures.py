"""The figures: robust accuracy, security curves, what is left, and the thesis' 4.1 to 4.8."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from matplotlib.ticker import FuncFormatter

from secateur.report.aggregate import Grid, GridPoint, NetworkPoint, tuned_arms
from secateur.report.axes import against_macs, finish, lines, panels_of, series, styles
from secateur.report.curves import draw_curves
from secateur.report.formatting import NORM_LABELS, arm_label, attack_label, number, short, slug, unused
from secateur.report.headline import points_of
from secateur.report.intervals import Estimate
from secateur.report.latency_figure import draw_latency
from secateur.report.left_figure import draw_left
from secateur.report.outcomes import UNRELIABLE
from secateur.report.paired_changes import Change
from secateur.report.plots import Drawing, Mark, count_axis, draw_line, percent_axis, sparsity_axis
from secateur.report.records import NORMS
from secateur.report.robust_figure import draw_robust
from secateur.report.theme import label

LOOKS = "Lines break where a cell has no result; nothing is interpolated."


def draw(grid: Grid, change: dict[GridPoint, Change]) -> Iterator[Drawing]:
    """Every figure that the study has data for, in reading order. Call inside ``theme.themed()``."""
    stems: set[str] = set()
    for drawing in _drawings(grid, change):
        if drawing is not None:
            yield replace(drawing, stem=unused(drawing.stem, stems))


def _drawings(grid: Grid, change: dict[GridPoint, Change]) -> Iterator[Drawing | None]:
    arms = tuned_arms(grid)
    pairs = [(attack, arm) for arm in arms for attack in grid.attacks]
    for attack, arm in pairs:
        yield draw_robust(grid, attack, arm, LOOKS)
        yield draw_curves(grid, attack, arm)
        yield draw_left(grid, change, attack, arm, LOOKS)
    if grid.networks:
        yield _cost(grid)
        yield draw_latency(grid, LOOKS)
        for arm in arms:
            yield _accuracy(grid, arm)
    for attack, arm in pairs:
        yield _distances(grid, attack, arm)


def _cost(grid: Grid) -> Drawing:
    figure, panels = panels_of(grid, 2)
    used: set[str] = set()
    values: tuple[Callable[[NetworkPoint], Estimate], ...] = (lambda p: p.parameters, lambda p: p.macs)
    for row, criterion in zip(panels, grid.criteria or ("",), strict=True):
        for axes, title, value in zip(row, ("parameters", "MACs"), values, strict=True):
            count_axis(axes)
            sparsity_axis(axes, grid.sparsities, labelled=row is panels[-1])
            for model, style in styles(grid).items():
                marks = series(grid, model, criterion, "none", _network_mark(grid, value))
                used |= draw_line(axes, marks, style)
            if row is panels[0]:
                axes.set_title(title)
        row[0].set_ylabel(label(criterion or "dense"), fontweight="bold")
    finish(figure, grid, used)
    text = _values(grid, lambda m, s: _network_value(grid, m, s, lambda p: short(p.parameters.mean)))
    return Drawing(
        "cost",
        "Parameters and MACs",
        "Parameters and multiply-accumulate operations of one image against sparsity, one row per criterion "
        f"(logarithmic). {LOOKS}",
        f"Line chart of parameters and MACs against sparsity. Parameters: {text}.",
        figure,
    )


def _network_mark(
    grid: Grid, value: Callable[[NetworkPoint], Estimate]
) -> Callable[[GridPoint], Mark | None]:
    def mark(where: GridPoint) -> Mark | None:
        if where in grid.networks:
            point = grid.networks[where]
            return Mark(where.sparsity, value(point), "A")
        return Mark(where.sparsity, None) if where in grid.holes else None

    return mark


def _network_value(grid: Grid, model: str, sparsity: float, text: Callable[[NetworkPoint], str]) -> str:
    arm = tuned_arms(grid)[0]
    criterion = grid.criteria[0] if grid.criteria and sparsity > 0 else ""
    point = grid.networks.get(GridPoint(model, criterion, sparsity, arm))
    return text(point) if point else "no result"


def _accuracy(grid: Grid, arm: str) -> Drawing:
    figure, panels = panels_of(grid, 2)
    used: set[str] = set()
    mark = _network_mark(grid, lambda p: p.accuracy)
    for row, criterion in zip(panels, grid.criteria or ("",), strict=True):
        sparsity_axis(row[0], grid.sparsities, labelled=row is panels[-1])
        used |= lines(grid, row[0], criterion, arm, mark)
        against_macs(grid, row[1], criterion, arm, lambda point: Mark(0.0, point.accuracy))
        row[0].set_ylim(-0.02, 1.02)
        for axes in row:
            percent_axis(axes.yaxis)
        row[1].tick_params(labelbottom=row is panels[-1])
        row[0].set_ylabel(label(criterion or "dense"), fontweight="bold")
    panels[0][0].set_title("test accuracy against sparsity")
    panels[0][1].set_title("against the MACs that are left")
    panels[-1][1].set_xlabel("MACs, share of the dense network")
    finish(figure, grid, used)
    text = _values(grid, lambda m, s: _network_value(grid, m, s, lambda p: f"{100 * p.accuracy.mean:.1f} %"))
    return Drawing(
        f"accuracy-{slug(arm)}",
        f"Best accuracies, {arm_label(arm)}",
        "Test accuracy at the best epoch (chosen on validation), one row per criterion; left against "
        f"sparsity, right against the operations that are really left. {LOOKS}",
        f"Line chart of test accuracy, {arm_label(arm)}: {text}.",
        figure,
    )


def _distances(grid: Grid, attack: str, arm: str) -> Drawing | None:
    points = points_of(grid, attack)
    if not points or points[0].fixed:
        return None
    figure, panels = panels_of(grid, len(NORMS))
    used: set[str] = set()
    own = points[0].norm
    for row, criterion in zip(panels, grid.criteria or ("",), strict=True):
        for axes, norm in zip(row, NORMS, strict=True):
            sparsity_axis(axes, grid.sparsities, labelled=row is panels[-1])
            used |= lines(grid, axes, criterion, arm, _median_mark(grid, attack, norm))
            axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], 1e-9) * 1.06)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
            if row is panels[0]:
                axes.set_title(f"{NORM_LABELS[norm]}{' (minimised)' if norm == own else ''}")
        row[0].set_ylabel(label(criterion or "dense"), fontweight="bold")
    finish(figure, grid, used)
    name = attack_label(attack, own)
    text = _values(grid, lambda m, s: _median_text(grid, attack, arm, m, s))
    return Drawing(
        f"distances-{slug(attack)}-{slug(arm)}",
        f"{label(name)}: median distances, {arm_label(arm)}",
        f"Median distance of the perturbations that {name} finds, over the images that each network gets "
        "right; an image without an adversarial example counts as infinitely far. These are other images for "
        "every network: one that loses accuracy keeps the images far from the boundary. Compare networks by "
        f"their robust accuracy and by what is left on common images. One row per criterion. {LOOKS}",
        f"Line chart of median distances, {name}, {arm_label(arm)}; in {NORM_LABELS[own]}: {text}.",
        figure,
    )


def _median_mark(grid: Grid, attack: str, norm: str) -> Callable[[GridPoint], Mark | None]:
    def mark(where: GridPoint) -> Mark | None:
        where = GridPoint(where.model, where.criterion, where.sparsity, where.arm, attack)
        if where in grid.points:
            point = grid.points[where]
            word = "" if point.state == UNRELIABLE else point.state
            return Mark(where.sparsity, point.median(norm), point.grade, word)
        return Mark(where.sparsity, None) if where in grid.holes else None

    return mark


def _median_text(grid: Grid, attack: str, arm: str, model: str, sparsity: float) -> str:
    criterion = grid.criteria[0] if grid.criteria and sparsity > 0 else ""
    point = grid.points.get(GridPoint(model, criterion, sparsity, arm, attack))
    return number(point.median(point.norm).mean) if point else "no result"


def _values(grid: Grid, text: Callable[[str, float], str]) -> str:
    first, last = grid.sparsities[0], grid.sparsities[-1]
    return "; ".join(
        f"{model} from {text(model, first)} at sparsity {first:g} to {text(model, last)} at {last:g}"
        for model in grid.models
    )
