"""The command doctor: what is installed, and a self-test."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from secateur.cli.output import print_table, say
from secateur.errors import ExitCode, UserError

_NEEDED = (
    "torch",
    "numpy",
    "scipy",
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
    "hf": ("transformers", "huggingface_hub"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "pandas": ("pandas",),
    "tracking": ("tensorboard", "wandb", "trackio"),
}


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
        # An absent extra is no defect: it is listed and does not change the exit code.
        rows.append((f"[{extra}]", f"absent: {', '.join(absent)}" if absent else "installed"))
    print_table(f"secateur on {sys.platform}", ("package", "version"), rows)
    if missing:
        raise UserError(
            f"missing: {', '.join(missing)}", hint="pip install secateur", code=ExitCode.ENVIRONMENT
        )
    say(_self_test())


COMMANDS = (doctor,)


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
