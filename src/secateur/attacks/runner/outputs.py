"""Which part of a network's answer are its logits, and how a single number becomes two of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from secateur.attacks.runner.batching import out_of_memory
from secateur.budgets import plain
from secateur.errors import UserError
from secateur.graph.trace.input_tree import named_output
from secateur.graph.trace.input_tree import parts as parts_of
from secateur.text import first_line

Logits = str | int | Callable[[Any], Any] | None
"""Name or place of the logits in an answer, or a function from the answer to them; None finds them."""
Pick = Callable[[Any], Any]
_THROUGH = ("View", "Squeeze", "Unsqueeze", "Reshape", "Select", "Alias", "Clone", "ToCopy", "Transpose",
            "Permute", "Slice", "Expand", "UnsafeView")  # fmt: skip
"""Operations that only arrange numbers anew, by the beginnings of their names in a graph."""


@dataclass(frozen=True)
class Reading:
    """How an answer becomes logits [N, K]: ``pick`` takes a part of it, ``single`` says what one number is.

    ``said`` are the sentences on what was taken.

    >>> Reading(lambda answer: answer["z"], "logit")({"z": torch.tensor([0.5])})
    tensor([[0.0000, 0.5000]])
    """

    pick: Pick
    single: Literal["no", "logit", "probability"] = "no"
    said: tuple[str, ...] = ()

    def __call__(self, answer: Any) -> Tensor:
        """Logits [N, K] in floating point."""
        value: Tensor = _rows(self.pick(answer))
        # Votes and counts are scores as well; they have no gradient.
        value = value if value.is_floating_point() else value.to(torch.float32)
        if self.single == "no":
            return value
        value = value.reshape(len(value), 1)
        if self.single == "probability":
            step = torch.finfo(value.dtype)
            value = value.clamp(step.tiny, 1 - step.eps / 2)
            value = value.log() - (-value).log1p()
        return torch.cat((torch.zeros_like(value), value), 1)


def reading_of(answer: Any, n: int, logits: Logits) -> Reading:
    """How to read the ``answer`` to ``n`` images; a single number per image is read as a logit.

    Raises:
        UserError: no such part, no part or several that may be the logits, or something else than one row of
            numbers per image.

    >>> reading_of({"loss": torch.zeros(()), "logits": torch.zeros(2, 3)}, 2, None).said
    ("the network answers with loss, logits: 'logits' is attacked",)
    """
    pick, said = _pick(answer, n, plain(logits))
    found = pick(answer)
    value = _rows(found)
    if not isinstance(value, Tensor):
        raise _no_logits(answer, n, f"a {type(found).__name__}")
    if value.ndim == 0 or len(value) != n or value.is_complex():
        raise _no_logits(answer, n, f"{list(value.shape)}")
    if value.ndim > 2:
        raise UserError(
            f"the network answers {n} images with {list(value.shape)}, not with one row of logits per image",
            hint="say how a row of them comes about, as in logits=lambda answer: answer.mean((2, 3))",
        )
    if value.ndim == 2 and value.shape[1] > 1:
        whole = not value.is_floating_point()
        votes = ("the network answers in whole numbers, which have no gradient: they are taken as scores",)
        return Reading(pick, said=said + (votes if whole else ()))
    if not value.is_floating_point():
        raise UserError(
            f"the network answers {n} images with {n} whole numbers, the classes themselves",
            hint="attacks need one score per class: leave out argmax",
        )
    one = "the network answers with one number z per image: it is attacked as the two logits [0, z]"
    return Reading(pick, "logit", (*said, one))


def of_single(reading: Reading, answer: Any, *, given: bool) -> Reading:
    """Whether the single number of an ``answer`` with its graph is a logit or a probability.

    Args:
        reading: as ``reading_of`` found it.
        answer: to several images, with the graph of autograd.
        given: whether the caller says how logits are read; then they are logits.

    Raises:
        UserError: all numbers lie in [0, 1], and the graph does not end in a sigmoid.

    >>> z = torch.tensor([0.3, 0.6], requires_grad=True)
    >>> of_single(reading_of(z.sigmoid(), 2, None), z.sigmoid(), given=False).single
    'probability'
    """
    if reading.single == "no" or given:
        return reading
    value = reading.pick(answer)
    if _ends_in_sigmoid(value):
        said = (
            "the network answers with one probability p per image: "
            "it is attacked as the logits [0, log(p / (1 - p))]"
        )
        return Reading(reading.pick, "probability", (*reading.said[:-1], said))
    values = _rows(value).detach()
    if bool(((values >= 0) & (values <= 1)).all()):
        raise UserError(
            f"the network answers {len(values)} images with one number each, all from 0 to 1: "
            "logits or probabilities?",
            hint="say which: logits=lambda z: z for logits, logits=torch.logit for probabilities",
        )
    return reading


def _pick(answer: Any, n: int, logits: Logits) -> tuple[Pick, tuple[str, ...]]:
    if callable(logits):
        return _told(logits), ()
    if isinstance(answer, Tensor | np.ndarray) and logits is None:
        return _itself, ()
    if logits is not None:
        named_output(answer, logits)
        return lambda given: named_output(given, logits), ()
    parts = list(_tensors(answer, ()))
    if not parts:
        raise _no_logits(answer, n, f"a {type(answer).__name__}")
    names = ", ".join(_spelled(path) for path, _ in parts)
    path = ("logits",) if any(path == ("logits",) for path, _ in parts) else _only(answer, parts, n)
    said = f"the network answers with {names}: '{_spelled(path)}' is attacked"
    return lambda given: reduce(named_output, path, given), (said,) if len(parts) > 1 else ()


def _told(function: Pick) -> Pick:
    """A function of the user's, whose errors are not those of the network."""

    def pick(answer: Any) -> Any:
        try:
            return function(answer)
        except Exception as error:
            if out_of_memory(error):
                raise
            raise UserError(
                f"the function logits fails on the network's answer, of type {type(answer).__name__}: "
                f"{type(error).__name__}: {first_line(error, '')}",
                hint="it gets what the network returns, and returns logits [N, K] or [N]",
            ) from error

    return pick


