"""What is known about an exported file: the JSON record and the Markdown card written beside it."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.exports.costs import Cost
from secateur.models import Latency
from secateur.text import counted


@dataclass(frozen=True)
class Input:
    """An input of the file; a dynamic dimension is a word instead of a size."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True)
class Exported:
    """An exported file that was checked against the model, and its measurements.

    ``max_error`` is the largest difference between its outputs and the model's, relative to the model's
    largest output, over random inputs of the batch sizes ``checked`` drawn from ``seed``. ``networks`` holds
    parameters, multiply-adds per image and weight bytes by name of network; ``costs`` their latency and peak
    memory, and the latency of the file.

    >>> exported = Exported(
    ...     Path("net.onnx"), "ONNX", "ab12", 1024, True, (), 1e-7, 1e-4, (1, 5), 1, {}, (), "cpu", {}, ()
    ... )
    >>> exported.summary()
    "net.onnx: within 1.0e-07 of the model's largest output on random batches of 1, 5"
    """

    path: Path
    format: str
    sha256: str
    size: int
    dynamic_batch: bool
    inputs: tuple[Input, ...]
    max_error: float
    tolerance: float
    checked: tuple[int, ...]
    seed: int
    networks: Mapping[str, Mapping[str, int]]
    costs: tuple[Cost, ...]
    device: str
    versions: Mapping[str, str]
    plans: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The record written beside the file."""
        return {
            "schema_version": 1,
            "file": self.path.name,
            "format": self.format,
            "sha256": self.sha256,
            "bytes": self.size,
            "dynamic_batch": self.dynamic_batch,
            "inputs": [vars(item) | {"shape": list(item.shape)} for item in self.inputs],
            "check": {
                "max_error": self.max_error,
                "tolerance": self.tolerance,
                "batch_sizes": list(self.checked),
                "seed": self.seed,
            },
            "networks": {name: dict(facts) for name, facts in self.networks.items()},
            "costs": [cost.to_json() for cost in self.costs],
            "device": self.device,
            "machine": platform.machine(),
            "versions": dict(self.versions),
            "plans": list(self.plans),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """A table: counts and measurements in rows, one column per network, and the fraction left."""
        names = list(self.networks)
        rows = [
            (title, *(f"{self.networks[name][key]:,}" for name in names), self._left(key))
            for title, key in (("parameters", "parameters"), ("multiply-adds", "macs"), ("bytes", "bytes"))
        ]
        for batch in sorted({cost.batch for cost in self.costs}):
            of = {cost.network: cost for cost in self.costs if cost.batch == batch}
            times, peaks = [of[n].latency for n in names], [of[n].peak_bytes or 0 for n in names]
            rows.append((f"latency, batch {batch}", *map(str, times), _share(times)))
            blank = [""] * (len(names) - 1)
            rows += [
                (f"  in {name}", *blank, str(cost.latency), "")
                for name, cost in of.items()
                if name not in names
            ]
            left = f"{peaks[-1] / peaks[0]:.1%}" if len(names) > 1 else ""
            rows.append((f"peak memory, batch {batch}", *(f"{peak / 2**20:.1f} MiB" for peak in peaks), left))
        return rows

    def _left(self, key: str) -> str:
        counts = [facts[key] for facts in self.networks.values()]
        return f"{counts[-1] / max(counts[0], 1):.1%}" if len(counts) > 1 else ""

    def summary(self) -> str:
        """One sentence: how closely the file reproduces the model."""
        sizes = ", ".join(map(str, sorted(self.checked)))
        return (
            f"{self.path.name}: within {self.max_error:.1e} of the model's largest output "
            f"on random batches of {sizes}"
        )

    def conditions(self) -> str:
        """One sentence: how latency and memory were measured."""
        threads = self.costs[0].latency.threads if self.costs else 0
        return (
            f"Latency: median per batch (quartiles), {counted(threads, 'CPU thread')}, "
            f"model on {self.device}; a question mark where quartiles overlap. "
            "Peak memory: weights, inputs and all results alive at the same time."
        )

    def card(self) -> str:
        """The record as Markdown."""
        header = ("", *self.networks, "left" if len(self.networks) > 1 else "")
        lines = [
            f"# {self.path.name}",
            "",
            f"{self.format}, {self.size:,} bytes, sha256 `{self.sha256}`. {self.summary()}; "
            f"tolerance {self.tolerance:g}. "
            f"{'Any batch size' if self.dynamic_batch else f'Batches of {self.checked[0]} only'}. "
            f"Written with {', '.join(f'{name} {number}' for name, number in self.versions.items())}.",
            "",
            *("| " + " | ".join(row) + " |" for row in (header, ("---",) * len(header), *self.rows())),
            "",
            *([self.conditions(), ""] if self.costs else []),
        ]
        return "\n".join(lines)


def _share(times: list[Latency]) -> str:
    """The last latency as a fraction of the first, with a question mark where the quartiles overlap."""
    if len(times) < 2:
        return ""
    first, last = times[0], times[-1]
    # Overlapping quartiles: the difference may be noise.
    apart = last.high < first.low or first.high < last.low
    return f"{last.median / first.median:.1%}{'' if apart else ' ?'}"
