"""What is wrong with a study file, collected so that everything is said at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from secateur.errors import UserError


@dataclass(frozen=True)
class Problem:
    """One thing to change: where it stands, which setting it is, and what is wrong with it."""

    place: str
    key: str
    sentence: str
    suggestion: str = ""

    def __str__(self) -> str:
        """One line: ``file:line: path.to.key: sentence -> did you mean 'x'?``."""
        key = f"{self.key}: " if self.key else ""
        tail = f" -> did you mean '{self.suggestion}'?" if self.suggestion else ""
        return f"{self.place}: {key}{self.sentence}{tail}"


def refuse(problems: Sequence[Problem]) -> UserError:
    """All ``problems`` as one error, a line each, in the order of the file."""
    lines = dict.fromkeys(str(problem) for problem in problems)
    count = f"{len(lines)} problems" if len(lines) > 1 else "one problem"
    return UserError("\n".join(lines), hint=f"{count}; nothing was written")