def _only(answer: Any, parts: list[tuple[tuple[Any, ...], Tensor]], n: int) -> tuple[Any, ...]:
    """The path of the only part that looks like logits: [n, K], or else one number per image."""
    floating = [(path, part) for path, part in parts if part.is_floating_point()] or parts
    rows = [path for path, part in floating if part.ndim == 2 and len(part) == n and part.shape[1] > 1]
    single = [path for path, part in floating if part.shape in ((n,), (n, 1))]
    likely = rows or single
    if len(likely) == 1:
        return likely[0]
    shapes = ", ".join(f"{_spelled(path)} {list(part.shape)}" for path, part in parts)
    if not likely:
        raise _no_logits(answer, n, shapes)
    first = likely[0][0] if len(likely[0]) == 1 else None
    word = repr(first) if first is not None else "lambda answer: answer[0][0]"
    raise UserError(
        f"the network answers {n} images with {shapes}: several may be its logits",
        hint=f"say which, as in logits={word}",
        command="" if first is None else f"say which, as in --logits {first}",
    )


def _no_logits(answer: Any, n: int, seen: str) -> UserError:
    several = not isinstance(answer, Tensor) and bool(parts_of(answer))
    hint = "a classifier returns logits [N, K], K ≥ 2"
    how = "logits=... names the part that holds them, or is a function from the answer to them"
    return UserError(f"the model answered {n} images with {seen}", hint=f"{hint}; {how}" if several else hint)


def _tensors(answer: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    if isinstance(answer, Tensor):
        yield path, answer
        return
    for name, part in parts_of(answer).items():
        yield from _tensors(part, (*path, name))


def _spelled(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _itself(answer: Any) -> Any:
    return answer


def _rows(value: Any) -> Any:
    """Numbers of NumPy as a tensor; [N, K, 1, 1], as fully convolutional networks answer, as [N, K]."""
    value = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
    if isinstance(value, Tensor) and value.ndim > 2 and value.shape[2:].numel() == 1:
        return value.flatten(1)
    return value


def _ends_in_sigmoid(value: Any) -> bool:
    node = getattr(value, "grad_fn", None)
    while node is not None:
        name = type(node).__name__
        if name.startswith("SigmoidBackward"):
            return True
        if not name.startswith(_THROUGH) or not node.next_functions:
            return False
        node = node.next_functions[0][0]
    return False
