"""What a training leaves behind beside the weights."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

COMPLETED = "completed"
DIVERGED = "diverged"


@dataclass(frozen=True)
class Epoch:
    """One epoch. ``loss`` and ``train_accuracy`` are means over the batches as they were trained on.

    For an adversarial recipe these are adversarial images, and ``robust_accuracy`` is the accuracy on the
    validation images perturbed by the recipe's adversary; otherwise it is None.
    """

    epoch: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    learning_rate: float
    robust_accuracy: float | None = None


@dataclass(frozen=True)
class History:
    """A whole training. ``best_epoch`` counts from 1, and is 0 where the starting weights were kept.

    ``outcome`` is "diverged" if a loss was not finite: the training stopped there, ``epochs`` holds the
    finished epochs, and the model has the weights of the best of them.
    """

    epochs: tuple[Epoch, ...]
    best_epoch: int
    outcome: Literal["completed", "diverged"] = "completed"

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        if self.outcome == DIVERGED:
            return f"the loss was not finite in epoch {len(self.epochs) + 1}; " + (
                f"the weights are those of epoch {self.best_epoch}"
                if self.best_epoch
                else "nothing was learned"
            )
        return f"{len(self.epochs)} epochs; the weights are those of epoch {self.best_epoch}"

    def to_json(self) -> dict[str, Any]:
        """Plain data for a record."""
        return {
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best_epoch": self.best_epoch,
            "outcome": self.outcome,
        }
