"""The result of an attack with its grade: its summary, its record, its files."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from secateur import budgets as usual
from secateur import stats, trust
from secateur.attacks.runner.by_class import by_class, withstands
from secateur.attacks.runner.result import AttackResult, Outcome
from secateur.attacks.runner.starting_points import write_examples
from secateur.display import Drawn, Shown

TARGETED = (
    "a targeted attack says how often one class is reached; robust accuracy, the share of images that stay "
    "correct whatever class an attack ends in, is that of the untargeted attack"
)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluated(Shown, Drawn):
    """The result of an attack per image, its grade, and the budgets of its headline and security curve.

    ``budgets`` are those at which robust accuracy is stated, ``eps`` those of the security curve; for an
    attack of fixed size both are the sizes it ran at. ``facts`` hold labels, bounds, grey levels, the
    fingerprint of the data and the hash of the weights.

    >>> import secateur
    >>> model = secateur.models.resolve("shipped:digits-plain")
    >>> images = secateur.data.load("digits:split").take(range(4))
    >>> evaluated = secateur.attack(model, images, "ddn", steps=10)
    >>> evaluated.result.n, evaluated.summary()["clean_accuracy"]
    (4, 1.0)
    """

    result: AttackResult
    grade: trust.Grade
    budgets: tuple[float, ...]
    eps: tuple[float, ...]
    facts: dict[str, Any]
    drawn_by: ClassVar[str] = "secateur.decision.plotting:plot"

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        result, share = self.result, "target not reached" if self.result.targeted else "robust accuracy"
        levels, bounds = self.facts["levels"], tuple(self.facts["bounds"])
        stated = _stated(result, self.budgets, levels=levels, bounds=bounds)
        rows = [("clean accuracy", f"{result.accuracy:.1%}")]
        rows += [
            (f"{share} at {row['written']}", f"{row['value']:.1%} ({row['low']:.1%} to {row['high']:.1%})")
            for row in stated
        ]
        rows += [("network", said) for said in result.search.get("network", ())]
        rows += [("examples", result.search["examples"])] if "examples" in result.search else []
        title = f"{result.attack} ({result.norm_key}) on {result.n} images, grade {self.grade.letter}"
        return title, [*rows, *(("reason", reason) for reason in self.grade.reasons)]

    def to_pandas(self) -> Any:
        """One row per image, as ``AttackResult.to_pandas``, with its label.

        Raises:
            UserError: pandas is not installed.
        """
        table = self.result.to_pandas()
        table.insert(0, "label", self.facts["labels"])
        return table

    def summary(self, *, timings: bool = True) -> dict[str, Any]:
        """The numbers of the result as plain data; an infinite or empty statistic is null.

        ``found`` and ``asr`` count initially correct images only. Medians over ``correct`` images and over
        ``all`` (where already misclassified is 0) take not found as infinite; means are over found images.
        Passes are means per attacked image.

        ``robust_accuracy`` lists ``eps``, ``written``, ``value``, ``low``, ``high`` and ``n`` for each stated
        budget: the fraction of all ``n`` images that withstand it, with its 95 % Wilson interval. Of a
        targeted attack it is called ``target_not_reached``, also in the curve; ``targeted`` explains why.
        ``classes`` has ``n``, the clean accuracy and that fraction at each budget for every class.
        """
        result = self.result
        share = "target_not_reached" if result.targeted else "robust_accuracy"
        levels, bounds = self.facts["levels"], tuple(self.facts["bounds"])
        wrong, found = result.where(Outcome.ALREADY_WRONG), result.where(Outcome.FOUND)
        attacked = int((~wrong).sum())
        hits = int(found.sum())
        robust = [int(withstands(result, size).sum()) for size in self.eps]
        intervals = [stats.wilson(count, result.n) for count in robust]
        low, high = stats.wilson(int(result.correct.sum()), result.n)
        return {
            "attack": result.attack,
            "norm": result.norm_key,
            "n": result.n,
            "clean_accuracy": result.accuracy,
            "clean_interval": [low, high],
            share: _stated(result, self.budgets, levels=levels, bounds=bounds),
            **({"targeted": TARGETED} if result.targeted else {}),
            "classes": by_class(result, self.facts["labels"], self.budgets, share=share),
            "attacked": attacked,
            "found": hits,
            "asr": hits / attacked if attacked else None,
            "median_correct": _each(result, ~wrong, stats.median),
            "median_all": _each(result, ~wrong | wrong, stats.median),
            "mean_found": _each(result, found, lambda values: values.mean().item()),
            "forwards": result.forwards.sum().item() / max(1, attacked),
            "backwards": result.backwards.sum().item() / max(1, attacked),
            **({"seconds": sum(result.times)} if timings else {}),
            "grade": self.grade.letter,
            "meaning": self.grade.meaning,
            "reasons": self.grade.reasons,
            "joint": trust.joint_summary(self.grade.joint),
            "security_curve": {
                "eps": list(self.eps),
                share: [count / result.n for count in robust],
                "low": [low for low, _ in intervals],
                "high": [high for _, high in intervals],
            },
        }

    def to_json(self, *, timings: bool = True) -> dict[str, Any]:
        """The result per image (AttackBench's layout, plus the outcome), the summary, grade and checks.

        Without ``timings`` the same attack on the same machine gives the same bytes.
        """
        plain = self.result.to_json()
        if not timings:
            del plain["times"]
        return {
            **plain,
            "n": self.result.n,
            **self.facts,
            "summary": self.summary(timings=timings),
            "grade": self.grade.letter,
            "joint": None if self.grade.joint is None else self.grade.joint.to_json(),
            "checks_cost": self.grade.cost,
            "checks": [
                {key: getattr(check, key) for key in ("id", "passed", "severity", "sentence")}
                for check in self.grade.checks
            ],
        }


def save_examples(evaluated: Evaluated, path: Path, *, index: Sequence[int] | None = None) -> None:
    """Write the adversarial examples of a result as safetensors.

    ``adv`` [F, ...] float32 are the examples found, ``index`` [F] the images they were made from, and
    ``outcome`` [N] is 0 for found, 1 for already wrong, 2 for not found. The metadata hold attack, norm,
    settings, seed and grade as JSON.

    Args:
        evaluated: what ``attack`` returned.
        path: the file to write; replaced if it exists.
        index: dataset indices of the attacked images [N]; 0 to N - 1, or those of ``facts``, by default.
    """
    numbers = evaluated.facts.get("index") if index is None else index
    write_examples(evaluated.result, path, index=numbers, grade=evaluated.grade.letter)


def _stated(
    result: AttackResult, eps: Sequence[float], *, levels: int | None, bounds: tuple[float, float]
) -> list[dict[str, Any]]:
    """The headline of a result: a fraction, its 95 % Wilson interval and n at each of the budgets ``eps``.

    ``written`` is the budget in words, ``8/255`` for L∞ on 8-bit images.
    """
    rows = []
    for size in eps:
        count = int(withstands(result, size).sum())
        low, high = stats.wilson(count, result.n)
        rows.append(
            {
                "eps": size,
                "written": usual.written(size, result.norm_key, levels=levels, bounds=bounds),
                "value": count / result.n,
                "low": low,
                "high": high,
                "n": result.n,
            }
        )
    return rows


def _each(
    result: AttackResult, where: Tensor, statistic: Callable[[Tensor], float]
) -> dict[str, float | None]:
    values = {key: column[where] for key, column in result.distances.items()}
    numbers = {key: statistic(column) if len(column) else math.inf for key, column in values.items()}
    return {key: number if math.isfinite(number) else None for key, number in numbers.items()}
