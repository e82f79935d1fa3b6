"""Verbs that tell: ls, doctor."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Annotated

import typer

from secateur.cli.options import PlugIns, plug_in
from secateur.cli.output import print_json, print_table
from secateur.errors import ExitCode, UserError
from secateur.registry import ATTACKS, CHECKPOINTS, CRITERIA, DATASETS, MODELS, RATES, Registry

_KINDS = {
    "models": MODELS,
    "checkpoints": CHECKPOINTS,
    "data": DATASETS,
    "criteria": CRITERIA,
    "attacks": ATTACKS,
    "rates": RATES,
}
_NEEDED = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "safetensors",
    "pydantic",
    "PyYAML",
    "typer",
    "rich",
    "matplotlib",
)
_EXTRAS = {
    "ray": ("ray",),
    "data": ("gdown",),
    "timm": ("timm",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}
# For machines: the version of a plug-in's file, the package of an entry point, whether an attack iterates,
# from where on its best distance tells whether it has converged, and what a study is checked by.
_UNSHOWN = ("science", "installed", "steps", "settled", "built_in", "files", "needs_layers")
# In the JSON only: what the summary says, or what leaves too little room for the other columns.
_ONLY_JSON = {
    "label",
    "paper",
    "bibtex",
    "arch",
    "gdrive",
    "dataset",
    "norm",
    "epsilon",
    "clean_accuracy",
    "robust_accuracy",
}


def ls(
    kind: Annotated[
        str | None,
        typer.Argument(help="models, checkpoints, data, criteria, attacks or rates; all of them by default."),
    ] = None,
    plugin: PlugIns = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """List what can be chosen by name."""
    if kind is not None and kind not in _KINDS:
        raise UserError(f"there is no list of '{kind}'", hint=f"choose one of {', '.join(_KINDS)}")
    plug_in(plugin)
    chosen = {kind: _KINDS[kind]} if kind else _KINDS
    if as_json:
        print_json({name: _rows(registry) for name, registry in chosen.items()})
        return
    for name, registry in chosen.items():
        rows = _rows(registry)
        facts = sorted({key for row in rows for key in row} - {"name", "summary"} - _ONLY_JSON)
        table = [(row["name"], row["summary"], *(row.get(fact, "") for fact in facts)) for row in rows]
        print_table(name, ("name", "what it is", *facts), table)


def doctor() -> None:
    """Check the installation: versions, extras, and a five-second self-test."""
    rows = [("python", platform.python_version()), ("secateur", version("secateur"))]
    missing = []
    for package in _NEEDED:
        try:
            rows.append((package, version(package)))
        except PackageNotFoundError:
            missing.append(package)
            rows.append((package, "missing"))
    for extra, packages in _EXTRAS.items():
        absent = [package for package in packages if find_spec(package) is None]
        rows.append((f"[{extra}]", f"absent: {', '.join(absent)}" if absent else "installed"))
    print_table(f"secateur on {sys.platform}", ("package", "version"), rows)
    if missing:
        raise UserError(
            f"missing: {', '.join(missing)}", hint="pip install secateur", code=ExitCode.ENVIRONMENT
        )
    typer.echo(_self_test())


COMMANDS = (ls, doctor)


def _rows(registry: Registry) -> list[dict[str, str]]:
    return [
        {
            "name": entry.name,
            "summary": entry.summary,
            **{key: _text(value) for key, value in entry.facts.items() if key not in _UNSHOWN},
        }
        for entry in registry.entries()
    ]


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(part if isinstance(part, str) else f"{part:g}" for part in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {part}" for key, part in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _self_test() -> str:
    """Prune and attack a small network, as a user would."""
    import torch

    import secateur
    from secateur import data, models

    network = models.build("resnet-tiny", num_classes=10, in_channels=1).eval()
    digits = data.load("digits").take(range(8))
    report = secateur.prune(network, digits.x[:1], criterion="l1", sparsity=0.5)
    result = secateur.attack(network, digits, "ddn", steps=5)
    return (
        f"self-test: pruned {report.parameters_before:,} -> {report.parameters_after:,} parameters "
        f"(proof {report.max_error:.0e}), attacked {result.summary()['n']} images, "
        f"{torch.get_num_threads()} threads, CUDA {'yes' if torch.cuda.is_available() else 'no'}: all well"
    )
