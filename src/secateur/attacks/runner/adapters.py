"""Adapters to attacks of other libraries, if installed: ``adv-lib:alma``, ``foolbox:LinfPGD`` and others."""

import inspect
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, Found, check_batch, check_logits, conclude
from secateur.attacks.core.losses import reaches_goal
from secateur.attacks.core.norms import INF, check_norm, distance
from secateur.attacks.runner.batching import out_of_memory
from secateur.budgets import L0_PIXELS
from secateur.errors import ExitCode, UserError

Maker = Callable[..., Tensor]
_HANDED_OVER = {"x", "y", "model", "inputs", "labels", "targeted", "callback", "self"}
_OTHER_EPS = {"adv-lib:tr", "adv-lib:fab", "torchattacks:FAB"}
"""Minimum-norm attacks whose ``eps`` is something else: a step, or the radius of random starts."""


def adapt(name: str) -> Callable[..., Found]:
    """The attack ``library:attack`` with the signature of our attacks; its settings are those of the library.

    Libraries: ``adv-lib`` (functions of ``adv_lib.attacks``), ``foolbox`` and ``torchattacks`` (classes), and
    ``autoattack`` (its versions ``standard``, ``plus``, ``rand``, and ``custom`` with ``attacks_to_run``). A
    ``norm`` must be given where the attack does not fix one: distances are reported in it. The attack's
    random numbers and its output do not reach the global generator or stdout.

    Raises:
        UserError: an unknown library or attack, or a library that is not installed.
    """
    library, _, attack = name.partition(":")
    if library not in _LIBRARIES:
        raise UserError(f"no adapter for library '{library}'", hint=f"known: {', '.join(_LIBRARIES)}")
    module, call = _LIBRARIES[library]
    try:
        home = import_module(module)
    except ImportError as missing:
        raise UserError(
            f"attack '{name}' needs {library}, which cannot be imported: {missing}",
            hint=f"pip install {_INSTALL.get(library, library)}",
            code=ExitCode.ENVIRONMENT,
        ) from missing
    peer = _version(home, attack) if library == "autoattack" else getattr(home, attack, None)
    if not callable(peer):
        raise UserError(f"{library} has no attack '{attack}'", hint=f"look into {module}")
    own = [
        parameter
        for key, parameter in inspect.signature(peer).parameters.items()
        if key not in _HANDED_OVER and parameter.kind is not parameter.VAR_KEYWORD
    ]
    greek = any(parameter.name == "ε" for parameter in own)
    own = [parameter.replace(name="eps") if parameter.name == "ε" else parameter for parameter in own]
    if library == "foolbox" and _of_fixed_size(home, peer):
        own.append(inspect.Parameter("eps", inspect.Parameter.KEYWORD_ONLY, annotation=float))

    def adapted(
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        norm: float,
        targets: Tensor | None = None,
        bounds: tuple[float, float] = (0.0, 1.0),
        generator: torch.Generator | None = None,
        **settings: Any,
    ) -> Found:
        if any(parameter.name == "norm" for parameter in own):
            if check_norm(norm) == L0_PIXELS:
                raise UserError(f"attack '{name}' has no norm {norm:g}", hint="choose one of its own")
            settings["norm"] = norm
        if greek and "eps" in settings:
            settings["ε"] = settings.pop("eps")
        # Peers draw from the global generator, and some print.
        with torch.random.fork_rng(), redirect_stdout(sys.stderr):
            torch.manual_seed(0 if generator is None else generator.initial_seed())
            return _found(
                name, call, peer, model, check_batch(x, y, targets, bounds), check_norm(norm), settings
            )

    shown = [p for p in inspect.signature(adapted).parameters.values() if p.name != "settings"]
    known = {p.name for p in shown}
    extra = [p.replace(kind=p.KEYWORD_ONLY) for p in own if p.name not in known]
    adapted.__signature__ = inspect.Signature(shown + extra)  # type: ignore[attr-defined]
    return adapted


def kind_of(name: str, settings: Collection[str]) -> str:
    """``fixed-eps`` or ``minimum-norm``, guessed from the names of an attack's ``settings``."""
    return "fixed-eps" if "eps" in settings and name not in _OTHER_EPS else "minimum-norm"


