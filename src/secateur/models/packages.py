"""Packages that are installed by an extra, or not at all."""

from importlib import import_module
from typing import Any

from secateur.errors import ExitCode, UserError


def needed(module: str, wanted_by: str, *, install: str = "") -> Any:
    """An imported module of a package that need not be installed.

    Args:
        module: as in ``torchvision.models``; its package is named by the part before the first dot.
        wanted_by: what the user asked for.
        install: the command that installs it; by default pip with the name of the package.

    Raises:
        UserError: it cannot be imported (code ENVIRONMENT).

    >>> needed("json", "an example").loads("1")
    1
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"'{wanted_by}' needs the package {package}: {error}",
            hint=install or f"pip install {package}",
            code=ExitCode.ENVIRONMENT,
        ) from error
