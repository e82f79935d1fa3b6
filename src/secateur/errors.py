"""The one exception for everything a user can get wrong, and the exit codes of the command line."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process says to the shell when it ends; ``meaning`` says it in words."""

    OK = 0
    INTERNAL = 1
    BAD_INPUT = 2
    CELLS_FAILED = 3
    FOREIGN_FOLDER = 4
    ENVIRONMENT = 5
    LIMIT_BROKEN = 6
    HUNG_UP = 129
    INTERRUPTED = 130
    READER_GONE = 141
    TERMINATED = 143

    @property
    def meaning(self) -> str:
        """One line, as the README and docs/running.md have it."""
        return MEANINGS[self]


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.INTERNAL: "a defect of ours, with a traceback; nothing else has this code",
    ExitCode.BAD_INPUT: "bad input or study file; one sentence says which, nothing was written",
    ExitCode.CELLS_FAILED: "the study is finished, some cells failed; the report shows them",
    ExitCode.FOREIGN_FOLDER: "the run folder belongs to another study, or to another version",
    ExitCode.ENVIRONMENT: "environment: missing package, no such device, disk, memory, unreachable cluster",
    ExitCode.LIMIT_BROKEN: "a limit of `check` or of `compare --fail-if` is broken",
    ExitCode.HUNG_UP: "the terminal was closed (SIGHUP); the same command continues",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C); the same command continues",
    ExitCode.READER_GONE: "whatever read the output has closed it, as `head` does",
    ExitCode.TERMINATED: "terminated (SIGTERM); the same command continues",
}


class UserError(Exception):
    """A mistake of the user's or of their environment: one sentence, and what to do next.

    ``hint`` is for Python and names arguments; ``command``, where it is given, is for the command line and
    names options. That prints ``message`` and ``command`` without a traceback and exits with ``code``.

    >>> error = UserError("invalid --sparsity 2", hint="use a value from 0 to 1")
    >>> str(error), int(error.code)
    ('invalid --sparsity 2 (use a value from 0 to 1)', 2)
    >>> UserError("two sizes", hint="resize=8 scales images", command="--resize 8 scales images").command
    '--resize 8 scales images'
    """

    def __init__(
        self, message: str, *, hint: str = "", command: str = "", code: ExitCode = ExitCode.BAD_INPUT
    ) -> None:
        super().__init__(message if not hint else f"{message} ({hint})")
        self.message = message
        self.hint = hint
        self.command = command or hint
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments are lost by the default pickling of exceptions, and errors cross processes.
        return (_rebuild, (type(self), self.message, self.hint, self.command, self.code))


def _rebuild(kind: type[UserError], message: str, hint: str, command: str, code: ExitCode) -> UserError:
    return kind(message, hint=hint, command=command, code=code)
