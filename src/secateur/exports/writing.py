"""Export a network to a file: written, checked on random inputs, measured, and described."""

import copy
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from secateur import measure
from secateur.errors import ExitCode, UserError
from secateur.exports.costs import measure_costs, to_model_device
from secateur.exports.formats import Format, Run, format_of, quiet
from secateur.exports.inputs import batch_input_specs, dynamic_shapes, has_batch_dim, random_batch
from secateur.exports.record import Exported, Input
from secateur.graph.trace.example_inputs import Inputs
from secateur.graph.trace.input_tree import as_call, call_model, tensors_in
from secateur.hashing import file_sha256
from secateur.models import device_of
from secateur.pruning import history
from secateur.text import first_line

# Batch sizes of the check besides that of the example, and the seed of its inputs.
_CHECKED, _SEED = (1, 5), 1


def export(
    model: nn.Module,
    path: str | Path,
    example_inputs: Any,
    *,
    before: nn.Module | None = None,
    batch_sizes: Sequence[int] = (1, 32),
    seconds: float = 1.0,
    threads: int | None = None,
    tolerance: float = 1e-4,
    dynamic_batch: bool = True,
    overwrite: bool = False,
) -> Exported:
    """Write the model as ONNX (``.onnx``) or ``torch.export`` (``.pt2``), and check the file.

    The file is loaded again and compared with the model on random inputs of several batch sizes; a file that
    fails is not kept. Beside it are written ``FILE.json``, the record, and ``FILE.md``, its card.

    Args:
        model: exported in evaluation mode from a copy on the CPU; left unchanged.
        path: ends in ``.onnx`` (needs the extra ``[onnx]``) or ``.pt2``.
        example_inputs: as for ``trace``.
        before: the network before pruning, measured beside the model.
        batch_sizes: for latency and peak memory, on the model's device; empty to measure nothing. Without a
            dynamic batch, the batch of the example is measured.
        seconds: time to measure each network and batch size.
        threads: of the CPU while measuring; torch's current number by default.
        tolerance: the largest accepted difference, relative to the largest output.
        dynamic_batch: whether the file accepts any batch size, or only that of the example inputs.
        overwrite: whether existing files may be replaced.

    Raises:
        UserError: an unknown suffix, a missing extra (exit code ENVIRONMENT), an existing file, a model that
            cannot be exported, or a file that does not reproduce the model.

    >>> export(nn.Linear(2, 2), "network.txt", torch.rand(1, 2))
    Traceback (most recent call last):
    secateur.errors.UserError: 'network.txt' has no known suffix (use .onnx or .pt2)
    """
    target = Path(path)
    kind = format_of(target)
    if not overwrite and (taken := next((p for p in _files(target) if p.exists()), None)):
        raise UserError(f"'{taken}' exists already", hint="choose another name, or overwrite it")
    inputs = batch_input_specs(example_inputs)
    own = inputs[0].shape[0]
    sizes = (own, *(size for size in _CHECKED if size != own)) if dynamic_batch else (own,)
    networks = {"model": model} if before is None else {"before": before, "after": model}
    with _folder_beside(target) as folder:
        draft = folder / target.name
        error, names = _write(model, kind, draft, inputs, sizes=sizes, tolerance=tolerance)
        measured = measure_costs(
            networks,
            inputs,
            batch_sizes=batch_sizes if dynamic_batch else sizes[: len(batch_sizes)],
            seconds=seconds,
            threads=threads,
            runs={kind.runtime: kind.open(draft, threads or torch.get_num_threads())},
        )
        exported = Exported(
            path=target,
            format=kind.name,
            sha256=file_sha256(draft),
            size=sum(part.stat().st_size for part in folder.iterdir()),
            dynamic_batch=dynamic_batch,
            inputs=tuple(_described(inputs, names, dynamic=dynamic_batch)),
            max_error=error,
            tolerance=tolerance,
            checked=sizes,
            seed=_SEED,
            networks={name: _facts(network, inputs) for name, network in networks.items()},
            costs=tuple(measured),
            device=str(device_of(model)),
            versions=kind.versions(),
            plans=tuple(plan.fingerprint for plan in history(model)),
        )
        record, card = _files(draft)[1:]
        record.write_text(json.dumps(exported.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        card.write_text(exported.card(), encoding="utf-8")
        # Last, when everything has succeeded: a failed export leaves existing files as they were.
        for part in sorted(folder.iterdir()):
            part.replace(target.parent / part.name)
    return exported


def _files(path: Path) -> tuple[Path, Path, Path]:
    """The file, its record and its card."""
    return path, path.with_name(f"{path.name}.json"), path.with_name(f"{path.name}.md")


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """A temporary folder on the same disk, so that finished files only need to be renamed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
            yield Path(folder)
    except OSError as failure:
        raise UserError(
            f"cannot write '{target}': {failure.strerror or failure}",
            hint="choose another place, or make room",
            code=ExitCode.ENVIRONMENT,
        ) from failure


def _write(
    model: nn.Module,
    kind: Format,
    draft: Path,
    inputs: Inputs,
    *,
    sizes: Sequence[int],
    tolerance: float,
) -> tuple[float, Sequence[str]]:
    """Write a draft; return its error relative to the model, and the names of its inputs.

    Raises:
        UserError: the error exceeds the tolerance.
    """
    on_cpu = copy.deepcopy(model).cpu().eval()
    shapes = dynamic_shapes(inputs) if len(sizes) > 1 else None
    program = export_program(on_cpu, inputs, shapes)
    # Before writing: the program shares the tensors of the copy, and exporters may change them.
    known = reference_outputs(on_cpu, inputs, sizes, _SEED)
    kind.write(program, draft, shapes)
    error = max_relative_error(known, kind.open(draft, torch.get_num_threads()))
    if not error <= tolerance:
        raise UserError(
            f"the exported {draft.name} does not reproduce the model: relative error {error:.1e}, "
            f"tolerance {tolerance:g}; the file was not kept",
            hint="models that draw random numbers in evaluation mode cannot be exported",
        )
    # Flags and numbers among the inputs are constants of the file.
    names = [name for name in program.graph_signature.user_inputs if isinstance(name, str)]
    return error, names


def _described(inputs: Inputs, names: Sequence[str], *, dynamic: bool) -> Iterator[Input]:
    for item, name in zip(inputs, names, strict=True):
        free = dynamic and has_batch_dim(item, inputs)
        yield Input(name, ("batch", *item.shape[1:]) if free else item.shape, item.dtype)


def _facts(model: nn.Module, inputs: Inputs) -> dict[str, int]:
    example = to_model_device(model, random_batch(inputs, inputs[0].shape[0], seed=0))
    tensors = [*model.parameters(), *model.buffers()]
    return {
        "parameters": measure.parameters(model),
        "macs": measure.macs(model, example),
        "bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    }


def export_program(model: nn.Module, inputs: Inputs, shapes: Any) -> ExportedProgram:
    """The model as a ``torch.export`` program, with the batch sizes that ``shapes`` allows.

    Raises:
        UserError: ``torch.export`` fails.
    """
    # torch.export would specialise a batch of 1 into a constant.
    size = inputs[0].shape[0] if shapes is None else max(2, inputs[0].shape[0])
    example = random_batch(inputs, size, seed=0)
    arguments, keywords = as_call(example)
    try:
        with quiet():
            return torch.export.export(model, arguments, keywords, dynamic_shapes=shapes)
    except Exception as error:
        raise UserError(
            f"torch.export failed on the model: {type(error).__name__}: {first_line(error)}",
            hint="code such as len(x) fixes the batch size; dynamic_batch=False exports for one batch size"
            if shapes is not None
            else "",
        ) from error


def reference_outputs(
    model: nn.Module, inputs: Inputs, sizes: Sequence[int], seed: int
) -> list[tuple[Any, list[Tensor]]]:
    """Random batches of these sizes with the model's outputs."""
    batches = [random_batch(inputs, size, seed) for size in sizes]
    with torch.no_grad():
        return [(batch, tensors_in(call_model(model, batch))) for batch in batches]


def max_relative_error(known: Sequence[tuple[Any, list[Tensor]]], run: Run) -> float:
    """The largest difference of any output, relative to the largest output of its batch.

    Infinite if outputs are missing, not finite, or of another shape.
    """
    worst = 0.0
    for batch, wanted in known:
        found = [item.detach() for item in run(batch)]
        if [item.shape for item in wanted] != [item.shape for item in found]:
            return math.inf
        largest = max(float(item.abs().max()) for item in wanted)
        error = max(float((a.double() - b.double()).abs().max()) for a, b in zip(wanted, found, strict=True))
        if not math.isfinite(error):
            return math.inf
        worst = max(worst, error / max(largest, 1e-12))
    return worst
