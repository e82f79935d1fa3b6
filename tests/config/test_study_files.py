from contextlib import suppress

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.config import load_study, parse_study, study_from_json
from secateur.config.recipe import RecipeFields
from secateur.errors import ExitCode, UserError
from secateur.hashing import canonical_json
from secateur.recipes import Adversary, Augment, Recipe

MINIMAL = "name: tiny\ndata: digits\nmodels: {plain: resnet-tiny}\n"


def complaints(text, **kwargs):
    with pytest.raises(UserError) as caught:
        parse_study(text, **kwargs)
    assert caught.value.code == ExitCode.BAD_INPUT
    return caught.value.message.splitlines()


def test_a_minimal_study_has_sensible_defaults():
    study = parse_study(MINIMAL)
    assert study.sparsities == (0, 0.2, 0.4, 0.6, 0.8)
    assert (study.criteria, study.seeds, study.images) == (("l1",), (0,), 200)
    assert study.controls.model_dump() == {"dense": True, "dense_tuned": True, "untuned": True}
    assert study.recipe("plain") == Recipe()


def test_the_demo_study_is_valid():
    study = load_study("studies/demo.yaml")
    assert set(study.models) == {"plain", "robust"}
    assert study.robust("robust")
    assert not study.robust("plain")


def test_all_errors_come_at_once_with_line_path_and_suggestion():
    text = """name: CON
data: digit
sparsty: [0.1]
models:
  plain: {arch: os.system, recipe: {epochs: "3", learning_rte: 1e-3}}
criteria: [randon]
sparsities: [0.1, 0.1]
seeds: [0.5, -1]
finetune:
  none: {epochs: 2}
attacks:
  ddn: {steps: 0, norm: 1}
  fmn: {attack: fmnn}
controls: {dense: 1}
"""
    assert complaints(text) == [
        "study.yaml:1: name: 'CON' is a reserved name",
        "study.yaml:2: data.spec: there is no dataset 'digit' -> did you mean 'digits'?",
        "study.yaml:3: sparsty: unknown setting -> did you mean 'sparsities'?",
        *complaints(text)[3:6],
        "study.yaml:6: criteria.0: there is no criterion 'randon' -> did you mean 'random'?",
        "study.yaml:7: sparsities: 0.1 is listed twice",
        "study.yaml:8: seeds.0: must be a whole number (got 0.5)",
        "study.yaml:8: seeds.1: should be greater than or equal to 0 (got -1)",
        "study.yaml:10: finetune.none: 'none' is a reserved name",
        "study.yaml:12: attacks.ddn.steps: should be greater than 0 (got 0)",
        "study.yaml:13: attacks.fmn.attack: there is no attack 'fmnn' -> did you mean 'fmn'?",
        "study.yaml:14: controls.dense: must be true or false (got 1)",
    ]
    model = complaints(text)[3:6]
    assert model[0].startswith("study.yaml:5: models.plain.arch: there is no model 'os.system'; known: ")
    assert set(model[1:]) == {
        "study.yaml:5: models.plain.recipe.epochs: must be a whole number (got the text '3')",
        "study.yaml:5: models.plain.recipe.learning_rte: unknown setting -> did you mean 'learning_rate'?",
    }


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("sparsities: [1.0]", "sparsities.0: should be less than 1 (got 1.0)"),
        ("sparsities: [-0.1]", "sparsities.0: should be greater than or equal to 0 (got -0.1)"),
        ("sparsities: [.inf]", "sparsities.0: should be less than 1 (got inf)"),
        ("sparsities: ['90']", "sparsities.0: must be a number (got the text '90')"),
        ("sparsities: [.nan]", "sparsities.0: NaN is not a number"),
        ("sparsities: 0.5", "sparsities: must be a list (got 0.5)"),
        ("sparsities: []", "sparsities: "),
        ("seeds: [1, 1]", "seeds: 1 is listed twice"),
        ("seeds: [18446744073709551616]", "seeds.0: "),
        ("images: 0", "images: should be greater than 0 (got 0)"),
        ("images: '20'", "images: must be a whole number (got the text '20')"),
        ("batch_size: -1", "batch_size: should be greater than 0 (got -1)"),
        ("epsilons: [0.1, 0]", "epsilons: a budget should be greater than 0 (got 0)"),
        ("epsilons: [0.1, inf]", "epsilons: a budget should be greater than 0 (got inf)"),
        ("epsilons: [0.1, 0.1]", "epsilons: 0.1 is listed twice"),
        ("epsilons: 0.1", "epsilons: should be a list of budgets, such as [1/255, 8/255]"),
        ("epsilons: {linf: 0.1}", "epsilons: linf should be a list of budgets"),
        ("epsilons: {l3: [0.1]}", "epsilons: 'l3' is not a norm: use l0, l0_pixels, l1, l2 or linf"),
        ("epsilons: {inf: [0.1], linf: [0.2]}", "epsilons: linf is listed twice"),
        (
            "epsilons: {linf: [0.1]}\nattacks: {ddn: {}}",
            "epsilons: no minimum-norm attack of the study has the norm linf: it has l2",
        ),
        (
            "epsilons: [0.1]\nattacks: {ddn: {}, fmn: {norm: 1}}",
            "epsilons: say which norm the budgets are for, as in {l2: [...], l1: [...]}",
        ),
        (
            "epsilons: {linf: [0.1]}\nattacks: {pgd: {norm: inf}, ddn: {}}",
            "epsilons: no minimum-norm attack of the study has the norm linf: it has l2",
        ),
        (
            "epsilons: [0.1]\nattacks: {pgd: {norm: inf}}",
            "epsilons: every attack of the study runs at sizes of its own",
        ),
        ("attacks: {fmn: {}}", "attacks.fmn: fmn needs a norm, one of 0, 1, 2, inf, L0-pixels"),
        ("attacks: {fmn: {norm: 3}}", "attacks.fmn.norm: a norm is 0, 1, 2, inf or L0-pixels (got 3)"),
        ("attacks: {ddn: {norm: inf}}", "attacks.ddn: ddn has no norm inf; it has 2"),
        ("attacks: {ddn: {steps: {a: 1}}}", "attacks.ddn.steps: "),
        (
            "attacks: {ddn: {gamma: {a: 1}}}",
            "attacks.ddn: gamma must be a number, a word, a boolean or a list",
        ),
        ("attacks: {zzz: {}}", "attacks.zzz.attack: there is no attack 'zzz'"),
        ("pruning: {scope: lokal}", "pruning.scope: "),
        ("finetune: {a: {epochs: -1}}", "finetune.a.epochs: should be greater than or equal to 0 (got -1)"),
        (
            "finetune: {a: {batch_size: 0}}",
            "finetune.a.batch_size: should be greater than or equal to 1 (got 0)",
        ),
        (
            "finetune: {a: {models: [plan]}}",
            "finetune.a.models.0: there is no model 'plan' -> did you mean 'plain'?",
        ),
        ("finetune: {a: {select: robust}}", "finetune.a: select: robust needs an adversary"),
        (
            "finetune: {a: {}, b: {}}",
            "finetune.b: is the same as 'a' for model 'plain': give one of them 'models: [...]'",
        ),
        ("attacks: {a: {attack: ddn}, b: {attack: ddn, norm: 2}}", "attacks.b: is the same as 'a'"),
        (
            "finetune: {a: {adversary: {epsilon: 0, step_size: 1}}}",
            "finetune.a.adversary.epsilon: should be greater than 0",
        ),
        ("finetune: {a: {adversary: {epsilon: 1}}}", "finetune.a.adversary.step_size: is required"),
    ],
)
def test_impossible_settings_are_refused_by_name(line, complaint):
    found = complaints(MINIMAL + line)
    assert len(found) == 1
    assert found[0].startswith(f"study.yaml:4: {complaint}")


