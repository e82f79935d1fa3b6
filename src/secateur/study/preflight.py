"""Preflight checks: what the attacks, criteria and recipes of a study refuse, found on a few images."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from secateur.attacks.core.batch import check_batch
from secateur.attacks.runner.bind import bind
from secateur.config import Problem, Study
from secateur.data import Dataset
from secateur.errors import ExitCode, UserError
from secateur.graph import trace
from secateur.pruning import plan as choose
from secateur.recipes import Recipe
from secateur.registry import CRITERIA
from secateur.study.build_models import dense_network
from secateur.train.job import check
from secateur.train.losses import Penaliser


class _QueriedError(BaseException):
    """The attack queries the network, so it has accepted its settings.

    A BaseException, because an attack may catch every Exception.
    """


class _Queried(nn.Module):
    """A network that ends the attack at its first query."""

    def forward(self, x: Tensor) -> Tensor:
        raise _QueriedError


def preflight_problems(study: Study, images: Dataset) -> list[Problem]:
    """What attacks, criteria and recipes refuse, one problem each, found on a few of the training ``images``.

    Attacks are called on one image and stopped at their first query, so only their own checks run. Criteria
    that may refuse a network score the untrained networks. Recipes are checked as before a training.
    """
    found = [*_attacks(study, images.take(range(1)))]
    for label in study.models:
        found += _network(study, label, images)
    return [Problem(study.where(key), key, sentence) for key, sentence in found]


def _attacks(study: Study, image: Dataset) -> Iterator[tuple[str, str]]:
    problem = check_batch(image.x, image.y, None, image.bounds)
    for label, attack in study.attacks.items():
        settings = {**(attack.model_extra or {})}
        if attack.resolved_norm is not None:
            settings["norm"] = attack.resolved_norm
        if "steps" in attack.model_fields_set:
            settings["steps"] = attack.steps
        try:
            bound = bind(attack.attack, image, settings, options=attack.options)
            bound.attack(_Queried(), problem, Generator().manual_seed(0))
        except _QueriedError:
            continue
        except UserError as error:
            yield f"attacks.{label}{_setting(error, settings)}", str(error)


def _setting(error: UserError, settings: dict[str, object]) -> str:
    """The setting at the start of an attack's error, such as ``.gamma`` for "gamma is 7"."""
    first = error.message.partition(" ")[0]
    return f".{first}" if first in settings else ""


def _network(study: Study, label: str, images: Dataset) -> Iterator[tuple[str, str]]:
    recipes = {f"models.{label}.recipe": study.recipe(label)}
    recipes |= {f"finetune.{arm}": recipe for arm, recipe in study.arms(label).items()}
    recipes = {key: recipe for key, recipe in recipes.items() if recipe.epochs}
    selective = [name for name in study.criteria if _may_refuse(name)]
    settings = study.models[label].settings
    bounded = (
        [(index, value) for index, value in enumerate(study.sparsities) if value] if bounds(study) else []
    )
    if not (recipes or selective or settings or bounded):
        return
    example, reported = images.x[:2], set[str]()
    try:
        network = dense_network(study, label, shape=tuple(images.shape), classes=images.num_classes).eval()
    except UserError as error:
        if error.code is not ExitCode.BAD_INPUT:
            raise
        yield f"models.{label}{'.settings' if settings else ''}", str(error)
        return
    checks: list[tuple[str, Callable[[], object]]] = [
        (key, partial(_recipe, network, images, recipe)) for key, recipe in recipes.items()
    ]
    checks += [
        (f"criteria.{study.criteria.index(name)}", partial(_criterion, study, network, example, name))
        for name in selective
    ]
    checks += [
        (f"sparsities.{index}", partial(_removal, study, network, example, value)) for index, value in bounded
    ]
    for key, run in checks:
        try:
            run()
        except UserError as error:
            if str(error) not in reported:
                yield key, f"for the model '{label}': {error}"
            reported.add(str(error))


def _recipe(network: nn.Module, images: Dataset, recipe: Recipe) -> None:
    check(network, images, recipe, seed=0, teacher=network)
    if recipe.penalty is not None:
        Penaliser(network, recipe.penalty, images.x[:2])


def _criterion(study: Study, network: nn.Module, example: Tensor, name: str) -> None:
    with torch.no_grad():
        choose(trace(network, example), criterion=name, keep=study.pruning.keep)


def bounds(study: Study) -> dict[str, Any]:
    """The settings that keep channels whatever their scores; none where no channels are removed at once."""
    if study.pruning.rounds is not None or all(_masks(name) for name in study.criteria):
        return {}
    asked = study.pruning.model_dump(exclude_defaults=True)
    return {
        name: asked[name] for name in ("min_channels", "max_sparsity", "round_to", "rates") if name in asked
    }


def _removal(study: Study, network: nn.Module, example: Tensor, sparsity: float) -> None:
    """Whether bounds leave anything to remove; under local scope scores and weights do not matter for it."""
    how = {"scope": study.pruning.scope, "keep": study.pruning.keep, **bounds(study)}
    with torch.no_grad():
        choose(trace(network, example), criterion="l1", sparsity=sparsity, **how)


def _masks(name: str) -> bool:
    return CRITERIA.entry(name).facts.get("kind") == "weights"


def _may_refuse(name: str) -> bool:
    """Whether a criterion may refuse a network: its row says so, or it is of another package."""
    entry = CRITERIA.entry(name)
    if entry.facts.get("needs_batch") or _masks(name):
        return False
    return bool(entry.facts.get("needs_layers")) or not entry.target.startswith("secateur.")
