"""What is logged to trackers: numbers of the records of a study, and of the verdict of a check."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateur.budgets import written
from secateur.cli.tracking import Log, Point
from secateur.config import epsilons_by_norm
from secateur.engine import Event
from secateur.hashing import restore
from secateur.stats import median
from secateur.store import AttackScience, Record, Store

if TYPE_CHECKING:
    from secateur.config import Cell
    from secateur.decision import Line, Verdict


def listening(listener: Callable[[Event], None], log: Log, folder: Path) -> Callable[[Event], None]:
    """``listener``, and every finished cell of the run folder is logged, earlier ones first."""
    store: Store | None = None

    def heard(event: Event) -> None:
        nonlocal store
        listener(event)
        if event.kind == "begin":
            store = Store.open(folder)
            for cell in store.cells:
                _log(log, store, cell)
        elif event.kind == "ok" and event.cell is not None and store is not None:
            _log(log, store, event.cell)

    return heard


def log_verdict(log: Log, verdict: "Verdict") -> None:
    """Log the numbers of both networks, and the epochs of the fine-tuning."""
    log("fine-tuning", epochs_of(verdict.epochs))
    for name, lines in (("", verdict.lines), ("fine-tuned", verdict.control)):
        if lines:
            log(f"{name} dense".strip(), [(0, _numbers(lines, "dense"))])
    log("pruned", [(0, _numbers(verdict.lines, "pruned"))])


def epochs_of(history: Sequence[Mapping[str, Any]]) -> list[Point]:
    """The numbers of every epoch.

    >>> epochs_of([{"epoch": 1, "loss": 0.5, "robust_accuracy": None}])
    [(1, {'loss': 0.5})]
    """
    found: list[Point] = []
    for each in history:
        numbers = {key: value for key, value in each.items() if key != "epoch" and value is not None}
        found.append((int(each["epoch"]), numbers))
    return found


def _log(log: Log, store: Store, cell: "Cell") -> None:
    record = store.record(cell.id)
    if record is None or not record.ok:
        return
    log(cell.label, epochs_of(getattr(record.science, "history", [])))
    # Steps of the iterative schedule are compared with nothing.
    if cell.role != "round":
        log(_network(cell), [(round(100 * cell.axes["sparsity"]), _values(cell, record, store))])


def _network(cell: "Cell") -> str:
    """Networks that differ by their sparsity alone share a figure; it is the step, in percent."""
    axes = cell.axes
    arm = "" if axes["arm"] == "none" else axes["arm"]
    words = (f"{axes['model']}/{axes['seed']}", axes["criterion"], arm)
    return " ".join(str(word) for word in words if word)


def _values(cell: "Cell", record: Record, store: Store) -> dict[str, float]:
    science = record.science
    if not isinstance(science, AttackScience):
        assert science is not None  # for the types: a record that is ok has numbers
        counts = {"parameters": science.parameters, "multiply_adds": science.macs}
        return {"accuracy": science.accuracy.test, **counts}
    name = cell.axes["attack"]
    correct = [outcome != "already_wrong" for outcome in science.outcome]
    found = {f"{name}/clean_accuracy": sum(correct) / len(correct)}
    low, high = science.bounds or (0.0, 1.0)
    share = "target_not_reached" if science.targeted else "robust_accuracy"
    for eps, holds in _withstood(science, _budgets(science, store)).items():
        said = written(eps, science.norm, levels=science.levels, bounds=(low, high)).replace("/", "_")
        found[f"{name}/{share}_at_{said}"] = sum(holds) / len(holds)
    sizes = [
        math.inf if outcome == "not_found" else float(value or 0.0)
        for outcome, value in zip(science.outcome, science.distances[science.norm], strict=True)
        if outcome != "already_wrong"
    ]
    middle = float(median(sizes)) if sizes and not science.sizes else math.inf
    return found | ({f"{name}/median_{science.norm}": middle} if math.isfinite(middle) else {})


def _budgets(science: AttackScience, store: Store) -> list[float]:
    """The budgets that the study states in the norm of the attack, or else those of the record."""
    if science.sizes:
        return [size.eps for size in science.sizes]
    given = restore(store.study["config"].get("epsilons", ()))
    # A mapping names the norms itself; a plain list is for the norms of the study's attacks.
    stated = epsilons_by_norm(given, () if isinstance(given, Mapping) else (science.norm,))
    share = "target_not_reached" if science.targeted else "robust_accuracy"
    return [*stated.get(science.norm, ())] or [row["eps"] for row in science.summary.get(share, ())]


def _withstood(science: AttackScience, budgets: Sequence[float]) -> dict[float, list[bool]]:
    """By budget, which images are right and have no example within it; the outcome decides."""
    right = [outcome != "already_wrong" for outcome in science.outcome]
    if science.sizes:
        fell = {size.eps: size.found for size in science.sizes}
    else:
        near = science.distances[science.norm]
        hits = [outcome == "found" for outcome in science.outcome]
        fell = {
            eps: [hit and float(value or 0.0) <= eps for hit, value in zip(hits, near, strict=True)]
            for eps in budgets
        }
    return {eps: [r and not f for r, f in zip(right, fell[eps], strict=True)] for eps in budgets}


def _numbers(lines: Sequence["Line"], side: str) -> dict[str, float]:
    """One network's numbers by the names of the JSON, without those that are not there."""
    found = {line.key.replace(" ", "_"): getattr(line, side) for line in lines}
    return {key: value for key, value in found.items() if value is not None and math.isfinite(value)}
