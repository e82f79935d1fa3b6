"""Call what builds a network: a constructor, or the function of a file of the user's."""

import copy
import inspect
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.errors import UserError
from secateur.registry.own_code import own_code
from secateur.registry.plugins import frame_in
from secateur.text import first_line


def built(spec: str, factory: Callable[..., Any], arguments: dict[str, Any]) -> tuple[nn.Module, Any]:
    """The network that ``factory`` returns, and inputs where it returns both, else None. Raises UserError."""
    # torch constructors draw from the global generator: fork it, so that the caller's state does not change.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = factory(**arguments)
    pair = isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)
    model, inputs = made if pair else (made, None)
    if not isinstance(model, nn.Module):
        raise UserError(
            f"model '{spec}' is a {type(model).__name__}, not a torch.nn.Module",
            hint="name a function that returns the model, or (model, inputs)",
        )
    return model, inputs


def from_file(
    path: Path, function: str, num_classes: int | None, in_channels: int | None
) -> tuple[nn.Module, Any]:
    """What the function of a file returns, as ``built``; a copy of a module that the file holds.

    Raises:
        UserError: no such file or function, code that fails, or no module.
    """
    if not path.is_file():
        raise UserError(
            f"there is no file '{path}'", hint="FILE.py:FUNCTION names a function that builds a model"
        )
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"'{path}' cannot be imported", hint="its name must end in .py")
    module = module_from_spec(spec)
    try:
        with own_code(path):
            spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"'{path}' cannot be imported: {type(error).__name__}: {error}", hint="python FILE.py must run"
        ) from error
    factory = getattr(module, function, None)
    if not callable(factory):
        raise UserError(f"'{path}' has no function '{function}'", hint="write FILE.py:FUNCTION")
    if isinstance(factory, nn.Module):
        return copy.deepcopy(factory), None
    known = inspect.signature(factory).parameters
    if (
        num_classes is None
        and "num_classes" in known
        and known["num_classes"].default is inspect.Parameter.empty
    ):
        num_classes = 10
    offered = {"num_classes": num_classes, "in_channels": in_channels}
    taken = {key: value for key, value in offered.items() if key in known and value is not None}
    try:
        with own_code(path):
            return built(f"{path}:{function}", factory, taken)
    except UserError:
        raise
    except TypeError as error:
        raise UserError(
            f"'{function}' of '{path}' cannot be called: {error}",
            hint="it may require num_classes and in_channels only",
        ) from error
    except Exception as error:  # the user's own code may raise anything
        raise UserError(
            f"'{function}' of '{path}' fails{_line_in(path, error)}: {type(error).__name__}: "
            f"{first_line(error, '')}",
            hint="it is called without anything else, or with num_classes and in_channels",
        ) from error


def _line_in(path: Path, error: BaseException) -> str:
    """The last line of a file that an exception went through, in words."""
    frame = frame_in(path, error)
    return f" in line {frame.lineno}" if frame else ""
