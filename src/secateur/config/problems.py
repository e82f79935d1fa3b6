"""Problems of a study file, collected so that one error reports all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from secateur.errors import UserError


@dataclass(frozen=True)
class Problem:
    """One thing to change in a study: its location ``file:line``, the setting, and what is wrong with it.

    >>> print(Problem("study.yaml:3", "sparsty", "unknown setting", "sparsities"))
    study.yaml:3: sparsty: unknown setting -> did you mean 'sparsities'?
    """

    location: str
    key: str
    sentence: str
    suggestion: str = ""

    def __str__(self) -> str:
        """One line: ``file:line: path.to.key: sentence -> did you mean 'x'?``."""
        key = f"{self.key}: " if self.key else ""
        tail = f" -> did you mean '{self.suggestion}'?" if self.suggestion else ""
        return f"{self.location}: {key}{self.sentence}{tail}"


def refuse(problems: Sequence[Problem]) -> UserError:
    """All ``problems`` as one error, a line each; the caller raises it.

    >>> refuse([Problem("study.yaml:3", "seed", "is required")]).hint
    'one problem; nothing was written'
    """
    lines = dict.fromkeys(str(problem) for problem in problems)
    count = f"{len(lines)} problems" if len(lines) > 1 else "one problem"
    return UserError("\n".join(lines), hint=f"{count}; nothing was written")
