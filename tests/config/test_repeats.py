"""Which attacks of a study repeat an earlier one, because no seed changes network or attack."""

from dataclasses import replace

import pytest

from secateur.config import repeats
from toy.study import FACTS, small_plan

GIVEN = """
name: given
data: digits
models: {net: {arch: resnet-tiny, weights: somewhere.th}}
criteria: [l1]
sparsities: [0, 0.5]
attacks: {ddn: {steps: 10}}
seeds: [0, 1, 2]
images: 20
"""
WEIGHED = replace(FACTS, weights={"net": "ab" * 32})


def repeated(text=GIVEN, *overrides, **facts):
    """Label of every repetition, with that of the first."""
    cells = small_plan(text, overrides=overrides, facts=WEIGHED, **facts).cells
    labels = {cell.id: cell.label for cell in cells}
    return {labels[cell_id]: labels[first] for cell_id, first in repeats(cells).items()}


def test_given_weights_and_what_a_fixed_rule_leaves_of_them_are_attacked_under_the_first_seed():
    assert repeated() == {
        "attack net/1 ddn": "attack net/0 ddn",
        "attack net/2 ddn": "attack net/0 ddn",
        "attack net/1 l1 0.5 ddn": "attack net/0 l1 0.5 ddn",
        "attack net/2 l1 0.5 ddn": "attack net/0 l1 0.5 ddn",
    }


@pytest.mark.parametrize(
    "drawn",
    [
        "models.net.recipe={epochs: 1}",
        "models.net.recipe={epochs: 0, recalibrate: true}",
        "attacks={ddn: {attack: pgd, norm: inf, eps: 0.1, steps: 2}}",
    ],
)
def test_training_recalibration_and_random_starts_make_every_seed_another(drawn):
    assert repeated(GIVEN, drawn) == {}


def test_initial_weights_are_drawn():
    assert repeated(GIVEN.replace(", weights: somewhere.th", ""), weights={}) == {}


@pytest.mark.parametrize("criterion", ["random", "weight_random", "taylor", "robust_taylor"])
def test_random_scores_and_images_of_a_criterion_are_drawn(criterion):
    assert set(repeated(GIVEN, f"criteria=[{criterion}]")) == {"attack net/1 ddn", "attack net/2 ddn"}


def test_fine_tuning_draws_and_the_untuned_networks_stay_the_same():
    found = repeated(GIVEN, "finetune={standard: {epochs: 2}}")
    assert set(found.values()) == {"attack net/0 ddn", "attack net/0 l1 0.5 ddn"}


def test_other_settings_of_an_attack_are_another_attack():
    found = repeated(GIVEN, "attacks={a: {attack: ddn, steps: 10}, b: {attack: ddn, steps: 20}}", "seeds=[0]")
    assert found == {}
