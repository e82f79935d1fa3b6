"""What a value from outside is: to Python true is the number 1, to a user it is none."""

import math
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number of Python's own, and no flag.

    >>> is_number(0.5), is_number(3), is_number(True), is_number("3")
    (True, True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object, *, least: float = -math.inf) -> TypeGuard[int]:
    """Whether a value is a whole number of Python's own, and no flag, of at least ``least``.

    >>> is_whole(3), is_whole(3, least=4), is_whole(3.0), is_whole(True)
    (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
