"""A check, its verdict in one sentence, and the grade of all checks. A check that raises is a warning."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from secateur.attacks.runner.batching import out_of_memory
from secateur.display import Shown
from secateur.text import first_line
from secateur.trust.joint import Joint

LONGEST = 200
"""Characters of a foreign error message that are quoted."""


@dataclass(frozen=True)
class Check:
    """One check: whether it passed, how grave a failure is, and its finding in one sentence.

    ``ran`` is false if the check raised; then it did not pass, and the sentence is the error.

    >>> Check("F20", True, "warn", "98% of the examples still fool when rounded").passed
    True
    """

    id: str
    passed: bool
    severity: Literal["warn", "fail"]
    sentence: str
    ran: bool = True


MEANINGS = {
    "A": "every check passed; distances are still upper bounds of the true ones",
    "B": "some checks warn: read the reasons before quoting the numbers",
    "C": "the evaluation is unreliable: these numbers are not robustness",
    "X": "nothing could be evaluated: there are no numbers to believe",
}
"""The meaning of each grade."""


@dataclass(frozen=True, repr=False)
class Grade(Shown):
    """A: all checks passed. B: warnings. C: the evaluation is unreliable. X: nothing could be evaluated.

    ``cost`` is the number of passes of the checks, as a share of the attack's own forward and backward passes
    (above 1 with an audit). ``joint`` is the per-image minimum over the attack and its rivals, of an audit.

    >>> Grade("B", [Check("F20", False, "warn", "12% of the examples still fool when rounded")]).reasons
    ['F20: 12% of the examples still fool when rounded']
    """

    letter: Literal["A", "B", "C", "X"]
    checks: list[Check]
    cost: float = 0.0
    joint: Joint | None = None

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        return f"Grade {self.letter}: {self.meaning}", [
            (c.id, c.sentence) for c in self.checks if not c.passed
        ]

    @property
    def meaning(self) -> str:
        """The letter in words."""
        return MEANINGS[self.letter]

    @property
    def reasons(self) -> list[str]:
        """The sentences of the checks that did not pass."""
        return [f"{check.id}: {check.sentence}" for check in self.checks if not check.passed]


def letter_of(checks: Iterable[Check]) -> Literal["A", "B", "C"]:
    """The letter that the checks of an evaluated result give it."""
    failed = {check.severity for check in checks if not check.passed}
    return "C" if "fail" in failed else "B" if failed else "A"


def guarded(id: str, check: Callable[[], Check]) -> Check:
    """The result of ``check``, or a warning with the exception that it raised.

    Only a warning, because the attack's examples are verified already; but the grade is then not A, because
    the check's finding is unknown.
    """
    try:
        return check()
    except Exception as error:
        sentence = f"this check could not run: {error_text(error)}"
    # Outside the handler: its exception keeps the tensors of the failed check alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return Check(id, False, "warn", sentence, ran=False)


def error_text(error: Exception) -> str:
    """An exception in one line."""
    if out_of_memory(error):
        return "memory ran out"
    line = first_line(error, "")
    said = f"{type(error).__name__}: {line}" if line else type(error).__name__
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