@pytest.mark.parametrize(
    "name",
    ["../../x", "a" * 65, "nul", "a\u202eb", "🦊", "''", "<script>", "a b", "$x$", "=cmd()", "-x", "inf"],
)
def test_names_that_are_unsafe_as_folders_or_labels_are_refused(name):
    quoted = name if name == "''" else f"'{name}'"
    assert any(": name: " in line for line in complaints(MINIMAL.replace("tiny", quoted, 1)))
    assert any(": models." in line for line in complaints(MINIMAL.replace("plain", quoted, 1)))


@pytest.mark.parametrize(
    "arch", ["os.system", "model.py:build", "os:system", "torchvision:../x", "file:a", "timm:"]
)
def test_a_study_file_cannot_name_code(arch):
    assert len(complaints(MINIMAL.replace("resnet-tiny", f"{{arch: '{arch}'}}"))) == 1


@pytest.mark.parametrize("arch", ["torchvision:resnet18", "timm:resnet18.a1_in1k", "robustbench:Standard"])
def test_installed_zoos_can_be_named(arch):
    assert parse_study(MINIMAL.replace("resnet-tiny", f"{{arch: '{arch}'}}")).models["plain"].arch == arch


def test_weights_alone_train_nothing():
    study = parse_study(MINIMAL.replace("resnet-tiny", "{arch: resnet-tiny, weights: w.pt}"))
    assert study.recipe("plain").epochs == 0


