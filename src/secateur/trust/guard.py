"""A check that cannot run is a check that failed: nothing is lost after the work of an attack is done."""

from collections.abc import Callable

import torch

from secateur.attacks.runner.batching import out_of_memory
from secateur.text import first_line
from secateur.trust.audit_context import Check

LONGEST = 200
"""Characters of a foreign error message that are quoted."""


def guarded(id: str, check: Callable[[], Check]) -> Check:
    """What ``check`` says, or a warning with what it raised; only an interrupt goes on.

    A warning, because the attack's examples were verified before and are not in doubt. The grade
    is not A then: what the check would have seen is unknown.
    """
    try:
        return check()
    except Exception as error:
        sentence = f"this check could not run: {told(error)}"
    # Outside the handler, whose exception keeps the tensors of the failed check alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return Check(id, False, "warn", sentence, ran=False)


def told(error: Exception) -> str:
    """An exception in one line."""
    if out_of_memory(error):
        return "memory ran out"
    line = first_line(error, "")
    said = f"{type(error).__name__}: {line}" if line else type(error).__name__
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
