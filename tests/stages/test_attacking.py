"""How a study asks its attacks, beside their own settings."""

import numpy as np
import pytest

from secateur import evaluate
from secateur.config import parse_study
from secateur.errors import UserError
from secateur.stages import attacked_images
from secateur.store import EXAMPLES, Examples, evenly
from secateur.study import plan
from whole import TINY, run_here

ONE_NETWORK = "\n".join(line for line in TINY.splitlines() if not line.startswith("finetune"))
ONE_NETWORK = ONE_NETWORK.replace("[0, 0.5]", "[0]")


@pytest.fixture
def asked(monkeypatch):
    """The keywords of every call of ``evaluate.attack``."""
    calls, real = [], evaluate.attack

    def attack(*args, **settings):
        calls.append(settings)
        return real(*args, **settings)

    monkeypatch.setattr(evaluate, "attack", attack)
    return calls


@pytest.mark.slow
def test_early_stopping_precision_and_compilation_reach_the_attack_and_its_record(tmp_path, asked):
    unusual = "{attack: ddn, steps: 3, early_stop: true, search_precision: bfloat16}"
    attacks = f"attacks={{a: {unusual}, b: {{attack: ddn, steps: 3}}}}"
    _, records = run_here(ONE_NETWORK, tmp_path, attacks, "images=60")
    told = {record["axes"]["attack"]: record["science"] for record in records if record["stage"] == "attack"}
    assert {record["status"] for record in records} == {"ok"}
    first, second = asked
    assert (first["early_stop"], first["search_precision"]) == (True, "bfloat16")
    assert not {"early_stop", "search_precision", "compile"} & set(second)
    for label, expected in (("a", (True, "bfloat16")), ("b", (False, "float32"))):
        search = told[label]["search"]
        assert (search["early_stop"], search["precision"]) == expected
    assert told["a"]["settings"] == told["b"]["settings"]


@pytest.mark.slow
def test_an_attack_of_a_study_begins_several_times(tmp_path, asked):
    pgd = "{attack: pgd, norm: inf, eps: 0.0001, steps: 2"
    _, records = run_here(
        ONE_NETWORK, tmp_path, f"attacks={{a: {pgd}, restarts: 3}}, b: {pgd}}}}}", "images=60"
    )
    told = {record["axes"]["attack"]: record["science"] for record in records if record["stage"] == "attack"}
    assert {record["status"] for record in records} == {"ok"}
    assert told["a"]["attempts"] == asked[0]["restarts"] == 3
    assert "attempts" not in told["b"]
    assert "restarts" not in asked[1]
    assert sum(told["a"]["num_forwards"]) > sum(told["b"]["num_forwards"])


def test_an_attack_without_steps_runs_in_a_study(tmp_path, asked):
    _, records = run_here(ONE_NETWORK, tmp_path, "attacks={fgsm: {norm: inf, eps: 0.2}}")
    assert {record["status"] for record in records} == {"ok"}
    assert "steps" not in asked[0]
    assert records[-1]["science"]["settings"] == {"norm": "inf", "eps": 0.2}


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        ("early_stop: 1", r"study\.yaml:7: attacks\.ddn\.early_stop: must be true or false"),
        ("compile: 'yes'", r"study\.yaml:7: attacks\.ddn\.compile: must be true or false"),
        ("search_precision: half", r"study\.yaml:7: attacks\.ddn\.search_precision: .*'bfloat16'"),
        (
            "early_stp: true",
            r"study\.yaml:7: attacks\.ddn\.early_stp: unknown setting.*did you mean 'early_stop'",
        ),
        ("restarts: 2", r"study\.yaml:7: attacks\.ddn: ddn draws no random numbers to restart with"),
        (
            "attack: pgd, norm: 2, eps: 1.0, restarts: 2, random_start: false",
            r"study\.yaml:7: attacks\.ddn: without random_start there is nothing to restart with",
        ),
        ("restarts: 0", r"study\.yaml:7: attacks\.ddn\.restarts"),
        ("attack: fmn, norm: 2, start: dense", r"study\.yaml:7: attacks\.ddn\.start: unknown setting"),
        ("attack: fgsm, norm: inf, steps: 3", r"study\.yaml:7: attacks\.ddn: fgsm does not iterate"),
    ],
)
def test_a_mistake_is_told_with_its_line(attack, said):
    text = f"name: a\ndata: digits\nmodels:\n  net: resnet-tiny\nimages: 5\nattacks:\n  ddn: {{{attack}}}\n"
    with pytest.raises(UserError, match=said):
        plan(parse_study(text))


def test_an_attack_of_fixed_size_runs_at_every_size_of_a_study(tmp_path, asked):
    _, records = run_here(ONE_NETWORK, tmp_path, "attacks={fgsm: {norm: inf, eps: [4/10, 0, 1/10]}}")
    assert {record["status"] for record in records} == {"ok"}
    assert asked[0]["eps"] == [0.0, 0.1, 0.4]
    science = records[-1]["science"]
    assert [size["eps"] for size in science["sizes"]] == [0, 0.1, 0.4]
    assert [row["eps"] for row in science["summary"]["robust_accuracy"]] == [0, 0.1, 0.4]
    assert not {"date", "secateur", "model", "data"} & set(science)
    assert len(science["labels"]) == len(science["outcome"])


def test_ddn_of_a_study_follows_the_difference_and_is_not_quantised_unless_the_study_says_so(tmp_path, asked):
    literal = "{attack: ddn, steps: 3, loss: cross_entropy, levels: 17}"
    _, records = run_here(ONE_NETWORK, tmp_path, f"attacks={{a: {{attack: ddn, steps: 3}}, b: {literal}}}")
    told = {record["axes"]["attack"]: record["science"] for record in records if record["stage"] == "attack"}
    assert (asked[0]["loss"], asked[0]["levels"]) == ("difference", None)
    assert [told[label]["settings"]["levels"] for label in "ab"] == [None, 17]
    assert [told[label]["settings"]["loss"] for label in "ab"] == ["difference", "cross_entropy"]


@pytest.mark.slow
def test_a_few_images_and_their_examples_stay_for_the_page(tmp_path):
    asked = "images=60", "attacks={ddn: {steps: 20}}"
    store, records = run_here(ONE_NETWORK, tmp_path, *asked)
    (record,) = [record for record in records if record["stage"] == "attack"]
    assert list(record["artefacts"]) == [EXAMPLES]
    kept = Examples.from_bytes(store.artefact(record["id"], EXAMPLES).read_bytes())
    assert kept.places == tuple(evenly(60))
    images = attacked_images(parse_study(ONE_NETWORK, overrides=asked))
    for place in kept.places:
        assert np.abs(kept.pixels(place) - images.x[place].numpy()).max() <= 0.5 / 255 + 1e-6
        # What was added has the distance that the record states.
        norm = float(np.linalg.norm(kept.added(place).astype(np.float64)))
        stated = record["science"]["distances"]["l2"][place]
        found = record["science"]["outcome"][place] == "found"
        assert norm == (pytest.approx(stated, rel=2e-3) if found else 0)
    assert "found" in [record["science"]["outcome"][place] for place in kept.places]
