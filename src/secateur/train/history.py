"""What a training records beside the weights."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

# A robust accuracy below this share of the best so far counts as a collapse, not as noise.
COLLAPSE = 0.5


@dataclass(frozen=True)
class Epoch:
    """One epoch. ``loss`` and ``train_accuracy`` are means over the batches during training.

    Under an adversarial recipe they are those of the adversarial images, and ``robust_accuracy`` is the
    accuracy on the validation images under the recipe's adversary (with ten steps, if the recipe takes one);
    otherwise it is None. Accuracies are in [0, 1].

    >>> Epoch(epoch=1, loss=2.1, train_accuracy=0.3, validation_accuracy=0.4, learning_rate=0.1).epoch
    1
    """

    epoch: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    learning_rate: float
    robust_accuracy: float | None = None


def collapsed(epochs: Sequence[Epoch]) -> tuple[int, ...]:
    """Epochs whose robust accuracy is below half of the best before: catastrophic overfitting.

    A network trained against a single step can lose all robustness from one epoch to the next while its clean
    accuracy rises (Wong et al. 2020, section 5).

    >>> robust = [0.30, 0.35, 0.02, 0.33]
    >>> collapsed([Epoch(i, 1.0, 0.5, 0.5, 0.1, share) for i, share in enumerate(robust, start=1)])
    (3,)
    """
    best, found = 0.0, []
    for epoch in epochs:
        if epoch.robust_accuracy is not None:
            if epoch.robust_accuracy < COLLAPSE * best:
                found.append(epoch.epoch)
            best = max(best, epoch.robust_accuracy)
    return tuple(found)


@dataclass(frozen=True)
class History:
    """A whole training. ``best_epoch`` counts from 1, and is 0 if the starting weights were kept.

    ``outcome`` is "diverged" if a loss was not finite: the training stopped there, ``epochs`` holds the
    finished epochs, and the model has the weights of the best of them. Epochs named by ``collapsed`` are
    never the best. ``parts`` is above 1 if memory ran short: batches then went through the network in so many
    parts, whose gradients were summed, which changes numbers by no more than rounding.

    >>> History((), best_epoch=0, outcome="diverged").sentence
    'the loss was not finite in epoch 1; nothing was learned'
    """

    epochs: tuple[Epoch, ...]
    best_epoch: int
    outcome: Literal["completed", "diverged"] = "completed"
    parts: int = 1

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        if self.outcome == "diverged":
            return f"the loss was not finite in epoch {len(self.epochs) + 1}; " + (
                f"the weights are those of epoch {self.best_epoch}"
                if self.best_epoch
                else "nothing was learned"
            )
        return f"epochs trained: {len(self.epochs)}; the weights are those of epoch {self.best_epoch}"

    def to_json(self) -> dict[str, Any]:
        """Plain data for a record."""
        return {
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best_epoch": self.best_epoch,
            "outcome": self.outcome,
            "collapsed": list(collapsed(self.epochs)),
        }
