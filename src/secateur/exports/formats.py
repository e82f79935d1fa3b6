"""The export formats: how each is written, and how a written file is run."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from secateur.errors import ExitCode, UserError
from secateur.exports.inputs import named_inputs
from secateur.graph.trace.input_tree import call_model, tensors_in
from secateur.text import first_line, listed

Run = Callable[[Any], list[Tensor]]
_ONNX = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Format:
    """Writes a file of one kind, and opens it with a number of threads; ``runtime`` is what runs it."""

    name: str
    write: Callable[[ExportedProgram, Path, Any], None]
    open: Callable[[Path, int], Run]
    packages: tuple[str, ...]
    runtime: str

    def versions(self) -> dict[str, str]:
        """Versions of the packages that wrote and ran the file."""
        return {package: version(package) for package in ("torch", *self.packages)}


def format_of(path: Path) -> Format:
    """The format for a file name.

    Raises:
        UserError: an unknown suffix, or missing packages (exit code ENVIRONMENT).
    """
    found = FORMATS.get(path.suffix)
    if found is None:
        raise UserError(f"'{path}' has no known suffix", hint=f"use {listed(list(FORMATS), last='or')}")
    missing = [package for package in found.packages if find_spec(package) is None]
    if missing:
        raise UserError(
            f"{found.name} needs {', '.join(missing)}",
            hint="pip install 'secateur[onnx]'",
            code=ExitCode.ENVIRONMENT,
        )
    return found


def _write_pt2(program: ExportedProgram, path: Path, shapes: Any) -> None:
    torch.export.save(program, path)


def load_exported(path: Path | str) -> nn.Module:
    """The network in a .pt2 file, to be attacked like any other.

    Raises:
        UserError: no such file, or none that torch can read.

    >>> load_exported("network.pt2")
    Traceback (most recent call last):
    secateur.errors.UserError: there is no file 'network.pt2' (name a file that secateur export wrote)
    """
    if not Path(path).is_file():
        raise UserError(f"there is no file '{path}'", hint="name a file that secateur export wrote")
    try:
        return torch.export.load(path).module()
    except Exception as error:
        # What torch raises on damaged archives is not documented.
        raise UserError(
            f"'{path}' cannot be read: {type(error).__name__}: {first_line(error, '')}",
            hint="name a file that secateur export wrote with this version of torch",
        ) from error


def _open_pt2(path: Path, threads: int) -> Run:
    module = torch.export.load(path).module()

    def run(inputs: Any) -> list[Tensor]:
        with torch.no_grad():
            return tensors_in(call_model(module, inputs))

    return run


def _write_onnx(program: ExportedProgram, path: Path, shapes: Any) -> None:
    count = len(program.graph_signature.user_outputs)
    names = ["logits"] if count == 1 else [f"output_{index}" for index in range(count)]
    with quiet():
        written = torch.onnx.export(
            program, dynamo=True, verbose=False, dynamic_shapes=shapes, output_names=names
        )
    assert written is not None
    written.save(path)


def _open_onnx(path: Path, threads: int) -> Run:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    # onnxruntime would use all cores, whatever torch was told.
    options.intra_op_num_threads = threads
    try:
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base
        raise UserError(
            f"onnxruntime cannot run the exported {path.name} on a CPU: {first_line(error)[:300]}",
            hint="it lacks some operations in half precision: export a copy in float32",
        ) from error
    names = [item.name for item in session.get_inputs()]

    def run(inputs: Any) -> list[Tensor]:
        tensors = named_inputs(inputs)
        # Positional arguments have no names; the file lists its inputs in the same order.
        given: Mapping[str, Tensor] = (
            tensors if isinstance(inputs, dict) else dict(zip(names, tensors.values(), strict=True))
        )
        found = session.run(None, {name: given[name].numpy() for name in names})
        return [torch.from_numpy(item) for item in found]

    return run


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' log messages and warnings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


FORMATS = {
    ".onnx": Format("ONNX", _write_onnx, _open_onnx, _ONNX, "onnxruntime"),
    ".pt2": Format("torch.export", _write_pt2, _open_pt2, (), "torch.export"),
}
