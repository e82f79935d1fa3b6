"""One attack on one model, start to end: counted, re-verified, measured and graded. The public ``attack``."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from secateur import budgets as usual
from secateur import models, stats, trust
from secateur.attacks.result import AttackResult, Outcome
from secateur.attacks.run import run
from secateur.attacks.search import Search
from secateur.data import Dataset


@dataclass(frozen=True, eq=False)
class Evaluated:
    """An attack's result per image, its grade, and the budgets of its security curve."""

    result: AttackResult
    grade: trust.Grade
    eps: tuple[float, ...]

    def summary(self, *, timings: bool = True) -> dict[str, Any]:
        """The numbers of the result as plain data; an infinite or empty statistic is null.

        ``found`` and ``asr`` count initially correct images only. Medians over ``correct`` images and over
        ``all`` (where already wrong is 0) take not found as infinite; means are over found images. Passes are
        means per attacked image.
        """
        result = self.result
        wrong, found = result.where(Outcome.ALREADY_WRONG), result.where(Outcome.FOUND)
        attacked = int((~wrong).sum())
        hits = int(found.sum())
        robust = stats.security_curve(result.distance, self.eps).tolist()
        bounds = [stats.wilson(round(share * result.n), result.n) for share in robust]
        return {
            "attack": result.attack,
            "norm": result.norm_key,
            "n": result.n,
            "clean_accuracy": result.accuracy,
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
            "security_curve": {
                "eps": list(self.eps),
                "robust_accuracy": robust,
                "low": [low for low, _ in bounds],
                "high": [high for _, high in bounds],
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
            "summary": self.summary(timings=timings),
            "grade": self.grade.letter,
            "checks": [
                {
                    "id": check.id,
                    "passed": check.passed,
                    "severity": check.severity,
                    "sentence": check.sentence,
                }
                for check in self.grade.checks
            ],
        }


def attack(
    model: nn.Module,
    dataset: Dataset,
    name: str = "ddn",
    *,
    batch_size: int = 256,
    seed: int = 0,
    targets: Tensor | None = None,
    start: Tensor | None = None,
    restarts: int = 1,
    budgets: Sequence[float] | None = None,
    expected_accuracy: float | None = None,
    audit: bool = False,
    early_stop: bool = False,
    compile: bool = False,
    search_precision: str = "float32",
    on_progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Evaluated:
    """Attack ``model`` on ``dataset`` with a registered attack, and say how far the result can be trusted.

    Args:
        model: images in the dataset's bounds to logits; left as it was.
        dataset: images and labels.
        name: a registered attack.
        batch_size: images per batch at most, halved when memory runs out; changes no number beyond
            floating-point noise.
        seed: of attacks and checks that draw random numbers.
        targets: wanted classes [N] of a targeted attack.
        start: points to begin at, [N, ...] or several for each image, [R, N, ...]; see ``attacks.run``.
        restarts: how often an attack begins that draws random numbers; the nearest example counts.
        budgets: ε of the security curve in the attack's norm, rising; a standard list by default.
        expected_accuracy: the clean accuracy recorded elsewhere, to be compared.
        audit: add the costly checks: other attacks, other seeds, planted examples on a sample.
        early_stop: let an image go once it has converged: fewer passes, slightly larger distances.
        compile: ask the model by way of ``torch.compile``.
        search_precision: ``"bfloat16"`` or ``"tf32"`` search with rounded products, for GPUs; what is found
            must fool in float32 all the same, and distances grow a little.
        on_progress: called with (queries of one image done, queries expected).
        settings: of the attack, as its signature names them.

    Raises:
        UserError: see ``secateur.attacks.run``.
    """
    if budgets is not None:
        stats.check_budgets(budgets)
    models.check_fits(model, dataset.x, data=dataset.name)
    result = run(
        model,
        dataset,
        name,
        batch_size=batch_size,
        seed=seed,
        targets=targets,
        start=start,
        restarts=restarts,
        search=Search(compile=compile, precision=search_precision, early_stop=early_stop),
        on_progress=on_progress,
        **settings,
    )
    graded = trust.grade(model, dataset, result, expected_accuracy=expected_accuracy, audit=audit, seed=seed)
    curve = usual.CURVE[result.norm_key] if budgets is None else budgets
    return Evaluated(result, graded, tuple(curve))


def save_examples(evaluated: Evaluated, path: Path, *, index: Sequence[int] | None = None) -> None:
    """Write the adversarial examples of a result as safetensors.

    ``adv`` [F, ...] float32 are the examples found, ``index`` [F] says which images they were made from, and
    ``outcome`` [N] is 0 where found, 1 where already wrong, 2 where not found. The metadata hold attack,
    norm, settings, seed and grade as JSON.

    Args:
        evaluated: what ``attack`` returned.
        path: the file to write; replaced if it exists.
        index: numbers of the attacked images [N] in the dataset they were taken from; 0 to N - 1 by default.
    """
    result = evaluated.result
    numbers = torch.arange(result.n) if index is None else torch.as_tensor(index, dtype=torch.int64)
    found, codes = result.where(Outcome.FOUND), list(Outcome)
    tensors = {
        "adv": result.adv[found].float().contiguous(),
        "index": numbers[found].contiguous(),
        "outcome": torch.tensor([codes.index(outcome) for outcome in result.outcome], dtype=torch.uint8),
    }
    plain = result.to_json()
    facts = {key: plain[key] for key in ("attack", "norm", "settings", "seed", "targeted")}
    save_file(tensors, path, {"secateur": json.dumps({**facts, "grade": evaluated.grade.letter})})


def _each(
    result: AttackResult, where: Tensor, statistic: Callable[[Tensor], float]
) -> dict[str, float | None]:
    values = {key: column[where] for key, column in result.distances.items()}
    numbers = {key: statistic(column) if len(column) else math.inf for key, column in values.items()}
    return {key: number if math.isfinite(number) else None for key, number in numbers.items()}
