"""Where in an epoch a training is: kept so that a step can be undone, or taken up by another process."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from secateur.hashing import stream


@dataclass(frozen=True, eq=False)
class Moment:
    """The moment before step ``step``, which counts from 0, of epoch ``epoch``, which counts from 1.

    Attributes:
        epoch: the epoch that is under way.
        step: the batches of it that are done.
        streams: the states of its random streams.
        loss_sum: the sum of the losses of its images so far.
        correct: its correct predictions so far.
    """

    epoch: int
    step: int
    streams: Mapping[str, Tensor]
    loss_sum: Tensor
    correct: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it, beside epoch and step."""
        sums = {"loss_sum": self.loss_sum, "correct": self.correct}
        return {**sums, **{f"streams/{name}": state for name, state in self.streams.items()}}

    @classmethod
    def from_tensors(cls, epoch: int, step: int, tensors: Mapping[str, Tensor]) -> "Moment":
        """The inverse of :meth:`tensors`."""
        prefix = "streams/"
        # Where the images are trained on does not matter: these states belong to the CPU.
        streams = {n.removeprefix(prefix): t.cpu() for n, t in tensors.items() if n.startswith(prefix)}
        return cls(epoch, step, streams, tensors["loss_sum"], tensors["correct"])


class Streams:
    """The random streams of an epoch: transforms, adversary, and the global one, from which dropout draws."""

    def __init__(self, seed: int, epoch: int, device: torch.device) -> None:
        self.device = device
        self.transforms = stream(seed, "augment", epoch)
        self.adversary = stream(seed, "adversary", epoch)
        torch.manual_seed(stream(seed, "model", epoch).initial_seed())

    def states(self) -> dict[str, Tensor]:
        """Where each of them is."""
        found = {name: generator.get_state() for name, generator in self._own().items()}
        found["global"] = torch.get_rng_state()
        if self.device.type == "cuda":
            found["cuda"] = torch.cuda.get_rng_state(self.device)
        return found

    def restore(self, states: Mapping[str, Tensor]) -> None:
        """Go back, or forward, to ``states``."""
        for name, generator in self._own().items():
            generator.set_state(states[name])
        torch.set_rng_state(states["global"])
        if self.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.device)

    def _own(self) -> dict[str, Generator]:
        return {"transforms": self.transforms, "adversary": self.adversary}


class Buffers:
    """A copy of the buffers of a model, which its forward passes change: running statistics and counters."""

    def __init__(self, model: nn.Module) -> None:
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for buffer in model.buffers():
            kinds.setdefault(buffer.dtype, []).append(buffer.detach())
        # In lists of one type, which are copied by one kernel instead of one each.
        self._own = list(kinds.values())
        self._spare = [[buffer.clone() for buffer in kind] for kind in self._own]

    def keep(self) -> None:
        """Copy them."""
        _copy(self._own, self._spare)

    def restore(self) -> None:
        """Undo what was done to them since they were kept."""
        _copy(self._spare, self._own)


def _copy(source: list[list[Tensor]], target: list[list[Tensor]]) -> None:
    with torch.no_grad():
        for old, new in zip(source, target, strict=True):
            torch._foreach_copy_(new, old)
