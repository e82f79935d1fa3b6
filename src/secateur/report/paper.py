"""Tables for a paper: a LaTeX float per attack and kind of fine-tuning, in eight columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from secateur.report.aggregate import Grid, GridPoint, tuned_arms
from secateur.report.formatting import (
    NORM_LABELS,
    PERCENT,
    arm_label,
    latex_text,
    percent,
    percent_range,
    slug,
    unique_stem,
)
from secateur.report.paired_changes import Against, Change
from secateur.report.paired_tests import Difference, criteria_differences
from secateur.report.pairing import no_robustness
from secateur.report.robustness import (
    attack_points,
    budget_label,
    leading_budget,
    left_interval,
    macs_share,
    method_label,
    models_of,
    overstated,
    quantity,
    robust_share,
)

LONGEST = 45
"""Rows that fit on a page; longer tables break over pages."""
_SPEC = "@{}llrrrrrr@{}"
ROBUST, DISTANCE = 0, 1


def paper_tables(grid: Grid, change: dict[GridPoint, Change]) -> Iterator[tuple[str, str]]:
    """File name and LaTeX text of every table; none for an attack without a result.

    A number is bold where its network is significantly more robust than with every other criterion, at the
    same model and sparsity, by the paired tests of :func:`paired_tests.criteria_table`.
    """
    stems: set[str] = set()
    for attack in grid.attacks:
        for arm in tuned_arms(grid) if attack_points(grid, attack) else ():
            rows = list(_rows(grid, change, attack, arm))
            if rows:
                stem = unique_stem(f"paper-{slug(attack)}-{slug(arm)}", stems)
                yield (
                    f"{stem}.tex",
                    _latex(rows, _heads(grid, attack), _caption(grid, attack, arm), f"tab:{stem}"),
                )


def _heads(grid: Grid, attack: str) -> list[str]:
    return [
        "model", "criterion", "sparsity", r"MACs (\%)", r"accuracy (\%)",
        rf"{latex_text(quantity(grid, attack))} (\%)", r"distance left (\%)", "images",
    ]  # fmt: skip


def _rows(grid: Grid, change: dict[GridPoint, Change], attack: str, arm: str) -> Iterator[list[str]]:
    for model in models_of(grid, arm):
        dense = dict.fromkeys(GridPoint(model, "", 0.0, each, attack) for each in ("none", arm))
        pruned = [
            GridPoint(model, criterion, sparsity, arm, attack)
            for sparsity in grid.sparsities
            for criterion in grid.criteria
            if sparsity > 0
        ]
        shown = [where for where in (*dense, *pruned) if where in grid.points or where in grid.holes]
        for i, where in enumerate(shown):
            yield [latex_text(model) if i == 0 else "", *_row(grid, change, where)]


def _row(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> list[str]:
    network = grid.networks.get(GridPoint(where.model, where.criterion, where.sparsity, where.arm))
    name = where.criterion or ("dense" if where.arm == "none" else f"dense, {arm_label(where.arm)}")
    start = [latex_text(name), f"{where.sparsity:g}", _number(macs_share(grid, where))]
    start += [_number(network.accuracy.mean if network else None)]
    if where not in grid.points:
        kind = grid.holes[where][0].kind
        return [*start, "--", latex_text(kind), "--"]
    point, total = grid.points[where], change[where].total
    robust = _robust(grid, change, where)
    if point.role == "dense" or total is None:
        return [*start, robust, "--", str(min(attack.n for attack in point.attacks))]
    return [*start, robust, _left(grid, change, where, total), str(total.n)]


def _robust(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> str:
    point = grid.points[where]
    share = robust_share(point, leading_budget(grid, where.attack))
    if (word := no_robustness(point.state)) or share is None:
        return latex_text(word) or "--"
    # Only the checks of the attack cast doubt on this number: too few common images do not.
    doubt = r"$^{\dagger}$" if point.checked in "CX" else ""
    bold = not doubt and best(grid, change, where)[ROBUST]
    return f"{_bold(_number(share.mean), bold)} {_brackets(share.low, share.high)}{doubt}"


def _left(grid: Grid, change: dict[GridPoint, Change], where: GridPoint, total: Against) -> str:
    if total.share is None:
        return latex_text(total.state) or "--"
    bounds = left_interval(total)
    # Above 100 % at a lower accuracy is no gain.
    bold = best(grid, change, where)[DISTANCE] and not overstated(total)
    return f"{_bold(_number(total.share), bold)}{' ' + _brackets(*bounds[:2]) if bounds else ''}"


def best(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> tuple[bool, bool]:
    """Whether robust accuracy and distance of a network are significantly above every other criterion's.

    Never where a comparison is missing or undecided, or where the stated number itself is not the highest.
    """
    wins: list[tuple[bool, bool]] = []
    for first, each in _compared(grid).get(replace(where, criterion=""), ()):
        other = GridPoint(where.model, first, where.sparsity, where.arm, where.attack)
        if where == each.where:
            sides, rival = each.directions, other
        elif where == other and each.where == GridPoint(*_key(where, each.where.criterion)):
            sides, rival = (-each.directions[0], -each.directions[1]), each.where
        else:
            continue
        higher = _higher(grid, change, where, rival)
        wins.append((sides[ROBUST] > 0 and higher[ROBUST], sides[DISTANCE] > 0 and higher[DISTANCE]))
    complete = bool(wins) and len(wins) == len(grid.criteria) - 1
    return complete and all(win[ROBUST] for win in wins), complete and all(win[DISTANCE] for win in wins)


@lru_cache(maxsize=8)
def _compared(grid: Grid) -> Mapping[GridPoint, Sequence[tuple[str, Difference]]]:
    """The differences between criteria by grid point, criteria aside."""
    found: dict[GridPoint, list[tuple[str, Difference]]] = {}
    for first, each in criteria_differences(grid):
        found.setdefault(replace(each.where, criterion=""), []).append((first, each))
    return found


def _key(where: GridPoint, criterion: str) -> tuple[str, str, float, str, str]:
    return where.model, criterion, where.sparsity, where.arm, where.attack


def _higher(
    grid: Grid, change: dict[GridPoint, Change], one: GridPoint, other: GridPoint
) -> tuple[bool, bool]:
    budget = leading_budget(grid, one.attack)
    shares = [robust_share(grid.points[where], budget) for where in (one, other)]
    robust = shares[0] is not None and shares[1] is not None and shares[0].mean > shares[1].mean
    lefts = [total.share if (total := change[where].total) else None for where in (one, other)]
    return robust, lefts[0] is not None and lefts[1] is not None and lefts[0] > lefts[1]


def _number(share: float | None) -> str:
    return latex_text(percent(share).removesuffix(PERCENT))


def _brackets(low: float, high: float) -> str:
    return latex_text(f"[{percent_range(low, high, ', ').removesuffix(PERCENT)}]")


def _bold(text: str, bold: bool) -> str:
    return rf"\textbf{{{text}}}" if bold else text


def _caption(grid: Grid, attack: str, arm: str) -> str:
    points = attack_points(grid, attack)
    counts = sorted({each.n for point in points for each in point.attacks})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    budget = leading_budget(grid, attack)
    over = sorted({share.over for point in points if (share := robust_share(point, budget))})
    texts = [
        f"{grid.study.name}: {quantity(grid, attack)} at {budget_label(grid, attack, budget)}, "
        f"{arm_label(arm)}.",
        "MACs and distances are shares of the dense network's; accuracy is that of the test set.",
        f"{quantity(grid, attack).capitalize()} is over {n} attacked images, with 95 % intervals in brackets "
        f"(over {' or '.join(over) or 'images'}); it is an upper bound: {method_label(grid, attack)} may "
        "miss an example.",
    ]
    if not points[0].fixed:
        texts += [
            f"Distance left: median ratio of the {NORM_LABELS[points[0].norm]} distances on the images that "
            "both networks classify correctly, whose number is in the last column."
        ]
    texts += [
        "Bold: significantly above every other criterion at the same model and sparsity (paired tests on "
        "the same images, "
        "robust accuracy as the mean over the stated budgets, p < 0.05 after Holm's adjustment)."
    ]
    if any(point.checked in "CX" for point in points):
        texts += ["Dagger: the attack failed a check, the number is unreliable."]
    return latex_text(" ".join(texts))


def _latex(rows: list[list[str]], heads: list[str], caption: str, label: str) -> str:
    head = " & ".join(heads) + r" \\"
    # A model's name stands in its first row; a little space separates the models.
    body = [
        (r"\addlinespace" + "\n" if i and row[0] else "") + " & ".join(row) + r" \\"
        for i, row in enumerate(rows)
    ]
    if len(rows) > LONGEST:
        lines = [
            r"% needs \usepackage{booktabs,longtable}",
            rf"\begin{{longtable}}{{{_SPEC}}}",
            rf"\caption{{{caption}}}\label{{{label}}} \\",
            r"\toprule", head, r"\midrule", r"\endfirsthead",
            r"\toprule", head, r"\midrule", r"\endhead",
            r"\bottomrule", r"\endfoot",
            *body,
            r"\end{longtable}",
        ]  # fmt: skip
    else:
        lines = [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{{_SPEC}}}",
            r"\toprule", head, r"\midrule",
            *body,
            r"\bottomrule", r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"
