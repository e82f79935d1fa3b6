"""What the progress of a check expects of its parts is what they do, counted in passes of images."""

from collections import Counter

import pytest
import torch
from torch import nn

from secateur import models
from secateur.decision import check
from secateur.decision.costs import parts_of, time_share, tuning_passes
from secateur.recipes import Adversary, Augment, Distillation, Recipe

SIZES = {"train": 900, "validation": 100, "test": 1000, "attacked": 200}
DISTILLED = Recipe(epochs=4, recalibrate=True, distillation=Distillation())
PASSES = Counter()


class Counted(nn.Module):
    """A network that counts its passes: one forward, one for a gradient by images, two for weights."""

    def __init__(self):
        super().__init__()
        self.net = models.resolve("shipped:digits-plain")

    def forward(self, x):
        learns = torch.is_grad_enabled() and any(each.requires_grad for each in self.net.parameters())
        asks = torch.is_grad_enabled() and x.requires_grad
        PASSES["now"] += len(x) * (3 if learns and self.training else 2 if asks else 1)
        return self.net(x)


@pytest.mark.slow
@pytest.mark.parametrize("adversary", [None, Adversary(0.1, 0.125, steps=1)])
def test_every_part_does_what_is_expected_of_it(digits, adversary):
    recipe = Recipe(
        epochs=3, learning_rate=0.01, recalibrate=True, distillation=Distillation(), adversary=adversary
    )
    done, expected = Counter(), {}
    PASSES.clear()

    def told(part, *progress):
        done[part] += PASSES.pop("now", 0)
        expected[part] = progress

    check(
        Counted(), *digits, sparsity=0.2, recipe=recipe, images=100, steps=40,
        budgets={"linf": [0.05], "l2": [0.5]}, on_progress=told,
    )  # fmt: skip
    sizes = {"train": 360, "validation": 40, "test": 120, "attacked": 100}
    options = {"sparsity": 0.2}
    parts = parts_of(recipe, sizes, ("linf", "l2"), options, steps=40, rounds=1, control=False)
    assert [*done] == [*parts]
    share = time_share(options)
    for part, passes in parts.items():
        if "predictions" not in part:
            each = passes / share if "pruned" in part else passes
            # An image that the pruned network gets wrong is not attacked.
            assert done[part] == pytest.approx(each, rel=0.2), part
    # 0 or 1 of the 100 images is wrong without an attack.
    assert expected["pruned l2"] == (pytest.approx(sum(parts.values()), rel=0.01),) * 2


def test_a_fine_tuning_costs_steps_teacher_validation_and_adversary():
    sizes = {"trained": 900, "validated": 100}
    plain = tuning_passes(Recipe(epochs=4), **sizes)
    assert plain == 4 * 900 * 3 + 4 * 100
    # The teacher is shown every image once, augmented ones in every epoch.
    assert tuning_passes(DISTILLED, **sizes) == plain + 900 + 900
    augmented = Recipe(epochs=4, augment=Augment(padding=1), distillation=Distillation())
    assert tuning_passes(augmented, **sizes) == plain + 4 * 900
    # One step each of an adversary, and ten for validation.
    fast = Recipe(epochs=4, adversary=Adversary(0.1, 0.1, steps=1))
    assert tuning_passes(fast, **sizes) == 4 * 900 * 5 + 4 * 100 * 22


def test_a_search_and_a_control_have_parts_of_their_own():
    norms, options = ("linf", "l2"), {"sparsity": 0.5}
    plain = parts_of(DISTILLED, SIZES, norms, options, steps=None, rounds=1, control=False)
    assert plain["dense linf"] == 200 * 100 * 2 * 1.15
    assert plain["pruned linf"] == round(0.55 * plain["dense linf"])
    whole = parts_of(DISTILLED, SIZES, norms, options, steps=None, rounds=3, control=True)
    assert set(plain) - set(whole) == {f"pruned {each}" for each in ("fine-tuning", "predictions", *norms)}
    assert whole["pruned 3 fine-tuning"] == plain["pruned fine-tuning"]
    assert whole["control fine-tuning"] > 1.8 * plain["pruned fine-tuning"]


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({"sparsity": 0.3}, 0.73),
        ({"sparsity": {"layer1": 0.3}}, 0.55),
        ({}, 0.55),
        ({"parameters": 0.49}, 0.73),
        ({"parameters": 10_000}, 0.55),
        ({"latency": 0.6}, 0.64),
        ({"latency": "5ms"}, 0.55),
    ],
)
def test_how_much_faster_a_pruned_network_will_be_is_taken_from_what_is_removed(options, share):
    assert time_share(options) == pytest.approx(share)
