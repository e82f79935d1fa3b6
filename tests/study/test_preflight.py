"""A study is checked before anything trains: without torch where that is possible, else on a few images."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from secateur.config import parse_study
from secateur.data import load
from secateur.errors import UserError
from secateur.registry import ATTACKS, CRITERIA, DATASETS, MODELS
from secateur.study import check, plan
from secateur.study.dataset_facts import known_facts, read_facts
from secateur.study.preflight import preflight_problems
from toy.study import SMALL


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture
def named():
    """Attacks and criteria registered here are gone afterwards."""
    before = [
        (registry, dict(registry._entries), dict(registry._objects)) for registry in (ATTACKS, CRITERIA)
    ]
    yield
    for registry, entries, objects in before:
        registry._entries, registry._objects = entries, objects


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    [
        "seed=0",
        "data.fractions=[0.5, 0.3, 0.2]",
        "data.sizes=[300, 50, 100]",
        "finetune={a: {epochs: 1}, b: {inherit: true}}",
        "attacks={f: {attack: fmn, norm: inf}, p: {attack: pgd, norm: 2, eps: 0.1, restarts: 2}}",
        "criteria=[l1, random, taylor, weight_magnitude]",
    ],
)
def test_what_is_known_without_reading_counts_the_same_cells(override):
    study = parse_study(SMALL, overrides=[override, "images=50"])
    known, read = known_facts(study), read_facts(study)
    assert (known.train, known.validation, known.test) == (read.train, read.validation, read.test)
    assert check(study).counts == plan(study).counts


@pytest.mark.parametrize(
    "override",
    [
        "pruning={keep: [layer1]}",
        "pruning={rates: {layer1: 0.1}}",
        "models.plain.settings={width: 4}",
        "criteria=[bn_scale]",
        "models.plain.recipe={epochs: 1, penalty: {kind: group_norm}}",
        "models.plain.recipe={epochs: 1, batch_size: 4, accumulate: 4}",
        "data.sizes=[300, 50, 5000]",
        "data={spec: npz:no-such-file.npz}",
        "data={spec: cifar10:no-such-folder}",
        "models.plain=vgg16-bn",
        "models.plain=torchvision:resnet18",
    ],
)
def test_files_are_read_where_the_answer_lies_in_them(override):
    assert known_facts(parse_study(SMALL, overrides=[override])) is None


@pytest.mark.parametrize("name", [entry.name for entry in DATASETS.entries() if "files" in entry.facts])
def test_official_images_count_as_published_where_their_files_are(tmp_path, name):
    facts = DATASETS.entry(name).facts
    made_for = next(
        entry.name for entry in MODELS.entries() if entry.facts["input"][1:] == facts["shape"][1:]
    )
    overrides = [f"data={{spec: '{name}:{tmp_path}'}}", "images=5", f"models.plain={made_for}"]
    study = parse_study(SMALL, overrides=overrides)
    assert known_facts(study) is None
    for file in facts["files"]:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
        assert known_facts(study).test == facts["images"][1]
        (tmp_path / file).unlink()


@pytest.mark.slow
def test_a_sound_study_is_validated_without_torch(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(SMALL)
    code = (
        "import sys; from secateur.cli import main\n"
        f"try: main(['validate', {str(path)!r}])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "is a valid study" in done.stdout


def test_more_images_than_there_are_is_found_without_reading_them():
    with pytest.raises(UserError, match=r"images: there are only 359 test images \(got 5000\)"):
        check(parse_study(SMALL, overrides=["images=5000"]))


def test_a_criterion_and_a_penalty_are_tried_on_the_network_they_are_for(digits):
    study = parse_study(SMALL, overrides=["criteria=[l1, bn_scale]"])
    assert check(study).counts == plan(study).counts
    large = replace(digits, x=torch.nn.functional.interpolate(digits.x, size=28))
    text = SMALL.replace("plain: resnet-tiny", "plain: smallcnn")
    overrides = ["models.plain.recipe={epochs: 1, penalty: {kind: bn_scale}}", "criteria=[l1, bn_scale]"]
    first, second = preflight_problems(parse_study(text, overrides=overrides), large)
    assert first.key == "models.plain.recipe"
    assert "the model has no batch normalisation" in first.sentence
    assert second.key == "criteria.1"
    assert second.sentence.startswith("for the model 'plain': the criterion bn_scale needs batch normalis")


def test_a_network_that_does_not_take_the_images_is_found_once():
    study = parse_study(SMALL.replace("plain: resnet-tiny", "plain: vgg16-bn"))
    with pytest.raises(UserError, match="fails on the images of digits") as caught:
        check(study)
    assert caught.value.message.count("fails on the images") == 1


def test_an_attack_of_ones_own_checks_its_settings_before_anything_trains(named):
    asked = []

    def mine(model, x, y, *, pace=1.0, steps=10):
        if pace <= 0:
            raise UserError(f"pace is {pace}", hint="give a positive pace")
        asked.append(len(x))
        return model(x)

    ATTACKS.register("mine", mine, "mine", norms=(2.0,), kind="minimum-norm")
    good = "attacks={m: {attack: mine, pace: 2}}"
    assert check(parse_study(SMALL, overrides=[good])).counts["attack"] > 0
    assert asked == [1]
    for function in (check, plan):
        with pytest.raises(UserError, match=r"attacks\.m\.pace: pace is -1 \(give a positive pace\)"):
            function(parse_study(SMALL, overrides=["attacks={m: {attack: mine, pace: -1}}"]))
    with pytest.raises(UserError, match=r"attacks\.m\.pacee: unknown setting"):
        check(parse_study(SMALL, overrides=["attacks={m: {attack: mine, pacee: 1}}"]))


def test_a_criterion_of_ones_own_is_tried(named):
    def fussy(group, model):
        raise UserError("fussy takes no such group")

    CRITERIA.register("fussy", fussy, "fussy")
    with pytest.raises(UserError, match=r"criteria\.0: for the model 'plain': fussy takes no such group"):
        check(parse_study(SMALL, overrides=["criteria=[fussy]"]))


def test_the_rehearsal_refuses_what_the_attack_refuses(digits):
    text = SMALL.replace("{ddn: {steps: 10}}", "{d: {attack: ddn, gamma: 0.5}, p: {attack: pgd, norm: 2}}")
    study = parse_study(text)
    assert preflight_problems(study, digits) == []
    bad = study.attacks["d"].model_copy()
    object.__setattr__(bad, "__pydantic_extra__", {"gamma": 7})
    broken = study.model_copy(update={"attacks": {"d": bad}})
    (problem,) = preflight_problems(broken, digits)
    assert problem.key == "attacks.d.gamma"
    assert problem.sentence.startswith("gamma is 7")


NARROW = """
name: narrow
data: {spec: digits, sizes: [60, 20, 20]}
models: {net: {arch: resnet-tiny, settings: {widths: [4, 4]}, recipe: {epochs: 0}}}
sparsities: [0, 0.5]
images: 10
"""


@pytest.mark.slow
@pytest.mark.parametrize("bound", ["round_to: 64", "min_channels: 100", "max_sparsity: 0.1"])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_bounds_that_leave_nothing_to_remove_are_found_before_the_training(bound, scope):
    study = parse_study(NARROW, overrides=[f"pruning={{{bound}, scope: {scope}}}"])
    for look in (plan, check):
        with pytest.raises(UserError, match=r"sparsities\.1: .*cannot remove a single channel"):
            look(study)


@pytest.mark.parametrize("bound", ["round_to: 2", "min_channels: 2", "max_sparsity: 0.5"])
def test_bounds_that_leave_something_to_remove_are_accepted(bound):
    assert plan(parse_study(NARROW, overrides=[f"pruning={{{bound}}}"])).counts["prune"] == 1
