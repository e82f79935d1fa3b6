"""Attacks called by themselves, as in ``secateur.fmn(model, x, y)``, on networks of any answer."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

from secateur.attacks.core.best import StopsEarly
from secateur.attacks.runner.classifier import classifier

P = ParamSpec("P")
R = TypeVar("R")


def adapting(attack: Callable[P, R]) -> Callable[P, R]:
    """``attack`` for networks that answer with a tuple, a dictionary, a ``ModelOutput`` or a single number.

    They are read as by ``secateur.attack``. A network that answers with logits is asked as it was, no more
    often and in the same mode.

    >>> import torch
    >>> from secateur.attacks import ddn
    >>> model = lambda x: {"logits": torch.stack([torch.ones(len(x)), x.sum(1)], 1), "loss": None}
    >>> round(ddn(model, torch.tensor([[0.2, 0.2]]), torch.tensor([0]), steps=100).distance.item(), 2)
    0.42
    """

    @wraps(attack)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        model: Any = args[0] if args else kwargs.get("model")
        if isinstance(model, StopsEarly | _Asked) or not callable(model):
            return attack(*args, **kwargs)
        rest, named = args[1:], {key: value for key, value in kwargs.items() if key != "model"}
        return attack(_Asked(model), *rest, **named)  # type: ignore[arg-type]

    return called


class _Asked:
    """A network that is adapted as soon as an answer is not logits [N, K] in floating point."""

    def __init__(self, model: Callable[[Tensor], Any]) -> None:
        self.model, self.adapted = model, False

    def __call__(self, x: Tensor) -> Tensor:
        answer = self.model(x)
        if self.adapted or (
            isinstance(answer, Tensor)
            and answer.ndim == 2
            and answer.shape[1] > 1
            and answer.is_floating_point()
        ):
            logits: Tensor = answer
            return logits
        self.model, self.adapted = classifier(self.model, x.detach()), True
        return self(x)
