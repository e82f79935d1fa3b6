"""A check that is set up: its images, its attack, its fine-tuning, and the refusal of what cannot work."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur import budgets as usual
from secateur import models
from secateur.attacks.runner.outputs import Logits
from secateur.data import Dataset
from secateur.decision.costs import parts_of
from secateur.decision.folder import claim
from secateur.decision.handed import Handed
from secateur.decision.images import Images
from secateur.decision.limits import Limits
from secateur.decision.network import NORMS, Attacks
from secateur.decision.progress import Meter, Tell
from secateur.decision.pruned import refuse_impossible, trains_faster_channels_last, usual_recipe
from secateur.errors import UserError
from secateur.hashing import json_sha256, stream
from secateur.kinds import is_whole
from secateur.recipes import Recipe, check_adversary
from secateur.registry import ATTACKS
from secateur.text import listed
from secateur.trust import misfit


@dataclass(frozen=True, eq=False)
class Job:
    """A check that is set up: the dense network, its images, and everything that is asked."""

    handed: Handed
    name: str
    images: Images
    sample: Dataset
    recipe: Recipe
    attacks: Attacks
    limits: Limits
    work: Path
    meter: Meter

    @property
    def dense(self) -> nn.Module:
        """The network as it was handed over."""
        return self.handed.network


def attacks_of(
    name: str,
    *,
    steps: int | None,
    budgets: Mapping[str, Sequence[float]] | None,
    limits: Limits,
    bounds: tuple[float, float],
    seed: int,
) -> Attacks:
    """The attack of a check, with the budgets that are stated and those that the limits name.

    Raises:
        UserError: an attack of fixed size, an unknown norm, or budgets that are no rising list.
    """
    facts = ATTACKS.entry(name).facts
    if facts["kind"] != "minimum-norm":
        raise UserError(
            f"'{name}' attacks at fixed sizes", hint="choose a minimum-norm attack, such as steep"
        )
    if budgets is not None and not isinstance(budgets, Mapping):
        raise UserError(f"budgets are {budgets!r}", hint="name their norm: budgets={'linf': [2 / 255]}")
    chosen = {norm: [*values] for norm, values in (budgets or {}).items()}
    if budgets is None:
        chosen = {
            norm: [*usual.scaled(usual.HEADLINE[norm], norm, bounds)]
            for norm in ("linf", "l2")
            if NORMS[norm] in facts["norms"]
        }
    for limit in limits.min_robust:
        chosen.setdefault(limit.norm, []).append(limit.eps)
    for norm, values in chosen.items():
        if norm not in NORMS or NORMS[norm] not in facts["norms"]:
            known = [key for key, value in NORMS.items() if value in facts["norms"]]
            raise UserError(f"'{name}' does not attack in norm {norm}", hint=f"it has {listed(known)}")
        chosen[norm] = sorted(set(usual.numbers(values, f"budgets of {norm}")))
        usual.check_scale("a budget", chosen[norm], norm, bounds)
    return Attacks(name, chosen, {} if steps is None else {"steps": steps}, seed)


def set_up(
    network: Handed,
    name: str,
    data: Images,
    attacks: Attacks,
    limits: Limits,
    *,
    recipe: Recipe | None,
    adversarial: float | None,
    images: int,
    options: Mapping[str, Any],
    folder: Path,
    rounds: int,
    control: bool,
    logits: Logits,
    tell: Tell | None,
) -> Job:
    """Check that network and images fit, claim the folder, and add up what the check will cost.

    Raises:
        UserError: as for ``check``.
    """
    test = data.test
    if not is_whole(images, least=1):
        raise UserError(f"{images} images cannot be attacked", hint="give at least 100")
    if recipe is not None and adversarial is not None:
        raise UserError("a recipe says itself how it trains", hint="leave out adversarial")
    if adversarial is not None and not isinstance(adversarial, Real):
        raise UserError(f"adversarial is {adversarial!r}", hint="give a number, such as 4 / 255")
    last = trains_faster_channels_last(network.working, data.train.x)
    recipe = recipe or usual_recipe(data.train.n, adversarial=adversarial, channels_last=last)
    check_adversary(recipe, data.train.bounds)
    sample = data.sample(images, generator=stream(attacks.seed, "attacked images"))
    key = {
        "network": models.weights_hash(network.network),
        "training images": data.train.fingerprint,
        "validation images": data.validation.fingerprint,
        "test images": test.fingerprint,
        "attacked images": sample.fingerprint,
        "recipe": _finite(asdict(recipe)),
        "attack": attacks.name,
        "steps": dict(attacks.settings),
        "pruning options": _plain(options),
        "seed": attacks.seed,
    }
    if logits is not None:
        key |= _plain({"logits": logits})
    # A network that recognises nothing has no robustness to lose, and the reason is nearly always the data.
    predicted = models.predict(network.asked, sample.x, batch_size=128)
    if sentence := misfit(predicted, sample.y, sample.classes):
        raise UserError(f"the dense network does not fit these images: {sentence}", hint="see docs/data.md")
    refuse_impossible(network, data, options, seed=attacks.seed)
    # Only now: a folder that a refused check had claimed would be refused to the next one.
    work = claim(folder, key)
    sizes = {
        "train": data.train.n,
        "validation": data.validation.n,
        "test": test.n,
        "attacked": int((predicted == sample.y).sum()),
    }
    steps = attacks.settings.get("steps")
    costs = parts_of(recipe, sizes, attacks.budgets, options, steps=steps, rounds=rounds, control=control)
    return Job(
        network,
        name,
        data,
        sample,
        recipe,
        attacks,
        limits,
        work,
        Meter(costs, tell),
    )


def _finite(value: Any) -> Any:
    """Plain data with an infinite norm as a word: JSON has no infinity."""
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    return "inf" if value == float("inf") else value


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON: a function by its name, calibration images by their hash."""
    plain: dict[str, Any] = {}
    for name, value in options.items():
        if callable(value):
            plain[name] = f"{value.__module__}.{getattr(value, '__qualname__', type(value).__name__)}"
        elif name == "batch" and value is not None:
            plain[name] = json_sha256(
                [tensor.tolist() for tensor in value if isinstance(tensor, torch.Tensor)]
            )
        else:
            plain[name] = value
    return plain
