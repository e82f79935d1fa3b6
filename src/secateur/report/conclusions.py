"""The conclusions of a study in sentences: accuracy, robust accuracy, and the distance that is left."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from secateur.report.aggregate import AttackPoint, Grid, GridPoint, dense_of, dense_tuned_of, tuned_arms
from secateur.report.formatting import (
    NORM_LABELS,
    arm_label,
    attack_label,
    number,
    percent,
)
from secateur.report.paired_changes import Change
from secateur.report.robustness import (
    Budget,
    Share,
    attack_points,
    clean_share,
    closest_to_half,
    leading_budget,
    left_percent,
    left_sentence,
    macs_share,
    method_label,
    quantity,
    robust_share,
)
from secateur.text import counted, listed


@dataclass(frozen=True)
class Line:
    """One network of a conclusion; ``clean`` and ``robust`` are None where there is no result."""

    name: str
    clean: Share | None
    robust: Share | None
    sentence: str
    grade: str
    remarks: str


@dataclass(frozen=True)
class Conclusion:
    """The networks of one model under one attack, at one sparsity: controls first."""

    model: str
    robust: bool
    attack: str
    quantity: str
    setting: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Headline:
    """A sentence at the top of the page about a model."""

    model: str
    sentence: str


def sparsity_of_sentences(grid: Grid) -> float | None:
    """The sparsity of the study that is closest to one half; None without a pruned network."""
    return closest_to_half(sparsity for sparsity in grid.sparsities if sparsity > 0)


def conclusions(grid: Grid, change: dict[GridPoint, Change]) -> Iterator[Conclusion]:
    """One conclusion per model, attack and arm, at the study's sparsity closest to one half."""
    sparsity = sparsity_of_sentences(grid)
    if sparsity is None or not grid.points:
        return
    for model in grid.models:
        for attack in grid.attacks:
            for arm in tuned_arms(grid):
                pruned = [GridPoint(model, criterion, sparsity, arm, attack) for criterion in grid.criteria]
                if not any(where in grid.points or where in grid.holes for where in pruned):
                    continue
                # Without fine-tuning the two controls are the same network.
                controls = dict.fromkeys((dense_of(pruned[0]), dense_tuned_of(pruned[0])))
                lines = [_line(grid, change, where) for where in (*controls, *pruned)]
                budget = leading_budget(grid, attack)
                label = _attack_label(grid, attack)
                yield Conclusion(
                    model=model,
                    robust=grid.robust.get(model, False),
                    attack=f"{label}, {budget.label}" if budget else label,
                    quantity=quantity(grid, attack),
                    setting=f"sparsity {sparsity:g}, {arm_label(arm)}",
                    lines=tuple(line for line in lines if line is not None),
                )


def warnings(grid: Grid) -> Iterator[Headline]:
    """A warning for every model whose dense network is near chance: none of its numbers is robustness."""
    for model in grid.models:
        dense = grid.networks.get(GridPoint(model, "", 0.0, "none"))
        if dense and dense.collapsed:
            yield Headline(
                model,
                f"is near chance before it is pruned (accuracy {percent(dense.accuracy.mean)}): none "
                "of its numbers is robustness. Check the normalisation of the input, the order of the "
                "labels and the size of the images.",
            )


def headlines(grid: Grid) -> Iterator[Headline]:
    """Per model and arm: accuracy, robust accuracy at the leading budgets, multiply-adds that are left."""
    sparsity = sparsity_of_sentences(grid)
    for model in grid.models if sparsity is not None else ():
        for arm in tuned_arms(grid):
            grid_points = [GridPoint(model, criterion, sparsity or 0.0, arm) for criterion in grid.criteria]
            if any(replace(where, attack=a) in grid.points for where in grid_points for a in grid.attacks):
                yield Headline(model, " ".join(_headline(grid, grid_points)))


