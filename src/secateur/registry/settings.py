"""Rules for the settings of attacks, without torch: attacks check by them, and studies are validated by them.

The rules of each attack stand in its row of ``registry.attacks``. An attack calls ``check`` itself, so it
refuses the same values as ``secateur validate``.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real

from secateur.budgets import NORM_KEYS, finite, is_list, norm_of
from secateur.errors import UserError
from secateur.text import listed

NORMS = tuple(NORM_KEYS)
LEAST_RATIO = 1e-6
"""Lower bound, and reciprocal of the upper bound, of the ratio of PDPGD's two weights."""


@dataclass(frozen=True)
class Rule:
    """The values that a setting may have: ``wanted`` describes them, ``fits`` decides.

    ``words`` are the choices of a setting that is a word. An ``optional`` setting may be None, which leaves
    the choice to the attack.

    >>> rule = number(above=0, most=1)
    >>> rule.wanted, rule.accepts(0.5), rule.accepts(2)
    ('a number above 0 and of at most 1', True, False)
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
    """A finite number within the bounds that are given: ``above < value``, ``least <= value``, and so on."""
    limits = [
        *([f"above {above:g}"] if above > -math.inf else []),
        *([f"of at least {least:g}"] if least > -math.inf else []),
        *([f"below {below:g}"] if below < math.inf else []),
        *([f"of at most {most:g}"] if most < math.inf else []),
    ]

    def fits(value: object) -> bool:
        # A bool is an int in Python, but ``true`` is not a number in a study.
        if isinstance(value, bool) or not isinstance(value, Real):
            return False
        size = float(value) if finite(value) else math.nan
        return above < size < below and least <= size <= most

    return Rule(" ".join(["a number", " and ".join(limits)]).strip(), fits, optional=optional)


def whole(least: int, *, optional: bool = False) -> Rule:
    """A whole number of at least ``least``."""

    def fits(value: object) -> bool:
        return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least

    return Rule(f"a whole number of at least {least}", fits, optional=optional)


def word(*choices: str, or_function: bool = False) -> Rule:
    """One of several words, or in Python a function."""
    spelled = [f"'{choice}'" for choice in choices]
    return Rule(
        listed(spelled, last="or") + (", or in Python a function" if or_function else ""),
        lambda value: (isinstance(value, str) and value in choices) or (or_function and callable(value)),
        words=choices,
    )


def _is_norm(value: object) -> bool:
    # In Python and on the command line a norm may be a word too.
    try:
        return norm_of(value) in NORMS
    except UserError:
        return False


NORM = Rule("0, 1, 2, inf or L0-pixels", _is_norm)
FLAG = Rule("true or false", lambda value: isinstance(value, bool))
STEPS = whole(1)
EPS = number(above=0)
FACTOR = number(above=0, below=1)
POSITIVE = number(above=0)
SHARE = number(least=0, below=1)
DECAY = number(above=0, most=1)


def rules_of(attack: str) -> Mapping[str, Rule]:
    """The rules of an attack's settings, by name; empty where its row has none, as of most plug-ins.

    >>> sorted(rules_of("fgsm"))
    ['eps', 'norm']
    """
    # The rows are built from the rules above.
    from secateur.registry.attacks import ATTACKS

    known: Mapping[str, Rule] = ATTACKS.facts(attack).get("settings", {})
    return known


def takes_steps(attack: str) -> bool:
    """Whether an attack iterates, that is, has a setting ``steps``.

    Raises:
        UserError: no such attack.

    >>> takes_steps("pgd"), takes_steps("fgsm")
    (True, False)
    """
    from secateur.registry.attacks import ATTACKS

    facts = ATTACKS.entry(attack).facts
    if "settings" in facts:
        return "steps" in facts["settings"]
    if "steps" in facts or not facts.get("installed"):
        return bool(facts.get("steps", True))
    return "steps" in inspect.signature(ATTACKS.get(attack)).parameters


def renamed(attack: str, setting: str) -> str | None:
    """The present name of a ``setting`` that an attack had under another name; None if it had none such.

    >>> renamed("steep", "classes")
    'n_surveyed'
    """
    from secateur.registry.attacks import ATTACKS

    new: str | None = ATTACKS.facts(attack).get("renamed", {}).get(setting)
    return new


def check(attack: str, **settings: object) -> None:
    """Refuse the first invalid setting of a registered attack.

    Raises:
        UserError: it names the setting, its value, and the values that are allowed.
    """
    rules = rules_of(attack)
    for name, value in settings.items():
        check_value(name, value, rules[name])


def check_value(name: str, value: object, rule: Rule) -> None:
    """Refuse a setting that ``rule`` does not accept. Raises UserError."""
    if rule.accepts(value):
        return
    # A misspelled word is named as such; any other value gets the range.
    if rule.words and isinstance(value, str):
        raise UserError(f"unknown {name} '{value}'", hint=f"choose {rule.wanted}")
    raise UserError(f"{name} is {value!r}", hint=f"give {rule.wanted}")


def problems(attack: str, settings: Mapping[str, object]) -> list[tuple[str, str]]:
    """Invalid settings of an attack, each with a sentence; none where its row has no rules.

    Of unknown names only former ones are reported, and lists of budgets are not looked at (see
    ``budgets.sizes``).

    >>> problems("ddn", {"gamma": 7})
    [('gamma', 'must be a number above 0 and below 1')]
    """
    rules = rules_of(attack)
    former = [(name, f"is now called '{new}'") for name in settings if (new := renamed(attack, name))]
    return former + [
        (name, f"must be {rules[name].wanted}")
        for name, value in settings.items()
        if name in rules and not (name == "eps" and is_list(value)) and not rules[name].accepts(value)
    ]
