"""The answer of a check: lines, limits, and a verdict in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import nn

from secateur.decision.figures import changes
from secateur.decision.limits import Judged, Limits, judged
from secateur.decision.lines import Line, points
from secateur.display import frame
from secateur.stats import SAME_SHARE, wilson
from secateur.text import listed


@dataclass(frozen=True, eq=False)
class Verdict:
    """What pruning cost one network, and whether the result keeps the limits.

    Attributes:
        title: what was done to which network.
        lines: the dense and the pruned network, quantity by quantity.
        limits: one per limit that was asked.
        sentences: the verdict in words, the most important first.
        notes: remarks on the data, the pruning and the attacks.
        grades: by norm the worse trust grade of the attacks on both networks.
        model: the pruned, fine-tuned network.
        folder: where everything was written; None if no folder was asked.
        points: of a search, the sparsities that were tried, as plain data.
        control: with a control, the same quantities with the dense network after the same fine-tuning in the
            place of the dense one.
        epochs: of the fine-tuning, as plain data; see ``secateur.train.Epoch``.
    """

    title: str
    lines: tuple[Line, ...]
    limits: tuple[Judged, ...]
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
    grades: dict[str, str]
    model: nn.Module
    folder: Path | None = None
    points: tuple[dict[str, Any], ...] = ()
    control: tuple[Line, ...] = ()
    epochs: tuple[dict[str, Any], ...] = ()

    @property
    def kept(self) -> bool:
        """Whether no limit is broken."""
        return all(each.state == "kept" for each in self.limits)

    def line(self, key: str) -> Line:
        """The line with this key."""
        return next(line for line in self.lines if line.key == key)

    def to_json(self) -> dict[str, Any]:
        """Plain data with finite numbers only."""
        return {
            "schema_version": 1,
            "title": self.title,
            "kept": self.kept,
            "verdict": list(self.sentences),
            "limits": [vars(each) for each in self.limits],
            "lines": [line.to_json() for line in self.lines],
            "control": [line.to_json() for line in self.control],
            "grades": self.grades,
            "notes": list(self.notes),
            "points": list(self.points),
            "epochs": list(self.epochs),
        }

    def __str__(self) -> str:
        cells = [("", "dense", "pruned", "change"), *(line.cells() for line in self.lines)]
        if self.control:
            cells += [("", "", "", ""), ("", "tuned dense", "pruned", "change")]
            cells += [line.cells() for line in self.control]
        widths = [max(len(row[i]) for row in cells) for i in range(4)]
        rows = [
            f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip()
            for row in cells
        ]
        limits = [each.sentence for each in self.limits]
        return "\n".join([self.title, "", *rows, "", *limits, *self.sentences])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        words = "".join(f"<li>{escape(said)}</li>" for said in self.sentences)
        tables = _table("dense", self.lines) + (_table("tuned dense", self.control) if self.control else "")
        return f"<p><b>{escape(self.title)}</b></p><ul>{words}</ul>{tables}"

    def plot(self) -> Figure:
        """The change of every share with its interval, as a matplotlib figure."""
        return changes(self.lines, "dense", "pruned")

    def to_pandas(self) -> Any:
        """One row per line: numbers, change, interval and finding. Needs pandas.

        Raises:
            UserError: pandas is not installed.
        """
        rows = [line.to_json() for line in self.lines]
        return frame({key: [row[key] for row in rows] for key in rows[0]})


def _table(first: str, lines: Sequence[Line]) -> str:
    head = "".join(f"<th>{word}</th>" for word in ("", first, "pruned", "change"))
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line.cells())}</tr>" for line in lines
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def judge(
    limits: Limits,
    lines: Sequence[Line],
    *,
    robust_of: dict[tuple[str, float], tuple[int, int]],
    seconds: tuple[float, float, float] | None,
) -> tuple[Judged, ...]:
    """Every limit beside what was measured.

    Args:
        limits: what was asked.
        lines: of the check; the one of accuracy is used.
        robust_of: by norm and budget how many of how many images withstand it.
        seconds: median and quartiles of the latency of one image.
    """
    accuracy = next(line for line in lines if line.key == "accuracy")
    found = []
    if limits.min_accuracy is not None and accuracy.pruned is not None and accuracy.n:
        interval = wilson(round(accuracy.pruned * accuracy.n), accuracy.n)
        found.append(judged("accuracy", accuracy.pruned, least=limits.min_accuracy, interval=interval))
    if limits.max_drop is not None and accuracy.change is not None:
        ends = (-(accuracy.high or 0.0), -(accuracy.low or 0.0))
        found.append(
            judged(
                "fall of accuracy", -accuracy.change, most=limits.max_drop, interval=ends, suffix=" points"
            )
        )
    for limit in limits.min_robust:
        right, n = robust_of[limit.norm, limit.eps]
        # As the line of this budget writes it: in /255 where images have 256 levels.
        same = (line for line in lines if line.key == f"robust {limit.norm} {limit.eps:.4g}")
        found.append(judged(next(same).name, right / n, least=limit.share, interval=wilson(right, n)))
    if limits.max_latency is not None and seconds is not None:
        median, low, high = seconds
        found.append(
            judged(
                "latency of one image",
                median,
                most=limits.max_latency,
                interval=(low, high),
                unit=1e3,
                suffix=" ms",
            )
        )
    return tuple(found)


def sentences(
    lines: Sequence[Line], limits: Sequence[Judged], *, collapsed: bool, control: Sequence[Line] = ()
) -> tuple[str, ...]:
    """The verdict in words: limits first, then accuracy, robustness and cost."""
    said = []
    if collapsed:
        said.append("The pruned network is near chance: do not ship it.")
    broken = [each for each in limits if each.state == "broken"]
    if broken:
        said.append(f"Do not ship: {len(broken)} of {len(limits)} limits broken.")
    elif limits:
        unsure = sum(not each.sure for each in limits)
        doubt = f", {unsure} of them with too few images to be sure" if unsure else ""
        if unsure and len(limits) == 1:
            doubt = ", but these images are too few to be sure"
        whole = {1: "The limit is", 2: "Both limits are"}.get(len(limits), f"All {len(limits)} limits are")
        said.append(f"{whole} kept{doubt}.")
    shares = [line for line in lines if line.kind == "share"]
    said += [_said(line) for line in shares if line.key == "accuracy"]
    doubt = "" if control else ", maybe by the fine-tuning, which the dense network had not"
    said += _robust_words([line for line in shares if line.key != "accuracy"], doubt)
    if control:
        said.append(_against_control([line for line in control if line.kind == "share"]))
    costs = [line for line in lines if line.kind in ("count", "seconds") and line.change is not None]
    if costs:
        said.append(
            f"It has {listed([f'{100 * (line.change or 0):.0f} % of the {line.name}' for line in costs])}."
        )
    return tuple(said)


def _said(line: Line) -> str:
    """One sentence about a share."""
    name = line.name[0].upper() + line.name[1:]
    change = f"{points(line.change)} points ({points(line.low)} to {points(line.high)})"
    if line.finding == "same":
        return f"{name} is the same within 5 points: {change}."
    if line.finding == "undecided":
        show = f"these {line.n} images would show {100 * (line.detectable or 0):.1f} points"
        return f"{name} shows no clear change: {change}; {show}."
    return f"{name} is {line.finding}: {change}."


def _against_control(shares: Sequence[Line]) -> str:
    """One sentence on what the pruning alone has changed."""
    accuracy = next(line for line in shares if line.key == "accuracy")
    state = {"same": "the same within 5 points", "undecided": "not clearly changed"}
    words = f"accuracy is {state.get(accuracy.finding, accuracy.finding)} ({points(accuracy.change)} points)"
    lines = _comparable([line for line in shares if line.key != "accuracy"])
    found = {
        finding: [_budget(line) for line in lines if line.finding == finding]
        for finding in ("worse", "better")
    }
    clear = [f"{finding} at {listed(places)}" for finding, places in found.items() if places]
    robust = f"robust accuracy is {listed(clear)}" if clear else "robust accuracy shows no clear change"
    return f"Against the dense network with the same fine-tuning, {words}{f'; {robust}' if lines else ''}."


def _comparable(lines: Sequence[Line]) -> list[Line]:
    """Without budgets that hardly any image withstands in either network: there is nothing to compare."""
    return [line for line in lines if max(line.dense or 0.0, line.pruned or 0.0) > SAME_SHARE]


def _robust_words(lines: Sequence[Line], doubt: str) -> list[str]:
    """At which budgets robust accuracy is worse, better, the same, or undecided.

    Args:
        lines: of robust accuracy.
        doubt: what has to be added where it is better.
    """
    kept = _comparable(lines)
    floor, lines = [line for line in lines if line not in kept], kept
    said = []
    if floor:
        said.append(
            f"Hardly any image withstands {listed([_budget(line) for line in floor])} in either network."
        )
    for finding, words in (
        ("worse", "Robust accuracy is worse at {}."),
        ("better", f"Robust accuracy is better at {{}}{doubt}."),
        ("same", "Robust accuracy is the same within 5 points at {}."),
        ("undecided", "These images show no clear change of robust accuracy at {}."),
    ):
        places = [_budget(line) for line in lines if line.finding == finding]
        if places:
            said.append(words.format(listed(places)))
    return said


def _budget(line: Line) -> str:
    """The budget of a line of robust accuracy, such as ``L∞ 8/255``."""
    return line.label.partition(" at ")[2].partition(",")[0]