def _headline(grid: Grid, grid_points: list[GridPoint]) -> Iterator[str]:
    dense = dense_of(grid_points[0])
    before = grid.networks.get(dense)
    after = [(where, grid.networks[where]) for where in grid_points if where in grid.networks]
    accuracies = [
        f"{percent(p.accuracy.mean)} ({where.criterion}{_caveat(p.collapsed)})" for where, p in after
    ]
    setting = f"at sparsity {grid_points[0].sparsity:g} ({arm_label(grid_points[0].arm)})"
    start = f"goes from {percent(before.accuracy.mean)} to" if before else "is"
    yield f"{setting}: accuracy {start} {listed(accuracies)}."
    for attack in grid.attacks:
        if sentence := _robust_sentence(grid, attack, grid_points):
            yield sentence
    # Criteria that prune alike would repeat the same number.
    macs = sorted({percent(share) for where, _ in after if (share := macs_share(grid, where))})
    if macs:
        yield f"{listed(macs)} of the multiply-adds are left."


def _robust_sentence(grid: Grid, attack: str, grid_points: list[GridPoint]) -> str:
    budget = leading_budget(grid, attack)
    found = [(where, grid.points.get(replace(where, attack=attack))) for where in grid_points]
    shares = [(where, point, robust_share(point, budget)) for where, point in found if point]
    shares_text = [
        f"{percent(share.mean)} ({where.criterion}{_caveat(point.grade == 'C', point.state or 'unreliable')})"
        for where, point, share in shares
        if share
    ]
    if not shares_text or budget is None:
        return ""
    control = grid.points.get(replace(dense_of(grid_points[0]), attack=attack))
    before = robust_share(control, budget) if control else None
    start = f"goes from {percent(before.mean)} to" if before else "is"
    name = quantity(grid, attack).capitalize()
    return f"{name} at {budget.label} ({method_label(grid, attack)}) {start} {listed(shares_text)}."


def _caveat(doubtful: bool, word: str = "collapsed") -> str:
    return f", {word}" if doubtful else ""


def images(point: AttackPoint) -> str:
    """The sample sizes of a number: "100 images, 2 trainings"."""
    n = min(attack.n for attack in point.attacks)
    return f"{n} images, {counted(len(point.attacks), 'training')}"


def _attack_label(grid: Grid, attack: str) -> str:
    points = attack_points(grid, attack)
    return attack_label(attack, points[0].norm) if points else attack


def _line(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> Line | None:
    name = _name(where)
    if where not in grid.points:
        holes = grid.holes.get(where)
        reasons = "; ".join(dict.fromkeys(hole.reason for hole in holes or ()))
        return Line(name, None, None, f"No result: {reasons}.", "X", "") if holes else None
    point, budget = grid.points[where], leading_budget(grid, where.attack)
    return Line(
        name=name,
        clean=clean_share(point),
        robust=robust_share(point, budget),
        sentence=" ".join(_sentences(grid, point, change[where], budget)),
        grade=point.grade,
        remarks="; ".join(point.reasons),
    )


def _name(where: GridPoint) -> str:
    if where.criterion:
        return where.criterion
    return "dense" if where.arm == "none" else "fine-tuning alone, no pruning"


def _sentences(grid: Grid, point: AttackPoint, change: Change, budget: Budget | None) -> Iterator[str]:
    network, robust = grid.networks[point.network_grid_point], robust_share(point, budget)
    if robust:
        yield f"95 % interval {robust.interval}, over {robust.over}; {images(point)}."
    macs = macs_share(grid, point.where)
    left = f", {percent(macs)} of the multiply-adds" if macs is not None and point.where.sparsity else ""
    yield f"Test accuracy {percent(network.accuracy.mean)}{left}."
    norm = NORM_LABELS[point.norm]
    if point.role == "dense":
        if not point.fixed:
            median = number(point.median(point.norm).mean)
            yield f"Median {norm} distance of the images that it classifies correctly: {median}."
        return
    if change.total is None:
        yield "There is no dense network to compare with."
    elif sentence := left_sentence(change.total, norm):
        yield sentence
    if change.pruning and point.role == "pruned" and left_percent(change.pruning):
        yield (
            f"Compared with the dense network after the same fine-tuning: {left_percent(change.pruning)} "
            f"({change.pruning.n} images)."
        )
