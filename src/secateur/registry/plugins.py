"""Plug-ins: Python files of users that register attacks, criteria, models or datasets when run."""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from secateur.errors import ExitCode, UserError
from secateur.hashing import file_sha256, sha256_hex
from secateur.registry.attacks import ATTACKS
from secateur.registry.criteria import CRITERIA
from secateur.registry.datasets import DATASETS
from secateur.registry.models import MODELS
from secateur.registry.own_code import own_code
from secateur.registry.registry import Entry, Registry
from secateur.registry.settings import NORM
from secateur.text import listed

REGISTRIES: tuple[Registry, ...] = (ATTACKS, CRITERIA, MODELS, DATASETS)
_OFFERED = ("num_classes", "in_channels")
_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
KINDS = ("minimum-norm", "fixed-eps")
"""An attack looks for the smallest perturbation, or for one of a given size."""


@dataclass(frozen=True)
class PlugIn:
    """A plug-in that has been run: its file, the version of its content, and the names it registered.

    ``names`` are pairs such as ``("attack", "mine")``.

    >>> PlugIn(Path("own/mine.py"), "0123456789abcdef", (("attack", "mine"),)).to_json()["file"]
    'mine.py'
    """

    path: Path
    version: str
    names: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """The record in a run folder; without the path, so that no folder names code that others run."""
        return {"file": self.path.name, "version": self.version, "names": [list(name) for name in self.names]}


_LOADED: dict[Path, PlugIn] = {}


def loaded() -> tuple[PlugIn, ...]:
    """The plug-ins of this process, in the order of their first run.

    >>> all(isinstance(plugin, PlugIn) for plugin in loaded())
    True
    """
    return tuple(_LOADED.values())


def version_of(path: Path) -> str:
    """The version of the plug-in at ``path``: 16 hex digits of the sha256 of its content.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".py") as file:
    ...     version_of(Path(file.name))
    'e3b0c44298fc1c14'
    """
    return file_sha256(path)[:16]


def require(wanted: Iterable[Mapping[str, Any]]) -> None:
    """Check that this process has run the plug-ins that a run folder was planned with (``to_json``).

    Raises:
        UserError: one has not been run here, or with another content (code FOREIGN_FOLDER).

    >>> require([])
    >>> require([{"file": "mine.py", "version": "0123456789abcdef", "names": [["attack", "mine"]]}])
    Traceback (most recent call last):
    secateur.errors.UserError: the run needs attack mine of the plug-in mine.py (...load_plugin...)
    """
    here = {(plugin.path.name, plugin.version) for plugin in loaded()}
    for plugin in wanted:
        file, version = plugin["file"], plugin["version"]
        if (file, version) in here:
            continue
        if any(name == file for name, _ in here):
            raise UserError(
                f"the content of {file} has changed since the run was planned",
                hint="use the same file, or a new folder",
                code=ExitCode.FOREIGN_FOLDER,
            )
        names = ", ".join(" ".join(name) for name in plugin["names"])
        raise UserError(
            f"the run needs {names} of the plug-in {file}",
            hint="run secateur.registry.load_plugin on it first",
            command=f"add --plugin {file}",
        )


