"""One adapter in front of attacks and checks: whatever people hand over, as images to logits [N, K].

A network that already is what attacks expect passes as it is. Any other is wrapped: a function, a dictionary
or a single number for an answer, half precision, an input that is overwritten, a fixed batch size.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.attacks.runner.batching import no_room, out_of_memory
from secateur.attacks.runner.modules import Held, as_module
from secateur.attacks.runner.outputs import Logits, Reading, of_single, reading_of
from secateur.errors import UserError
from secateur.models.weights import Placed, fails_on, place_of
from secateur.undisturbed import undisturbed

EXACT = (torch.float32, torch.float64)
"""Precisions in which attacks compute."""
FLOATS = (*EXACT, torch.bfloat16, torch.float16)
PROBED = 64
"""Images that tell a logit from a probability where a network answers with one number."""


@dataclass(frozen=True)
class _Ways:
    """How a network is asked: in which precision, on a copy of the images, in batches of a fixed size."""

    takes: torch.dtype
    device: torch.device
    copies: bool = False
    rows: int | None = None
    answers: torch.dtype = torch.float32

    @property
    def precision(self) -> torch.dtype:
        """The coarser precision of what the network takes and what it answers."""
        return max(self.takes, self.answers, key=lambda each: torch.finfo(each).eps)


class Classifier(Placed):
    """A network as attacks see it: images [N, ...] in float32 or float64 to logits [N, K] in one of them.

    ``said`` holds one sentence for everything that was taken or changed.

    >>> model = lambda x: {"logits": x.flatten(1), "loss": None}
    >>> network = classifier(model, torch.rand(2, 1, 1, 3))
    >>> network(torch.zeros(4, 1, 1, 3)).shape
    torch.Size([4, 3])
    """

    def __init__(self, network: nn.Module, ways: _Ways, reading: Reading) -> None:
        dtype = ways.takes if ways.takes in EXACT else torch.float32
        super().__init__(ways.device, dtype)
        self.network, self.ways, self.reading = network, ways, reading

    @property
    def said(self) -> tuple[str, ...]:
        """What was taken of the network's answer, and what was changed."""
        ways, found = self.ways, list(self.reading.said)
        if isinstance(self.network, Held) and self.network.said:
            found.insert(0, self.network.said)
        if ways.takes not in EXACT:
            name = str(ways.takes).removeprefix("torch.")
            found.append(f"the network computes in {name}: images are rounded to it, attacks run in float32")
        if ways.copies:
            found.append("the network writes into its input: it is given copies")
        if ways.rows is not None:
            found.append(f"the network takes batches of {ways.rows}: smaller ones are filled up")
        return tuple(found)

    @property
    def given(self) -> nn.Module:
        """The network as it was handed over; of a function, the networks that it uses."""
        first = self.network.held[0] if isinstance(self.network, Held) else self.network
        return first if isinstance(first, nn.Module) else self.network

    def around(self, network: nn.Module) -> "Classifier":
        """Another network, asked and read in the same way."""
        return Classifier(network, self.ways, self.reading)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, K] for ``x`` [N, ...]."""
        given = x.to(self.ways.device, self.ways.takes)
        if self.ways.rows is None:
            logits = self._asked(given)
        else:
            logits = torch.cat(
                [self._filled(part, self.ways.rows) for part in torch.split(given, self.ways.rows)]
            )
        # Losses are computed in the precision of the logits.
        return logits.to(x.device, logits.dtype if logits.dtype in EXACT else x.dtype)

    def _filled(self, part: Tensor, rows: int) -> Tensor:
        more = part[:1].expand(rows - len(part), *part.shape[1:])
        return self._asked(torch.cat((part, more)))[: len(part)]

    def _asked(self, x: Tensor) -> Tensor:
        return self.reading(self.network(x.clone() if self.ways.copies else x))


@contextmanager
def gradients_allowed() -> Iterator[None]:
    """Gradients inside, in full precision, whatever the caller has switched off or on."""
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        # Autocast of the network's own stays on.
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def classifier(
    model: Any, x: Tensor, *, logits: Logits = None, batch_size: int = 256, data: str = "the data"
) -> nn.Module:
    """``model`` as images to logits: itself if it is that already, else a ``Classifier``.

    It is asked about two images, in evaluation mode, and left as it was.

    Args:
        model: a network, or a function from images to its answer; networks that a function uses are found in
            its closure, its globals and its attributes.
        x: images [N, ...] that it will be asked about.
        logits: which part of the answer counts: a key, a field, an index, or a function from the answer to
            logits [N, K] or [N]. By default the answer itself, its part "logits", or its only part of shape
            [N, K].
        batch_size: tried where the network does not take two images at once.
        data: what the images are called in errors.

    Raises:
        UserError: a model that cannot be called or fails on the images, or an answer without logits.

    >>> one = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    >>> _ = nn.init.constant_(one[1].bias, -9.0)  # no z lies in [0, 1], as a probability would
    >>> classifier(one, torch.rand(3, 1, 2, 2)).said
    ('the network answers with one number z per image: it is attacked as the two logits [0, z]',)
    """
    # Runs and checks hand the same network on.
    if isinstance(model, Classifier):
        return model if logits is None else classifier(model.network, x, logits=logits, batch_size=batch_size)
    module = as_module(model)
    with undisturbed(module), gradients_allowed():
        module.eval()
        ways, answer, count = _asked(module, x, logits, batch_size, data)
        reading = reading_of(answer, count, logits)
        if reading.single != "no":
            reading = _single(module, x, ways, reading, given=callable(logits))
    device, dtype = place_of(module, x)
    usual = _Ways(dtype, device, answers=ways.answers)
    if isinstance(answer, Tensor) and ways == usual and not isinstance(module, Held):
        exact = usual.takes in EXACT and answer.dtype in EXACT
        if exact and answer.ndim == 2 and answer.shape[1] > 1 and not callable(logits):
            return module
    return Classifier(module, ways, reading)


def _asked(
    module: nn.Module, x: Tensor, logits: Logits, batch_size: int, data: str
) -> tuple[_Ways, Any, int]:
    """The first way of asking that works, the answer, and the number of images it answers.

    Raises:
        UserError: none does; says why the first one failed.
    """
    device, first = place_of(module, x)[0], None
    # One image alone where memory has no room for two.
    for rows, count in ((None, 2), (None, 1), *((size, size) for size in _fixed_sizes(module, batch_size))):
        if count == 1 and rows is None and (first is None or not out_of_memory(first)):
            continue
        for takes in _precisions(module, x):
            images = _images(x, count).to(device, takes)
            before, version = images.clone(), images._version
            try:
                with torch.no_grad():
                    answer = module(images)
                reading = reading_of(answer, count, logits)
            except Exception as error:
                # An odd network may raise anything; what it says of two images in its own precision is told.
                first = first or error
                continue
            wrote = images._version != version or not torch.equal(images, before)
            kind = reading(answer).dtype
            return _Ways(takes, device, copies=wrote, rows=rows, answers=kind), answer, count
        if rows is None and count == 1:
            break
    if isinstance(first, UserError):
        raise first
    if first is not None and out_of_memory(first):
        raise no_room() from first
    raise fails_on(x, data, first) from first


def _images(x: Tensor, count: int) -> Tensor:
    """The first images, repeated if there are too few, as an ordinary tensor that may be overwritten."""
    return x.detach()[torch.arange(count, device=x.device) % len(x)]


def _fixed_sizes(module: nn.Module, batch_size: int) -> list[int]:
    """Batch sizes to try where two images fail: that of an exported network, 1, the caller's."""
    inside = [each for each in getattr(module, "held", (module,)) if isinstance(each, nn.Module)]
    stated = []
    for graph in (getattr(part, "graph", None) for each in inside for part in each.modules()):
        # Scripted modules have a method of that name.
        for node in graph.nodes if isinstance(graph, torch.fx.Graph) else ():
            shape = getattr(node.meta.get("val"), "shape", ()) if node.op == "placeholder" else ()
            if shape and isinstance(shape[0], int):
                stated.append(shape[0])
    return list(dict.fromkeys([*stated[:1], 1, batch_size]))


def _precisions(module: nn.Module, x: Tensor) -> list[torch.dtype]:
    """Precisions to try, in order: that of all parameters if it is one, else those that occur.

    A network of several is given images in float32 where it takes them; one without parameters in that of
    the images.
    """
    seen = {each.dtype for each in module.parameters() if each.is_floating_point()}
    if len(seen) == 1:
        return [*seen] if seen <= set(EXACT) else [*seen, torch.float32]
    if not seen:
        return [x.dtype, *(each for each in FLOATS if each != x.dtype)]
    return [torch.float32, *(each for each in FLOATS[1:] if each in seen)]


def _single(module: nn.Module, x: Tensor, ways: _Ways, reading: Reading, *, given: bool) -> Reading:
    """As ``of_single``, for an answer with its graph to more images."""
    if given:
        return reading
    images = _images(x, ways.rows or min(PROBED, len(x))).to(ways.device, ways.takes).requires_grad_(True)
    with torch.enable_grad():
        answer = module(images.clone())
    return of_single(reading, answer, given=False)