def _found(
    name: str,
    call: Maker,
    peer: Callable[..., Any],
    model: nn.Module,
    problem: Batch,
    norm: float,
    settings: dict[str, Any],
) -> Found:
    with torch.no_grad():
        clean = model(problem.x)
    check_logits(clean, problem)
    try:
        with torch.enable_grad():
            adv = call(peer, model, replace(problem, x=problem.x.clone()), settings)
    except UserError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        what = f"{type(error).__name__}{f': {error}' if str(error) else ''}"
        raise UserError(
            f"attack '{name}' ended in {what}", hint="compare its settings with that library's documentation"
        ) from error
    adv = problem.clip(adv.detach().to(problem.x))
    with torch.no_grad():
        fooled = reaches_goal(problem, model(adv))
    reached = torch.where(fooled, distance(adv - problem.x, norm), torch.inf)
    return conclude(problem, adv, reached, reaches_goal(problem, clean))


def _unit_box(library: str, batch: Batch) -> None:
    if batch.bounds != (0.0, 1.0):
        raise UserError(f"{library} attacks images in [0, 1] only", hint="scale images and model to [0, 1]")


def _adv_lib(
    peer: Maker,
    model: nn.Module,
    batch: Batch,
    settings: dict[str, Any],
) -> Tensor:
    _unit_box("adv-lib", batch)
    labels, targeted = (batch.y, False) if batch.targets is None else (batch.targets, True)
    return peer(model, batch.x, labels, targeted=targeted, **settings)


def _foolbox(
    peer: Callable[..., Any],
    model: nn.Module,
    batch: Batch,
    settings: dict[str, Any],
) -> Tensor:
    foolbox = import_module("foolbox")
    eps = settings.pop("eps", None)
    untargeted = batch.targets is None
    goal = (
        foolbox.Misclassification(batch.y) if untargeted else foolbox.TargetedMisclassification(batch.targets)
    )
    wrapped = foolbox.PyTorchModel(model, bounds=batch.bounds, device=batch.x.device)
    _, clipped, _ = peer(**settings)(wrapped, batch.x, goal, epsilons=eps)
    adv: Tensor = clipped
    return adv


def _of_fixed_size(home: ModuleType, peer: object) -> bool:
    """Whether a class of foolbox takes the size of its perturbations at the call."""
    base = import_module(f"{home.__name__}.base").FixedEpsilonAttack
    return isinstance(peer, type) and issubclass(peer, base)


def _torchattacks(
    peer: Callable[..., Any],
    model: nn.Module,
    batch: Batch,
    settings: dict[str, Any],
) -> Tensor:
    _unit_box("torchattacks", batch)
    if batch.targets is not None:
        raise UserError("torchattacks is adapted for untargeted attacks only", hint="leave out the targets")
    if "norm" in settings:
        settings["norm"] = _spelled("torchattacks", settings["norm"])
    adv: Tensor = peer(model, **settings)(batch.x, batch.y)
    return adv


def _spelled(library: str, norm: float) -> str:
    names = {1.0: "L1", 2.0: "L2", INF: "Linf"}
    if norm not in names:
        raise UserError(f"{library} has no norm {norm:g}", hint="choose 1, 2 or inf")
    return names[norm]


def _version(home: ModuleType, version: str) -> Callable[..., Tensor] | None:
    """A version of AutoAttack as a function of its settings."""
    if version not in ("standard", "plus", "rand", "custom"):
        return None

    def ensemble(
        model: nn.Module, x: Tensor, y: Tensor, *, norm: float, eps: float, attacks_to_run: Sequence[str] = ()
    ) -> Tensor:
        if bool(attacks_to_run) != (version == "custom"):
            raise UserError(
                f"attacks_to_run is {list(attacks_to_run)} for autoattack:{version}",
                hint="autoattack:custom needs it, the other versions choose their own",
            )
        named = _spelled("AutoAttack", norm)
        make = partial(home.AutoAttack, model, norm=named, eps=eps, version=version)
        attack = make(
            seed=torch.initial_seed() % 2**32,
            verbose=False,
            attacks_to_run=list(attacks_to_run),
            device=x.device,
        )
        adv: Tensor = attack.run_standard_evaluation(x, y, bs=len(x))
        return adv

    return ensemble


def _autoattack(
    peer: Callable[..., Tensor],
    model: nn.Module,
    batch: Batch,
    settings: dict[str, Any],
) -> Tensor:
    _unit_box("AutoAttack", batch)
    if batch.targets is not None:
        raise UserError("AutoAttack is untargeted", hint="leave out the targets")
    return peer(model, batch.x, batch.y, **settings)


_INSTALL = {"autoattack": "git+https://github.com/fra31/auto-attack"}
_LIBRARIES: dict[str, tuple[str, Maker]] = {
    "adv-lib": ("adv_lib.attacks", _adv_lib),
    "foolbox": ("foolbox.attacks", _foolbox),
    "torchattacks": ("torchattacks", _torchattacks),
    "autoattack": ("autoattack", _autoattack),
}
