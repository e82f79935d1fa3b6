from pathlib import Path

import pytest

from secateur.config import load_study, parse_study, preset
from secateur.config.presets import NAMES
from secateur.errors import UserError
from secateur.study import facts_to_price, grid
from toy.study import FACTS

STUDIES = Path(__file__).parents[2] / "studies"
SPARSITIES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_a_study(name):
    study = parse_study(preset(name))
    assert study.name == name
    assert {"dense", "dense_tuned", "pruned"} <= {cell.role for cell in grid(study, FACTS)}


def test_every_preset_is_described_in_one_line():
    first = [preset(name).splitlines()[0] for name in NAMES]
    assert all(line.startswith("# ") and 20 < len(line) < 120 for line in first)


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'thesis'"):
        preset("thesys")


@pytest.mark.parametrize("name", ["thesis", "thesis-literal"])
def test_the_thesis_is_there_with_its_networks_sparsities_and_attacks(name):
    study = parse_study(preset(name))
    archs = {model.arch.removeprefix("robustbench:") for model in study.models.values()}
    assert {
        "Addepalli2022Efficient_RN18",
        "Sehwag2021Proxy_R18",
        "Engstrom2019Robustness",
        "Wang2023Better_WRN-28-10",
        "resnet50",
        "vgg19-bn",
    } <= archs
    assert tuple(sparsity for sparsity in study.sparsities if sparsity) == SPARSITIES
    assert study.criteria == ("l1", "random")
    assert {attack.steps for attack in study.attacks.values()} == {1000}
    assert study.attacks["fmn-linf"].norm == float("inf")
    assert study.images == 1000
    facts, missing = facts_to_price(study)
    assert (facts.train, facts.validation, facts.test) == (45_000, 5_000, 10_000)
    assert "holds no cifar10 files" in missing


def test_the_file_of_the_thesis_study_is_the_preset():
    assert (STUDIES / "thesis.yaml").read_text(encoding="utf-8") == preset("thesis")


@pytest.mark.parametrize(("name", "arm"), [("thesis-literal", "retrained"), ("thesis", "thesis")])
def test_the_thesis_retrains_with_its_learning_rate(name, arm):
    recipe = parse_study(preset(name)).arms("vgg19-bn")[arm]
    assert (recipe.epochs, recipe.batch_size, recipe.momentum, recipe.weight_decay) == (50, 256, 0.9, 5e-4)
    assert (recipe.learning_rate, recipe.schedule, recipe.decay) == (1e-3, "exponential", 0.1)
    assert (recipe.augment.padding, recipe.augment.rotation, recipe.checkpoint_every) == (4, 15, 5)


def test_published_networks_are_tagged_by_what_they_are():
    study = parse_study(preset("thesis"))
    robust = {model for model in study.models if study.robust(model)}
    assert robust == {"addepalli-rn18", "sehwag-rn18", "engstrom-rn50", "wang-wrn-28-10"}


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_study_file_has_its_controls(file):
    cells = grid(load_study(file), FACTS)
    assert {"dense", "dense_tuned", "untuned", "pruned"} <= {cell.role for cell in cells}
