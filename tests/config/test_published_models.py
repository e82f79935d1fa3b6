import pytest

from secateur.config import load_study
from secateur.errors import UserError

STUDY = """
name: published
data: {{spec: digits}}
models:
  one: {model}
criteria: [l1]
sparsities: [0.5]
attacks: {{ddn: {{attack: ddn}}}}
"""


def study(tmp_path, model):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.format(model=model))
    return load_study(path)


@pytest.mark.parametrize(("name", "robust"), [("Sehwag2021Proxy_R18", True), ("L2/Standard", False)])
def test_a_published_network_is_not_trained_and_tagged_by_what_it_is(tmp_path, name, robust):
    found = study(tmp_path, f"{{arch: 'robustbench:{name}'}}")
    assert found.recipe("one").epochs == 0
    assert found.robust("one") is robust


def test_a_published_network_may_be_trained_on_or_tagged_otherwise(tmp_path):
    found = study(tmp_path, "{arch: 'robustbench:Standard', recipe: {epochs: 3}, robust: true}")
    assert found.recipe("one").epochs == 3
    assert found.robust("one") is True


def test_an_unknown_published_network_is_found_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match="did you mean 'Linf/Sehwag2021Proxy_R18'"):
        study(tmp_path, "{arch: 'robustbench:Sehwag2021Proxi_R18'}")


def test_recipes_of_a_study_have_every_setting_of_training(tmp_path):
    recipe = (
        "{epochs: 0, ema: 0.9, distillation: {weight: 0.5}, penalty: {kind: group_lasso, strength: 0.1}, "
        "adversary: {epsilon: 0.1, step_size: 0.05, method: trades, beta: 3}}"
    )
    found = study(tmp_path, f"{{arch: resnet-tiny, recipe: {recipe}}}").recipe("one")
    assert (found.ema, found.distillation.weight, found.penalty.kind) == (0.9, 0.5, "group_lasso")
    assert (found.adversary.method, found.adversary.beta) == ("trades", 3)
    with pytest.raises(UserError, match="kind"):
        study(tmp_path, "{arch: resnet-tiny, recipe: {penalty: {kind: l1}}}")
