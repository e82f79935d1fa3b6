"""Run code of the user's: what it may import, and what happens if it ends the program."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from secateur.errors import UserError


@contextmanager
def own_code(path: Path) -> Iterator[None]:
    """Within the context the code of the file at ``path`` runs, which the user has named.

    As under ``python FILE.py``, files beside it can be imported, but after everything that is installed.

    Raises:
        UserError: it ends the program, as a script that reads the command line does.

    >>> with own_code(Path("net.py")):
    ...     sys.exit(0)
    Traceback (most recent call last):
    secateur.errors.UserError: 'net.py' ends the program, with exit code 0 (...)
    """
    folder = str(path.resolve().parent)
    added = folder not in sys.path
    if added:
        sys.path.append(folder)
    try:
        yield
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise UserError(
            f"'{path}' ends the program, with exit code {code}",
            hint="write if __name__ == '__main__': before what is for the script alone",
        ) from end
    finally:
        if added:
            with suppress(ValueError):
                sys.path.remove(folder)
