"""Run one attack against one model: verified, measured and graded. The public ``secateur.attack``."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur import budgets as usual
from secateur import stats, trust
from secateur.attacks.core.box import box_of
from secateur.attacks.runner.averaging import averaged
from secateur.attacks.runner.bind import bind
from secateur.attacks.runner.by_class import by_class, withstands
from secateur.attacks.runner.classifier import Classifier, classifier, gradients_allowed
from secateur.attacks.runner.goals import one_target, with_outputs
from secateur.attacks.runner.outputs import Logits
from secateur.attacks.runner.result import AttackResult, Outcome
from secateur.attacks.runner.run import run
from secateur.attacks.runner.starting_points import write_examples
from secateur.data import of
from secateur.display import Shown
from secateur.errors import UserError
from secateur.models import weights_hash
from secateur.run_options import split

TARGETED = (
    "a targeted attack says how often one class is reached; robust accuracy, the share of images that stay "
    "correct whatever class an attack ends in, is that of the untargeted attack"
)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluated(Shown):
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


@gradients_allowed()
def attack(
    model: Callable[..., Any],
    dataset: Any,
    name: str = "ddn",
    *,
    batch_size: int = 256,
    seed: int = 0,
    targets: Tensor | Sequence[int] | int | None = None,
    start: Tensor | None = None,
    mask: Any = None,
    pixel_bounds: Any = None,
    budgets: Sequence[float] | None = None,
    expected_accuracy: float | None = None,
    audit: bool = False,
    logits: Logits = None,
    on_progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Evaluated:
    """Run a registered attack against ``model`` on ``dataset``, and grade how far the result can be trusted.

    Args:
        model: from images in the dataset's bounds to logits: a network, or a function; left unchanged.
        dataset: images and labels: a ``Dataset``, or whatever ``secateur.data.of`` reads, such as ``(x, y)``,
            a ``DataLoader``, or a data set of torchvision.
        name: a registered attack.
        batch_size: images per batch at most, halved when memory runs out; affects results by rounding only.
        seed: for attacks and checks that draw random numbers.
        targets: target classes [N] of a targeted attack, or one class for all: images of that class are left
            out, and ``facts["index"]`` has the places of the others.
        start: starting points, [N, ...], or several per image, [R, N, ...]; see ``attacks.run``.
        mask: where alone pixels may change; see ``attacks.run``.
        pixel_bounds: (lowest, highest) of single pixels; see ``attacks.run``.
        budgets: increasing ε in the attack's norm at which robust accuracy is stated and the security curve
            is drawn, for minimum-norm attacks; by default ``budgets.HEADLINE`` and ``budgets.CURVE``, scaled
            to the bounds.
        expected_accuracy: a clean accuracy recorded elsewhere, to compare with.
        audit: add the expensive checks: other attacks, other seeds, planted examples, on a sample.
        logits: which part of the model's answer counts; see ``attacks.run``.
        on_progress: called with (queries of one image done, queries expected).
        settings: of the attack, as its signature names them, and how it is run, as ``RunOptions`` names it
            (``restarts=5``, ``early_stop=True``, ``search_precision="bfloat16"``, ``compile=True``). ``eps``
            of an attack of fixed size may be a list of sizes including 0: robust accuracy is stated at each.

    Raises:
        UserError: see ``secateur.attacks.run``; or budgets for an attack of fixed size.

    >>> import secateur
    >>> model = secateur.models.resolve("shipped:digits-plain")
    >>> images = secateur.data.load("digits:split").take(range(4))
    >>> attack(model, images, "ddn", steps=10, budgets=[0.0, 9.0]).summary()["robust_accuracy"][1]["value"]
    0.0
    """
    images = of(dataset)
    network = classifier(model, images.x, logits=logits, batch_size=batch_size, data=images.name)
    images = images if images is dataset else with_outputs(images, network)
    box = box_of(images.x, images.bounds, mask=mask, pixel_bounds=pixel_bounds)
    dataset, targets, index = one_target(images, targets)
    box = box.rows(torch.tensor(index)) if box and index else box
    if budgets is not None:
        budgets = usual.numbers(budgets, "budgets")
        stats.check_budgets(budgets)
        bound = bind(name, dataset, split(settings)[1])
        if bound.kind != "minimum-norm":
            raise UserError(
                f"'{name}' attacks at fixed sizes and cannot be evaluated at other budgets",
                hint="give the sizes to attack at: eps=[...], or --eps",
            )
        usual.check_scale("a budget", budgets, usual.NORM_KEYS[bound.norm], dataset.bounds)
    facts = {
        "labels": dataset.y.tolist(),
        "bounds": list(dataset.bounds),
        "levels": dataset.levels,
        "fingerprint": dataset.fingerprint,
        "weights_hash": weights_hash(network.given if isinstance(network, Classifier) else network),
        **({} if index is None else {"index": index}),
    }
    result = run(
        network,
        dataset,
        name,
        batch_size=batch_size,
        seed=seed,
        targets=targets,
        start=start,
        pixel_bounds=None if box is None else box.pair,
        on_progress=on_progress,
        **settings,
    )
    judged = averaged(network, split(settings)[0].eot_samples)
    graded = trust.grade(judged, dataset, result, expected_accuracy=expected_accuracy, audit=audit, seed=seed)
    key, given = result.norm_key, tuple(budgets or ()) or result.sizes
    headline, curve = (
        usual.scaled(table[key], key, dataset.bounds) for table in (usual.HEADLINE, usual.CURVE)
    )
    return Evaluated(result, graded, given or headline, given or curve, facts)


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
