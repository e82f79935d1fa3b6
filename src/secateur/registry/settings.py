"""What every setting of our attacks may be: one table, by which an attack checks and a study is validated.

It needs no torch, so that a study file is checked in a fraction of the time that importing torch takes. The
attacks call ``check`` themselves: what they refuse and what ``secateur validate`` refuses is the same.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real

from secateur.budgets import is_list
from secateur.errors import UserError
from secateur.text import listed

NORMS = (0.0, 1.0, 2.0, math.inf)
LEAST_RATIO = 1e-6
"""Of one weight of PDPGD's game to the other."""


@dataclass(frozen=True)
class Rule:
    """What one setting may be: ``wanted`` says it in words, ``fits`` decides.

    ``words`` are the choices of a setting that is a word. ``optional`` ones may be None, which leaves the
    choice to the attack.
    """

    wanted: str
    fits: Callable[[object], bool]
    words: tuple[str, ...] = ()
    optional: bool = False

    def accepts(self, value: object) -> bool:
        """Whether a setting may have this value."""
        return self.optional if value is None else self.fits(value)


def number(
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
    optional: bool = False,
) -> Rule:
    """A finite number: above or at least the one bound, below or at most the other."""
    limits = [
        *([f"above {above:g}"] if above > -math.inf else []),
        *([f"of at least {least:g}"] if least > -math.inf else []),
        *([f"below {below:g}"] if below < math.inf else []),
        *([f"of at most {most:g}"] if most < math.inf else []),
    ]

    def fits(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, Real):
            return False
        size = float(value)
        return math.isfinite(size) and above < size < below and least <= size <= most

    return Rule(" ".join(["a number", " and ".join(limits)]).strip(), fits, optional=optional)


def whole(least: int, *, optional: bool = False) -> Rule:
    """A whole number."""

    def fits(value: object) -> bool:
        return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least

    return Rule(f"a whole number of at least {least}", fits, optional=optional)


def word(*choices: str) -> Rule:
    """One of several words."""
    spelled = [f"'{choice}'" for choice in choices]
    return Rule(
        listed(spelled, last="or"),
        lambda value: isinstance(value, str) and value in choices,
        words=choices,
    )


def _is_norm(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and float(value) in NORMS


NORM = Rule("0, 1, 2 or inf", _is_norm)
FLAG = Rule("true or false", lambda value: isinstance(value, bool))
STEPS = whole(1)
EPS = number(above=0)
_FACTOR = number(above=0, below=1)
_POSITIVE = number(above=0)
_SHARE = number(least=0, below=1)
_DECAY = number(above=0, most=1)

SETTINGS: Mapping[str, Mapping[str, Rule]] = {
    "ddn": {
        "steps": STEPS,
        "init_eps": _POSITIVE,
        "gamma": _FACTOR,
        "alpha": _POSITIVE,
        "alpha_final": _POSITIVE,
        "schedule": word("cosine", "constant"),
        "loss": word("cross_entropy", "difference"),
        "levels": whole(2, optional=True),
    },
    "fmn": {
        "norm": NORM,
        "steps": STEPS,
        "alpha": _POSITIVE,
        "alpha_final": _POSITIVE,
        "gamma": _FACTOR,
        "gamma_final": _FACTOR,
        "escape": FLAG,
    },
    "steep": {
        "norm": NORM,
        "steps": STEPS,
        "classes": whole(1, optional=True),
        "outside": number(least=0, below=1, optional=True),
        "step": number(above=0, optional=True),
        "decay": _DECAY,
        "inertia": number(least=0, below=1, optional=True),
        "gamma": _FACTOR,
        "gamma_final": _FACTOR,
    },
    "sigma-zero": {
        "steps": STEPS,
        "step": _POSITIVE,
        "step_final": _POSITIVE,
        "sigma": _POSITIVE,
        "threshold": _SHARE,
        "threshold_step": _POSITIVE,
    },
    "alma": {
        "steps": STEPS,
        "first": _POSITIVE,
        "decay": _DECAY,
        "rho": _POSITIVE,
        "mu": _POSITIVE,
        "gamma": number(least=1),
        "tau": _DECAY,
        "every": whole(1),
        "average": _SHARE,
    },
    "pdpgd": {
        "norm": NORM,
        "steps": STEPS,
        "step": _POSITIVE,
        "decay": _DECAY,
        "ratio": number(least=LEAST_RATIO, most=1 / LEAST_RATIO),
        "dual_step": _POSITIVE,
        "dual_decay": _DECAY,
        "average": _SHARE,
    },
    "strongest": {"norm": NORM, "steps": STEPS},
    "pgd": {
        "norm": NORM,
        "eps": EPS,
        "steps": STEPS,
        "step": number(above=0, optional=True),
        "loss": word("margin", "ce", "dlr"),
        "random_start": FLAG,
    },
    "apgd": {
        "norm": NORM,
        "eps": EPS,
        "steps": STEPS,
        "loss": word("margin", "ce", "dlr"),
        "rho": number(least=0, most=1),
        "random_start": FLAG,
    },
    "fgsm": {"norm": NORM, "eps": EPS},
    "noise": {"norm": NORM, "eps": EPS, "steps": STEPS},
    "square": {"eps": EPS, "steps": STEPS, "area": number(above=0, most=1)},
}
"""By attack and setting. Other attacks, such as plug-ins, are asked themselves (``study.rehearsal``)."""


def check(attack: str, **settings: object) -> None:
    """Refuse the first of the ``settings`` of one of our attacks that it cannot work with.

    Raises:
        UserError: it names the setting, its value, and what it may be.
    """
    for name, value in settings.items():
        check_value(name, value, SETTINGS[attack][name])


def check_value(name: str, value: object, rule: Rule) -> None:
    """Refuse a setting that ``rule`` does not accept. Raises UserError."""
    if rule.accepts(value):
        return
    if rule.words and isinstance(value, str):
        raise UserError(f"unknown {name} '{value}'", hint=f"choose {rule.wanted}")
    raise UserError(f"{name} is {value!r}", hint=f"give {rule.wanted}")


def problems(attack: str, settings: Mapping[str, object]) -> list[tuple[str, str]]:
    """Settings that one of our attacks would refuse, each with a sentence; empty for other attacks.

    A name that the attack does not have is not looked at, nor is a list of sizes (see ``budgets.sizes``).
    """
    rules = {
        name: rule
        for name, rule in SETTINGS.get(attack, {}).items()
        if not (name == "eps" and is_list(settings.get(name)))
    }
    return [
        (name, f"must be {rules[name].wanted}")
        for name, value in settings.items()
        if name in rules and not rules[name].accepts(value)
    ]
