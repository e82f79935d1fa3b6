"""Prune a trained network, and measure what is left of its robustness.

Names are imported on first use, so that ``import secateur`` and the command line's help stay fast.
"""

import os
import sys
from contextlib import suppress


def _leave_working_directory() -> None:
    """Under ``python -m secateur``, import nothing from the working directory, as the command itself does.

    It may be a folder of somebody else's, or hold a file called like a module of Python.
    """
    asked = sys.orig_argv[-len(sys.argv)].removeprefix("-m") if sys.argv[:1] == ["-m"] else ""
    first = sys.path[0] if sys.path and not sys.flags.safe_path else None
    if asked.partition(".")[0] != "secateur" or first is None:
        return
    with suppress(FileNotFoundError):  # the working directory has been deleted: it holds nothing to import
        if first in ("", os.path.realpath(os.curdir)):
            del sys.path[0]


_leave_working_directory()

from importlib import import_module  # noqa: E402
from importlib.metadata import version  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

if TYPE_CHECKING:
    from secateur.attacks.ddn import ddn as ddn
    from secateur.attacks.fmn import fmn as fmn
    from secateur.decision import check as check
    from secateur.errors import UserError as UserError
    from secateur.evaluate import attack as attack
    from secateur.exports import export as export
    from secateur.graph import trace as trace
    from secateur.models import normalised as normalised
    from secateur.pruning import apply as apply
    from secateur.pruning import load as load
    from secateur.pruning import plan as plan
    from secateur.pruning import prune as prune
    from secateur.pruning import save as save
    from secateur.study import run as run

_HOMES = {
    "UserError": "secateur.errors",
    "apply": "secateur.pruning",
    "attack": "secateur.evaluate",
    "check": "secateur.decision",
    "ddn": "secateur.attacks",
    "export": "secateur.exports",
    "fmn": "secateur.attacks",
    "load": "secateur.pruning",
    "normalised": "secateur.models",
    "plan": "secateur.pruning",
    "prune": "secateur.pruning",
    "run": "secateur.study",
    "save": "secateur.pruning",
    "trace": "secateur.graph",
}
_ROOMS = (
    "attacks",
    "data",
    "decision",
    "exports",
    "graph",
    "measure",
    "models",
    "pruning",
    "report",
    "train",
    "transfer",
    "trust",
)

__all__ = ["__version__", *sorted(_HOMES), *_ROOMS]

__version__ = version("secateur")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return import_module(f"secateur.{name}")
    raise AttributeError(f"module 'secateur' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
