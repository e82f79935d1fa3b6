"""What a training leaves behind beside the weights."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

# A robust accuracy under this share of the best before it is a collapse, not noise.
COLLAPSE = 0.5


@dataclass(frozen=True)
class Epoch:
    """One epoch. ``loss`` and ``train_accuracy`` are means over the batches as they were trained on.

    For an adversarial recipe these are adversarial images, and ``robust_accuracy`` is the accuracy on the
    validation images under the recipe's adversary (ten steps, if the recipe takes one); otherwise it is None.
    """

    epoch: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    learning_rate: float
    robust_accuracy: float | None = None


def collapsed(epochs: Sequence[Epoch]) -> tuple[int, ...]:
    """Epochs whose robust accuracy is under half of the best before: catastrophic overfitting.

    Training against a single step can suddenly lose all robustness while the clean accuracy rises (Wong et
    al. 2020, section 5).
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
    """A whole training. ``best_epoch`` counts from 1, and is 0 where the starting weights were kept.

    ``outcome`` is "diverged" if a loss was not finite: the training stopped there, ``epochs`` holds the
    finished epochs, and the model has the weights of the best of them. Epochs that ``collapsed`` names are
    never the best.
    """

    epochs: tuple[Epoch, ...]
    best_epoch: int
    outcome: Literal["completed", "diverged"] = "completed"

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
