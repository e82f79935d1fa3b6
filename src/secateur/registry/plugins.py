"""A user's own file as a plug-in: it registers attacks, criteria, models or datasets when it is run."""

import hashlib
import sys
import traceback
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from secateur.errors import UserError
from secateur.registry.attacks import ATTACKS
from secateur.registry.criteria import CRITERIA
from secateur.registry.datasets import DATASETS
from secateur.registry.models import MODELS
from secateur.registry.registry import Entry, Registry

REGISTRIES: tuple[Registry, ...] = (ATTACKS, CRITERIA, MODELS, DATASETS)
KINDS = ("minimum-norm", "fixed-eps")
"""What an attack looks for: the smallest perturbation, or one of a given size."""
NORMS = (0.0, 1.0, 2.0, float("inf"))


def load_plugin(path: Path) -> list[str]:
    """Run the file at ``path`` and say what it registered, as in ``["attack mine"]``.

    The file calls ``register`` of ``secateur.registry.ATTACKS``, ``CRITERIA``, ``MODELS`` or ``DATASETS``. It
    is run as it is, with the rights of the user: name it on a command line only, never in a file that others
    wrote. Its content counts as the version of what it registers, so that no cached result of another version
    is taken for its own.

    Raises:
        UserError: no such file, an error inside it (with its line), nothing registered, a name that is taken,
            or facts about an attack that make no sense.
    """
    if not path.is_file():
        raise UserError(
            f"there is no file '{path}'", hint="--plugin names a Python file that registers names"
        )
    before = {registry.kind: {entry.name: entry for entry in registry.entries()} for registry in REGISTRIES}
    content = path.read_bytes()
    _run(path)
    added = []
    for registry in REGISTRIES:
        for entry in registry.entries():
            if before[registry.kind].get(entry.name) is not entry:
                _check(registry, entry, path)
                version = hashlib.sha256(content).hexdigest()[:16]
                registry.describe(replace(entry, facts={"science": version, **entry.facts}))
                added.append(f"{registry.kind} {entry.name}")
    if not added:
        raise UserError(
            f"'{path}' registers nothing",
            hint="call register(name, function, summary) of secateur.registry.ATTACKS, CRITERIA or MODELS",
        )
    return added


def _run(path: Path) -> None:
    # A name of its own for every path: two plug-ins may have the same file name.
    name = f"plugin_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"'{path}' is no Python file", hint="its name must end in .py")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"'{path}' cannot be imported: {_blame(error, path)}") from error


def _blame(error: Exception, path: Path) -> str:
    """The error in one line, with the line of the user's file that it comes from."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}, line {error.lineno}"
    place = path.resolve()
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == place
    ]
    return f"{said}, line {frames[-1].lineno}: {frames[-1].line}" if frames else said


def _check(registry: Registry, entry: Entry, path: Path) -> None:
    if registry is not ATTACKS:
        return
    kind, norms = entry.facts.get("kind", KINDS[0]), entry.facts.get("norms", ())
    if kind not in KINDS:
        raise UserError(
            f"'{path}' registers attack '{entry.name}' with kind {kind!r}", hint=f"write {' or '.join(KINDS)}"
        )
    if not isinstance(norms, tuple) or any(norm not in NORMS for norm in norms):
        raise UserError(
            f"'{path}' registers attack '{entry.name}' with norms {norms!r}",
            hint="write a tuple of 0, 1, 2 and float('inf')",
        )
