"""Bind an attack's registered name and settings to its function: check, refuse, fill in defaults."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, get_args

import torch
from torch import Tensor, nn

from secateur import budgets
from secateur.attacks.core.batch import Batch, Found
from secateur.attacks.core.losses import reaches_goal
from secateur.attacks.core.norms import check_norm, distance, per_sample
from secateur.attacks.core.pixel_units import scaled_defaults
from secateur.attacks.runner.adapters import adapt, kind_of
from secateur.data import Dataset
from secateur.errors import UserError
from secateur.kinds import is_number
from secateur.registry import ATTACKS, Entry
from secateur.registry.settings import renamed
from secateur.run_options import RunOptions
from secateur.text import did_you_mean

PROVIDED = ("model", "x", "y", "targets", "bounds", "generator", "start")
"""Arguments of an attack that ``run`` supplies."""


@dataclass(frozen=True)
class BoundAttack:
    """A registered attack with its settings, ready to be called on a batch."""

    name: str
    norm: float
    kind: str
    settings: dict[str, Any]
    accepts: frozenset[str]
    function: Callable[..., Found]
    converges_from: int = 0
    """Queries after which its last descent starts; before that, a distance that stays says nothing."""
    attempts: int = 1
    """Number of runs: with other random numbers, or from another starting point."""
    sizes: tuple[float, ...] = ()
    """The sizes ε that an attack of fixed size is run at, rising; ``settings`` name the largest."""

    def at(self, eps: float) -> "BoundAttack":
        """The same attack at one of its sizes."""
        return replace(self, settings={**self.settings, "eps": eps})

    @property
    def steps(self) -> int | None:
        """Its number of iterations, if it iterates."""
        steps = self.settings.get("steps")
        return steps if isinstance(steps, int) else None

    def attack(
        self, model: nn.Module, problem: Batch, generator: torch.Generator, *, attempt: int = 0
    ) -> Found:
        """Call it on one batch; ``attempt`` counts the runs from 0."""
        start = None if problem.start is None else problem.start[attempt]
        provided = {
            "targets": problem.targets,
            "bounds": problem.bounds,
            "generator": generator,
            "start": start,
        }
        known = {key: value for key, value in provided.items() if key in self.accepts}
        returned = self.function(model, problem.x, problem.y, **known, **self.settings)
        return _as_found(self.name, model, problem, returned, self.norm)


def _as_found(name: str, model: nn.Module, problem: Batch, returned: object, norm: float) -> Found:
    """The value that an attack returned as a ``Found``; images alone cost one more query to judge.

    Raises:
        UserError: neither a ``Found`` nor images like those attacked.
    """
    images = returned.adv if isinstance(returned, Found) else returned
    if not isinstance(images, Tensor) or images.shape != problem.x.shape:
        seen = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise UserError(
            f"attack '{name}' returned {seen} for inputs of shape {tuple(problem.x.shape)}",
            hint="an attack returns secateur.attacks.Found, or one image per input",
        )
    if isinstance(returned, Found):
        return returned
    adv = problem.clip(images.detach().to(problem.x))
    with torch.no_grad():
        met = reaches_goal(problem, model(adv))
    reached = torch.where(met, distance(adv - problem.x, norm), torch.inf)
    return Found(torch.where(per_sample(met, adv), adv, problem.x), met, torch.zeros_like(met), reached)


def bind(
    name: str,
    dataset: Dataset,
    settings: Mapping[str, Any],
    *,
    targeted: bool = False,
    points: int = 0,
    options: RunOptions | None = None,
) -> BoundAttack:
    """Look an attack up and fit settings to its signature; the dataset's grey levels are filled in.

    ``points`` is the number of starting points per image. ``eps`` of an attack of fixed size may be a list.
    Defaults that are lengths grow with the dataset's bounds.

    Raises:
        UserError: an unknown name or setting, a norm the attack does not have, targets for an untargeted
            attack, starting points for one that takes none, restarts of one that draws no random numbers,
            invalid sizes, or an attack of fixed size without a setting ``eps``.
    """
    restarts = RunOptions().restarts if options is None else options.restarts
    peer = ":" in name
    facts: Mapping[str, Any] = {} if peer else ATTACKS.entry(name).facts
    function = adapt(name) if peer else ATTACKS.get(name)
    if not callable(function):
        raise UserError(f"attack '{name}' is a {type(function).__name__}, not a function")
    parameters = inspect.signature(function).parameters
    accepts = frozenset(parameters)
    if targeted and "targets" not in accepts:
        raise UserError(
            f"attack '{name}' cannot be targeted", hint="leave out targets or choose another attack"
        )
    # Attacks of other libraries and of plug-ins do not say whether they draw random numbers.
    random = bool(facts.get("random", peer or "generator" in accepts))
    still = random and settings.get("random_start") is False
    attempts = _attempts(name, points, restarts, starts="start" in accepts, random=random, still=still)
    # ``norm=None`` means that nothing was chosen, as in a study.
    settings = {
        key: budgets.plain(value) for key, value in settings.items() if key != "norm" or value is not None
    }
    norm = _norm(name, settings, parameters, facts.get("norms", ()))
    if "norm" in accepts:
        settings["norm"] = norm
    else:
        settings.pop("norm", None)
    kind = facts.get("kind") or kind_of(name, accepts)
    sizes: tuple[float, ...] = ()
    if kind == "fixed-eps" and budgets.is_list(settings.get("eps")):
        sizes = budgets.sizes(settings["eps"])
        settings["eps"] = sizes[-1]
    _check_settings(name, settings, parameters)
    # Pictures are files: by default an attack that can round stays on the grey levels of the data.
    if "levels" in accepts:
        settings.setdefault("levels", dataset.levels)
    lengths = scaled_defaults(function, norm, dataset.bounds)
    filled = {
        key: settings.get(key, lengths.get(key, parameter.default))
        for key, parameter in parameters.items()
        if key not in PROVIDED and (key in settings or parameter.default is not parameter.empty)
    }
    if kind == "fixed-eps":
        sizes = sizes or (_size(name, filled.get("eps")),)
        budgets.check_scale("eps", sizes, budgets.NORM_KEYS[norm], dataset.bounds)
    late = Entry(name, facts["converges_from"], "").load()(filled) if "converges_from" in facts else 0
    return BoundAttack(name, norm, kind, filled, accepts, function, late, attempts, sizes)


def _size(name: str, eps: object) -> float:
    """The one size of an attack of fixed size; stricter attacks check it again themselves."""
    if isinstance(eps, bool) or not isinstance(eps, Real):
        raise UserError(
            f"attack '{name}' is of fixed size, but has no setting eps that is a number",
            hint="name its size eps, or register it as kind='minimum-norm'",
        )
    if not budgets.finite(eps) or eps < 0:
        raise UserError(f"eps is {eps!r}", hint="give a positive size of the perturbation")
    return float(eps)


def _attempts(name: str, points: int, restarts: int, *, starts: bool, random: bool, still: bool) -> int:
    """The number of runs."""
    if points and not starts:
        raise UserError(f"attack '{name}' does not begin at given points", hint="fmn does")
    if points and restarts not in (1, points):
        raise UserError(
            f"{restarts} restarts, but {points} starting points for each image", hint="leave out the restarts"
        )
    if restarts > 1 and not points and (still or not random):
        other = "pgd, apgd and square do; fmn begins at several starting points"
        raise UserError(
            f"attack '{name}' draws no random numbers to restart with{' when random_start is false' * still}",
            hint="leave random_start out" if still else other,
        )
    return max(points, restarts)


def _check_settings(
    name: str, settings: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]
) -> None:
    own = sorted(parameters.keys() - set(PROVIDED))
    for key in settings:
        if key not in own:
            if new := renamed(name, key):
                raise UserError(
                    f"setting '{key}' of attack '{name}' is now called '{new}'", hint=f"write {new}="
                )
            hint, command = did_you_mean(key, own, otherwise=f"it has {', '.join(own)}"), ""
            # A likely mistake: ε for an attack that looks for the smallest one.
            if key == "eps":
                smallest = "it looks for the smallest size; robust accuracy at given sizes: "
                hint, command = f"{smallest}budgets=[...]", f"{smallest}--budgets"
            raise UserError(f"attack '{name}' has no setting '{key}'", hint=hint, command=command)
    for key in own:
        parameter = parameters[key]
        optional = parameter.default is not parameter.empty or parameter.kind is parameter.VAR_KEYWORD
        if key not in settings and not optional:
            raise UserError(f"attack '{name}' needs the setting '{key}'", hint=f"for example {key}=0.5")
    for key, value in settings.items():
        _check_type(name, value, parameters[key])


def _check_type(name: str, value: object, parameter: inspect.Parameter) -> None:
    """A number where the default is a number, a word where it is a word; other defaults say too little.

    None where the annotation allows it, whatever the default: ``levels: int | None = 256``.
    """
    default = parameter.default
    number = is_number(value)
    if isinstance(default, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int | float):
        fits, wanted = number and value == value, "a number"
    else:
        function = callable(value) and "Callable" in str(parameter.annotation)
        fits, wanted = not isinstance(default, str) or isinstance(value, str) or function, "a word"
    optional = _allows_none(parameter.annotation)
    if not fits and not (value is None and optional):
        key, nothing = parameter.name, " or nothing (null, None)" if optional else ""
        raise UserError(f"{key} is {value!r} for attack '{name}'", hint=f"{key} is {wanted}{nothing}")


def _allows_none(annotation: object) -> bool:
    # Under ``from __future__ import annotations`` they are text.
    spelled = annotation if isinstance(annotation, str) else ""
    return type(None) in get_args(annotation) or "None" in spelled or "Optional" in spelled


def _norm(
    name: str, settings: dict[str, Any], parameters: Mapping[str, inspect.Parameter], known: tuple[float, ...]
) -> float:
    default = parameters["norm"].default if "norm" in parameters else None
    if default is inspect.Parameter.empty:
        default = None
    value = settings.get("norm", default if default is not None or not known else known[0])
    if value is None:
        raise UserError(
            f"attack '{name}' does not say which norm it minimises",
            hint="give norm=0, 1, 2, inf or L0-pixels",
        )
    norm = check_norm(value)
    if known and norm not in known:
        raise UserError(
            f"attack '{name}' has no norm {norm:g}", hint=f"it has {', '.join(f'{n:g}' for n in known)}"
        )
    return norm
