"""What an attack, an adversary or a training would refuse is found in the study file, with its line."""

import pytest

from secateur.config import parse_study
from secateur.errors import UserError

STUDY = """name: s
data: digits
models:
  a:
    arch: resnet-tiny
    recipe: {{epochs: 1{recipe}}}
attacks:
  x:
    attack: {attack}
    {setting}
"""


def refused(attack="ddn", setting="steps: 5", recipe=""):
    with pytest.raises(UserError) as caught:
        parse_study(STUDY.format(attack=attack, setting=setting, recipe=recipe))
    assert "nothing was written" in caught.value.hint
    return caught.value.message


@pytest.mark.parametrize(
    ("attack", "setting", "said"),
    [
        ("ddn", "gamma: 7", "attacks.x.gamma: must be a number above 0 and below 1 (got 7)"),
        ("ddn", "init_eps: 0", "attacks.x.init_eps: must be a number above 0 (got 0)"),
        ("ddn", "alpha_final: -1", "attacks.x.alpha_final: must be a number above 0 (got -1)"),
        ("ddn", "schedule: foo", "attacks.x.schedule: must be 'cosine' or 'constant' (got 'foo')"),
        ("ddn", "levels: 1", "attacks.x.levels: must be a whole number of at least 2 (got 1)"),
        ("square", "eps: -0.1", "attacks.x.eps: must be a number above 0 (got -0.1)"),
        ("square", "eps: inf", "attacks.x.eps: must be a number above 0 (got inf)"),
        (
            "square",
            "eps: 8",
            "attacks.x.eps: images lie in [0, 1], where 8 grey levels of 256 are 8/255 (got 8)",
        ),
        ("square", "eps: large", "attacks.x.eps: must be a number above 0 (got 'large')"),
        ("square", "area: 2", "attacks.x.area: must be a number above 0 and of at most 1 (got 2)"),
        ("alma", "check_steps: 1.5", "attacks.x.check_steps: must be a whole number of at least 1 (got 1.5)"),
        ("sigma-zero", "tau: true", "must be a number of at least 0 and below 1 (got true)"),
        ("sigma-zero", "threshold: 0.2", "attacks.x.threshold: is now called 'tau' (got 0.2)"),
    ],
)
def test_a_value_that_the_attack_refuses_is_named_with_its_line(attack, setting, said):
    message = refused(attack, setting)
    assert message.startswith("study.yaml:10: ")
    assert said in message


def test_all_of_them_are_told_at_once_with_their_own_lines():
    message = refused("ddn", "gamma: 7\n    alpha: 0\n    loss: l")
    assert [line.split(": ")[0] for line in message.splitlines()] == [f"study.yaml:{n}" for n in (10, 11, 12)]


def test_nothing_may_be_given_where_the_attack_takes_nothing():
    text = STUDY.format(attack="ddn", setting="levels: null", recipe="")
    assert parse_study(text).attacks["x"].model_extra == {"levels": None}


def test_a_large_size_is_allowed_in_norms_in_which_images_can_be_that_far_apart():
    text = STUDY.format(attack="pgd", setting="norm: 2\n    eps: 8", recipe="")
    assert parse_study(text).attacks["x"].model_extra == {"eps": 8}


@pytest.mark.parametrize("norm", ["", ", norm: inf"])
def test_an_adversary_in_grey_levels_is_named_with_its_line(norm):
    message = refused(recipe=f", adversary: {{epsilon: 8, step_size: 2{norm}}}")
    first, second = message.splitlines()
    assert first.startswith("study.yaml:6: models.a.recipe.adversary.epsilon: images lie in [0, 1]")
    assert second.startswith("study.yaml:6: models.a.recipe.adversary.step_size: images lie in [0, 1]")
    text = STUDY.format(
        attack="ddn", setting="steps: 5", recipe=", adversary: {epsilon: 8, step_size: 2, norm: 2}"
    )
    assert parse_study(text).recipe("a").adversary.epsilon == 8


def test_a_network_of_the_study_has_no_teacher_to_learn_from():
    message = refused(recipe=", distillation: {weight: 0.5}")
    assert "study.yaml:6: models.a.recipe.distillation: needs a teacher" in message


@pytest.mark.parametrize(
    ("setting", "budgets", "said"),
    [
        ("norm: inf\n    eps: 0.1", "[0.1]", "every attack of the study runs at sizes of its own"),
        ("norm: inf\n    eps: 0.1", "{linf: [0.1]}", "list those as its eps"),
    ],
)
def test_budgets_that_no_attack_is_judged_at_are_named(setting, budgets, said):
    message = refused("pgd", f"{setting}\nepsilons: {budgets}")
    assert message.startswith("study.yaml:12: epsilons: ")
    assert said in message


def test_budgets_in_grey_levels_are_named():
    message = refused("fmn", "norm: inf\nepsilons: [1, 8]")
    assert message.startswith("study.yaml:11: epsilons: images lie in [0, 1], where 8 grey levels of 256")
    text = STUDY.format(attack="fmn", setting="norm: 2\nepsilons: [1, 8]", recipe="")
    assert parse_study(text).epsilons == (1.0, 8.0)


def test_a_plain_list_of_budgets_is_for_the_attack_without_sizes_of_its_own():
    two = STUDY.format(attack="ddn", setting="steps: 5", recipe="")
    two += "  y: {attack: pgd, norm: inf, eps: 0.1}\nepsilons: [0.25]\n"
    assert parse_study(two).epsilons == (0.25,)