def load_plugin(path: Path) -> list[str]:
    """Run the file at ``path`` and return the names that it registered, as in ``["attack mine"]``.

    The file calls ``register`` of ``secateur.registry.ATTACKS``, ``CRITERIA``, ``MODELS`` or ``DATASETS``.
    In a file that registers nothing, every public function that can be called with ``num_classes`` and
    ``in_channels``, or with nothing, becomes the model ``FILE.py:FUNCTION``. It runs with the rights of the
    user, so it may be named on a command line only, never in a file that others wrote. The hash of its
    content is the version of everything it registers, so that cached results of
    another version are not reused.

    Raises:
        UserError: no such file, an error inside it (with its line), nothing registered, a name that is taken,
            or invalid facts about an attack.

    >>> load_plugin(Path("mine.py"))
    Traceback (most recent call last):
    secateur.errors.UserError: there is no file 'mine.py' (a plug-in is a Python file that registers names)
    """
    if not path.is_file():
        raise UserError(
            f"there is no file '{path}'",
            hint="a plug-in is a Python file that registers names",
            command="--plugin names a Python file that registers names",
        )
    before = {registry.kind: {entry.name: entry for entry in registry.entries()} for registry in REGISTRIES}

    def new() -> list[tuple[Registry, Entry]]:
        found = ((registry, entry) for registry in REGISTRIES for entry in registry.entries())
        return [(kind, entry) for kind, entry in found if before[kind.kind].get(entry.name) is not entry]

    version = version_of(path)
    module = _run(path)
    if not new():
        _register_builders(module, path)
    added: list[tuple[str, str]] = []
    for registry, entry in new():
        _check(registry, entry, path)
        facts = {**entry.facts, "science": version}
        if registry is ATTACKS:
            facts["steps"] = _has_steps(registry.get(entry.name))
        registry.describe(replace(entry, facts=facts))
        added.append((registry.kind, entry.name))
    if not added:
        raise UserError(
            f"'{path}' registers nothing",
            hint="call register(name, function, summary) of secateur.registry.ATTACKS, CRITERIA or MODELS, "
            "or define a function that returns a network",
        )
    _LOADED[path.resolve()] = PlugIn(path.resolve(), version, tuple(added))
    return [f"{kind} {name}" for kind, name in added]


def _has_steps(attack: Any) -> bool:
    return not callable(attack) or "steps" in inspect.signature(attack).parameters


def _register_builders(module: ModuleType, path: Path) -> None:
    """Make the functions of a file that registers nothing models by the name ``FILE.py:FUNCTION``.

    Those that can be called with ``num_classes`` and ``in_channels``, or with nothing.
    """
    for name, function in inspect.getmembers(module, inspect.isfunction):
        known = inspect.signature(function).parameters.values()
        needed = {each.name for each in known if each.default is each.empty and each.kind not in _MANY}
        if not name.startswith("_") and function.__module__ == module.__name__ and needed <= set(_OFFERED):
            MODELS.register(f"{path.name}:{name}", _builder(function, path), f"a network of {path.name}")


def _builder(function: Callable[..., Any], path: Path) -> Callable[..., Any]:
    known = inspect.signature(function).parameters

    def build(num_classes: int = 10, in_channels: int | None = None) -> Any:
        offered = {"num_classes": num_classes, "in_channels": in_channels}
        with own_code(path):
            return function(
                **{key: value for key, value in offered.items() if key in known and value is not None}
            )

    # The registry tells objects apart by where they are from.
    build.__module__, build.__qualname__ = function.__module__, function.__qualname__
    return build


def _run(path: Path) -> ModuleType:
    # The module name contains a hash of the path, because two plug-ins may have the same file name.
    name = f"plugin_{path.stem}_{sha256_hex(str(path.resolve()))[:8]}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"'{path}' is not a Python file", hint="its name must end in .py")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        with own_code(path):
            spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"'{path}' cannot be imported: {_blame(error, path)}") from error
    return module


def _blame(error: Exception, path: Path) -> str:
    """The error in one line, with the line of the user's file that raised it."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}, line {error.lineno}"
    frame = frame_in(path, error)
    return f"{said}, line {frame.lineno}: {frame.line}" if frame else said


def frame_in(path: Path, error: BaseException) -> traceback.FrameSummary | None:
    """The last line of a file that an exception went through; None if it went through none."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return next((frame for frame in frames if Path(frame.filename).resolve() == path.resolve()), None)


def _check(registry: Registry, entry: Entry, path: Path) -> None:
    if registry is not ATTACKS:
        return
    kind, norms = entry.facts.get("kind", KINDS[0]), entry.facts.get("norms", ())
    if kind not in KINDS:
        raise UserError(
            f"'{path}' registers attack '{entry.name}' with kind {kind!r}",
            hint=f"write {listed(list(KINDS), last='or')}",
        )
    if not isinstance(norms, tuple) or any(isinstance(norm, str) or not NORM.accepts(norm) for norm in norms):
        raise UserError(
            f"'{path}' registers attack '{entry.name}' with norms {norms!r}",
            hint="write a tuple of 0, 1, 2, float('inf') and secateur.budgets.L0_PIXELS",
        )
