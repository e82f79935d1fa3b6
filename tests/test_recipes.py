from dataclasses import replace

import pytest

from secateur.recipes import Adversary, Augment, Distillation, Penalty, Recipe, problems

FULL = Recipe(
    adversary=Adversary(0.1, 0.02),
    augment=Augment(4, 15, True),
    select="robust",
    distillation=Distillation(),
    penalty=Penalty("bn_scale"),
)


def test_the_defaults_and_a_full_recipe_can_be_carried_out():
    assert problems(Recipe()) == []
    assert problems(FULL) == []
    assert problems(Recipe(epochs=0)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": -1},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"momentum": 1.0},
        {"weight_decay": -1e-3},
        {"decay": 0.0},
        {"label_smoothing": 1.0},
        {"schedule": "linear"},
        {"checkpoint_every": 0},
        {"select": "best"},
        {"adversary": Adversary(0.0, 0.1)},
        {"adversary": Adversary(0.1, float("nan"))},
        {"adversary": Adversary(0.1, 0.1, steps=0)},
        {"adversary": Adversary(0.1, 0.1, norm=1)},
        {"adversary": Adversary(0.1, 0.1, method="pgd")},
        {"adversary": Adversary(0.1, 0.1, beta=-1.0)},
        {"ema": 1.0},
        {"accumulate": 0},
        {"precision": "float16"},
        {"distillation": Distillation(weight=1.5)},
        {"distillation": Distillation(temperature=0)},
        {"penalty": Penalty("l1")},
        {"penalty": Penalty("bn_scale", strength=-1)},
        {"penalty": Penalty("growing_reg", growth=float("inf"))},
        {"penalty": Penalty("group_norm", alpha=100)},
        {"augment": Augment(padding=-1)},
        {"augment": Augment(rotation=200)},
    ],
)
def test_each_impossible_setting_is_one_sentence_with_its_name(change):
    (sentence,) = problems(replace(FULL, **change))
    name = sentence.replace(":", " ").split()[0]
    settings = {*change, "epsilon", "step_size", "steps", "norm", "method", "beta", "padding", "rotation"}
    settings |= {"weight", "temperature", "kind", "strength", "growth", "alpha"}
    assert name in settings
