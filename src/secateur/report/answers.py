"""The answer in words: how much of its robustness is left to each model, and how sure that is."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from secateur.report.aggregate import AttackPoint, Grid, Place, dense_of, dense_tuned_of, tuned_arms
from secateur.report.changes import Against, Change
from secateur.report.words import NORM_LABELS, arm_label, attack_label, number, percent


@dataclass(frozen=True)
class Line:
    """One pruned network of an answer; ``share`` is None where there is no number."""

    criterion: str
    share: float | None
    interval: str
    sentence: str
    grade: str
    remarks: str


@dataclass(frozen=True)
class Answer:
    """What is left to one model against one attack, at one sparsity; ``control`` is fine-tuning alone."""

    model: str
    robust: bool
    attack: str
    setting: str
    control: Line | None
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Tile:
    """A field of the overview: the share that is left, or why there is none."""

    sparsity: float
    share: float | None
    text: str
    detail: str
    grade: str


def answers(grid: Grid, change: dict[Place, Change]) -> Iterator[Answer]:
    """One answer per model, attack and arm, at the study's sparsity nearest to one half."""
    pruned = [sparsity for sparsity in grid.sparsities if sparsity > 0]
    if not pruned or not grid.points:
        return
    sparsity = min(pruned, key=lambda s: (round(abs(s - 0.5), 6), s))
    for model in grid.models:
        for attack in grid.attacks:
            for arm in tuned_arms(grid):
                places = [Place(model, criterion, sparsity, arm, attack) for criterion in grid.criteria]
                lines = [line for place in places if (line := _line(grid, change, place)) is not None]
                if lines:
                    yield Answer(
                        model=model,
                        robust=grid.robust.get(model, False),
                        attack=_attack_words(grid, attack),
                        setting=f"sparsity {sparsity:g}, {arm_label(arm)}",
                        control=None if arm == "none" else _line(grid, change, dense_tuned_of(places[0])),
                        lines=tuple(lines),
                    )


@dataclass(frozen=True)
class Headline:
    """One sentence about a model at one setting."""

    model: str
    sentence: str


def headlines(found: list[Answer]) -> Iterator[Headline]:
    """The answers in one sentence per model and setting; grade C is said, not counted."""
    for model, setting in dict.fromkeys((answer.model, answer.setting) for answer in found):
        these = [a for a in found if (a.model, a.setting) == (model, setting)]
        parts = [f"{_shares(answer)} against {answer.attack}" for answer in these]
        sentence = f"at {setting} keeps {_listed(parts)}."
        controls = [
            f"{percent(a.control.share)}{_doubt(a.control)} against {a.attack}"
            for a in these
            if a.control and a.control.share is not None
        ]
        if controls:
            sentence += f" The same fine-tuning without pruning leaves {_listed(controls)}."
        yield Headline(model, sentence)


def _shares(answer: Answer) -> str:
    said = []
    for line in answer.lines:
        share = "an unknown share" if line.share is None else percent(line.share)
        said.append(f"{share} ({line.criterion}){_doubt(line)}")
    return _listed(said)


def _doubt(line: Line) -> str:
    return " (unreliable)" if line.grade == "C" else ""


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def tiles(grid: Grid, change: dict[Place, Change], row_of: Place) -> list[Tile]:
    """The overview's row: one tile per sparsity of the study, at the place ``row_of`` otherwise."""
    row = []
    for sparsity in grid.sparsities:
        place = replace(row_of, criterion=row_of.criterion if sparsity > 0 else "", sparsity=sparsity)
        if place in grid.points:
            point, total = grid.points[place], change[place].total
            share = total.share if total else None
            detail = number(point.median(point.norm).mean)
            text = total.state if total and total.state else percent(share)
            row.append(Tile(sparsity, share, text, detail, change[place].total_grade))
        elif place in grid.holes:
            row.append(Tile(sparsity, None, "✕", grid.holes[place][0].kind, "X"))
        else:
            row.append(Tile(sparsity, None, "", "", ""))
    return row


def interval(change: Against) -> str:
    """The interval of the share that is left; empty where it is undefined."""
    return f"{percent(change.interval[0])} to {percent(change.interval[1])}" if change.interval else ""


def found(point: AttackPoint) -> str:
    """Images with an adversarial example, of those that were attacked; all seeds together."""
    hits = sum(int(attack.found.sum()) for attack in point.attacks)
    return f"{hits} of {sum(int((~attack.already_wrong).sum()) for attack in point.attacks)}"


def images(point: AttackPoint) -> str:
    """How many images and seeds a number rests on."""
    seeds = len(point.attacks)
    return f"{min(a.n for a in point.attacks)} images, {seeds} {'seed' if seeds == 1 else 'seeds'}"


def _attack_words(grid: Grid, attack: str) -> str:
    norms = {point.norm for point in grid.points.values() if point.place.attack == attack}
    return attack_label(attack, norms.pop()) if norms else attack


def _line(grid: Grid, change: dict[Place, Change], place: Place) -> Line | None:
    if place not in grid.points:
        holes = grid.holes.get(place)
        reasons = "; ".join(dict.fromkeys(hole.reason for hole in holes or ()))
        return Line(place.criterion, None, "", f"No result: {reasons}.", "X", "") if holes else None
    point, total = grid.points[place], change[place].total
    return Line(
        criterion=place.criterion,
        share=total.share if total else None,
        interval=interval(total) if total else "",
        sentence=_sentence(grid, point, change[place]),
        grade=change[place].total_grade if total else point.grade,
        remarks="; ".join(point.reasons),
    )


def _sentence(grid: Grid, point: AttackPoint, change: Change) -> str:
    norm, after = NORM_LABELS[point.norm], number(point.median(point.norm).mean)
    if change.total is None or change.total.left is None:
        said = [f"Median {norm} {after}; there is no dense network to compare with."]
    else:
        left = change.total.left
        said = [f"Median {norm} on common images {number(left.before)} → {number(left.after)}."]
    if change.pruning and point.role == "pruned" and change.pruning.share is not None:
        said.append(
            f"Pruning alone leaves {percent(change.pruning.share)} {_bracketed(interval(change.pruning))}"
            "of the equally fine-tuned dense network."
        )
    said.append(_over_all(grid, point))
    said.append(_accuracy(grid, point))
    said.append(f"{images(point)}; adversarial examples found for {found(point)}.")
    return " ".join(said)


def _bracketed(text: str) -> str:
    return f"({text}) " if text else ""


def _over_all(grid: Grid, point: AttackPoint) -> str:
    """A network that gets little right keeps its easiest images only: all images tell another story."""
    after = number(point.median(point.norm, "all").mean)
    dense = grid.points.get(dense_of(point.place))
    before = f"{number(dense.median(point.norm, 'all').mean)} → " if dense else ""
    return f"Over all images, wrong ones at 0: {before}{after}."


def _accuracy(grid: Grid, point: AttackPoint) -> str:
    after = grid.networks[point.network_place]
    before = grid.networks.get(replace(dense_of(point.place), attack=""))
    collapsed = " (no better than chance)" if after.collapsed else ""
    if before is None:
        return f"Accuracy {100 * after.accuracy.mean:.1f} %{collapsed}."
    return f"Accuracy {100 * before.accuracy.mean:.1f} % → {100 * after.accuracy.mean:.1f} %{collapsed}."