def test_an_inheriting_arm_takes_what_it_does_not_say_from_the_model():
    text = """
name: tiny
data: digits
models:
  plain: {arch: resnet-tiny, recipe: {epochs: 9, momentum: 0.5}}
  robust: {arch: resnet-tiny, recipe: {epochs: 8, adversary: {epsilon: 8/255, step_size: 2/255}}}
finetune:
  same: {inherit: true, epochs: 2}
  standard: {epochs: 3, models: [robust]}
"""
    for study in (parse_study(text), study_from_json(parse_study(text).resolved())):
        assert study.arms("plain") == {"same": Recipe(epochs=2, momentum=0.5)}
        adversary = Adversary(epsilon=8 / 255, step_size=2 / 255)
        assert study.arms("robust") == {
            "same": Recipe(epochs=2, adversary=adversary),
            "standard": Recipe(epochs=3),
        }


def test_recipe_settings_are_those_of_recipes_with_the_same_defaults():
    assert RecipeFields().recipe() == Recipe()
    assert set(RecipeFields.model_fields) == set(Recipe.__dataclass_fields__)
    study = parse_study(MINIMAL + "finetune: {a: {augment: {}, adversary: {epsilon: 0.1, step_size: 0.02}}}")
    assert study.arms("plain")["a"] == Recipe(augment=Augment(), adversary=Adversary(0.1, 0.02))


def test_the_norm_of_an_adversary_is_one_of_two():
    text = "finetune: {a: {adversary: {epsilon: 0.1, step_size: 0.02, norm: 1}}}"
    assert "finetune.a.adversary.norm: must be one of 2, inf (got 1)" in complaints(MINIMAL + text)[0]


def test_late_errors_find_their_line():
    study = parse_study(MINIMAL + "attacks:\n  ddn:\n    steps: 3\n    gamma: 0.1\n")
    assert study.where("attacks.ddn.gamma") == "study.yaml:7"
    assert study.where("attacks.ddn.absent") == "study.yaml:5"
    assert study.where("nothing") == "study.yaml:1"


def test_resolved_settings_make_the_same_study_again():
    study = load_study("studies/demo.yaml")
    again = study_from_json(study.resolved())
    assert canonical_json(again.resolved()) == canonical_json(study.resolved())


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "name",
                        "data",
                        "models",
                        "plain",
                        "arch",
                        "recipe",
                        "epochs",
                        "finetune",
                        "attacks",
                        "ddn",
                        "norm",
                        "seeds",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_document_at_all_gets_past_as_anything_but_a_study_or_a_user_error(document):
    with suppress(UserError):
        parse_study(yaml.safe_dump(document))


RATES = """
name: rates
data: digits
models: {net: %s}
sparsities: [0, 0.1]
pruning: {rates: %s}
"""


@pytest.mark.parametrize(
    ("arch", "rates", "sentence"),
    [
        ("resnet56", "li2017:resnet56-c", "did you mean 'li2017:resnet56-a'|no rates 'li2017:resnet56-c'"),
        ("resnet20", "li2017:resnet56-a", "li2017:resnet56-a is for resnet56, not for resnet20"),
        ("resnet56", "{layer1.0.bn1: 1.5}", r"the sparsity of layer1.0.bn1 must be a number in \[0, 1\)"),
        ("resnet56", "[0.1]", "a mapping from layers to sparsities"),
    ],
)
def test_rates_that_cannot_be_are_refused(arch, rates, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_study(RATES % (arch, rates))


def test_published_rates_go_with_one_sparsity():
    assert parse_study(RATES % ("resnet56", "li2017:resnet56-a")).pruning.rates == "li2017:resnet56-a"
    with pytest.raises(UserError, match="give one sparsity"):
        parse_study(RATES % ("resnet56", "li2017:resnet56-a"), overrides=["sparsities=[0.1, 0.2]"])


@pytest.mark.parametrize("mean", ["0.4", "[0.4]"])
def test_one_number_normalises_all_channels(mean):
    study = parse_study(
        f"name: a\ndata: digits\nmodels: {{p: {{arch: resnet18, normalise: {{mean: {mean}, std: 0.2}}}}}}"
    )
    assert study.models["p"].statistics == ((0.4,), (0.2,))


def test_a_value_out_of_range_is_told_beside_what_cannot_be_read():
    """Both kinds of mistake in one go: nobody mends a file twice."""
    text = """
name: bad
data: digits
models: {net: resnet-tiny}
criteria: [l11]
attacks:
  a: {attack: ddn, steps: 0}
  b: {attack: ddn, gamma: -1}
  c: {attack: pgd, norm: inf, eps: 8/255}
  d: {attack: fmn, norm: 2, gamma: 7}
"""
    with pytest.raises(UserError) as error:
        parse_study(text)
    for key in ("criteria.0", "attacks.a.steps", "attacks.b.gamma", "attacks.d.gamma"):
        assert error.value.message.count(f"{key}:") == 1
    assert "attacks.c" not in error.value.message
