"""What a check measures of one network: its predictions, and its attacks. Finished parts are remembered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from secateur import evaluate
from secateur.budgets import NORM_KEYS, counts
from secateur.data import Dataset
from secateur.decision.folder import remembered
from secateur.decision.images import Images

Tick = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Measured:
    """One network: its class for every test image, and the record of an attack per norm.

    ``folder`` holds the records and the adversarial examples.
    """

    predicted: Tensor
    attacks: Mapping[str, Mapping[str, Any]]
    folder: Path

    def adversarial(self, norm: str, sample: Dataset) -> Tensor:
        """The attacked images [n, C, H, W], with the example where one was found."""
        saved = load_file(self.folder / f"{norm}.safetensors")
        images = sample.x.clone()
        images[saved["index"]] = saved["adv"].to(images.dtype)
        return images


@dataclass(frozen=True)
class Attacks:
    """How a check attacks: one attack, the budgets of robust accuracy by norm, settings, and the seed."""

    name: str
    budgets: Mapping[str, Sequence[float]]
    settings: Mapping[str, Any]
    seed: int


NORMS = {key: norm for norm, key in NORM_KEYS.items() if not counts(norm)}


def measure(
    model: nn.Module, images: Images, sample: Dataset, attacks: Attacks, *, folder: Path, tick: Tick
) -> Measured:
    """Classify all test images, and attack the ``sample`` of them in every norm.

    Args:
        model: in evaluation mode.
        images: all test images among them.
        sample: those that are attacked.
        attacks: the attack and its budgets.
        folder: where finished parts are kept.
        tick: called with the part, the queries done and the queries expected.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def classify() -> dict[str, Any]:
        return {"predicted": images.predicted(model).tolist()}

    tick("predictions", 0, 1)
    predicted = remembered(folder / "predictions.json", classify)["predicted"]
    tick("predictions", 1, 1)
    records = {}
    for norm, budgets in attacks.budgets.items():

        def attack(norm: str = norm, budgets: Sequence[float] = budgets) -> dict[str, Any]:
            found = evaluate.attack(
                model,
                sample,
                attacks.name,
                norm=NORMS[norm],
                seed=attacks.seed,
                budgets=list(budgets),
                on_progress=lambda done, total: tick(norm, done, total),
                **attacks.settings,
            )
            evaluate.save_examples(found, folder / f"{norm}.safetensors")
            return found.to_json()

        # The record is written last; without the examples it is made again.
        if not (folder / f"{norm}.safetensors").is_file():
            (folder / f"{norm}.json").unlink(missing_ok=True)
        records[norm] = remembered(folder / f"{norm}.json", attack)
        tick(norm, 1, 1)
    return Measured(torch.tensor(predicted, dtype=torch.int64), records, folder)
