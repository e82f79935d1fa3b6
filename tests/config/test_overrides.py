import pytest

from secateur.config import parse_study
from secateur.errors import UserError

TEXT = """name: tiny
data: digits
models: {plain: resnet-tiny, wrn-1.5: {arch: resnet18}}
sparsities: [0, 0.5]
attacks:
  ddn:
    steps: 3
"""


def study(*overrides):
    return parse_study(TEXT, overrides=overrides)


def test_a_setting_is_replaced_or_added():
    assert study("attacks.ddn.steps=7").attacks["ddn"].steps == 7
    assert study("seeds=[1, 2]").seeds == (1, 2)
    assert study("finetune.a.epochs=2").finetune["a"].epochs == 2
    assert study("sparsities.1=0.25").sparsities == (0, 0.25)
    assert study("attacks.fmn={norm: inf}").attacks["fmn"].norm == float("inf")


def test_false_and_zero_override_too():
    assert study("controls.dense=false").controls.dense is False
    assert study("seed=0").seed == 0
    assert study("images=null").images is None


def test_the_last_of_two_wins():
    assert study("seed=1", "seed=2").seed == 2


def test_short_spellings_can_be_looked_into():
    assert study("models.plain.recipe.epochs=3").recipe("plain").epochs == 3
    assert study("data.fractions=[0.6, 0.2, 0.2]").data.fractions == (0.6, 0.2, 0.2)


def test_labels_with_dots_are_found():
    assert study("models.wrn-1.5.recipe.epochs=3").recipe("wrn-1.5").epochs == 3


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("seed", "invalid override '--set seed': expected path.to.key=value"),
        ("=3", "invalid override '--set =3'"),
        ("sede=3", "--set sede: sede: unknown setting -> did you mean 'seed'?"),
        ("seed=off", "--set seed: seed: 'off' is a boolean in YAML 1.1"),
        ("seed=[1", "not YAML"),
        ("seed=-1", "--set seed: seed: should be greater than or equal to 0"),
        ("name.x=3", "there is no mapping that could hold 'x'"),
        ("sparsities.7=0.3", "the list has entries 0 to 1"),
        ("attacks.ddn={steps: 0}", "--set attacks.ddn: attacks.ddn.steps: should be greater than 0"),
    ],
)
def test_a_wrong_override_is_refused_by_its_own_name(override, complaint):
    with pytest.raises(UserError) as caught:
        study(override)
    assert complaint in str(caught.value)


def test_an_overridden_setting_is_located_at_the_override():
    assert study("attacks.ddn.steps=7").where("attacks.ddn.steps") == "--set attacks.ddn.steps"
    assert study("attacks.ddn.steps=7").where("attacks.ddn") == "study.yaml:6"
