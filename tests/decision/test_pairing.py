"""Two results on the same images: what is compared, on which images, and what is refused."""

import copy
import json

import pytest

import secateur
from secateur import data
from secateur.cli import main
from secateur.decision import compare, evaluate, pairing
from secateur.errors import UserError


@pytest.fixture(scope="module")
def pair():
    """Attacks of the two shipped networks on the same images, as JSON."""
    images = data.load("digits:split").take(range(60))
    return [
        secateur.attack(secateur.models.resolve(f"shipped:digits-{name}"), images, "ddn", steps=20).to_json()
        for name in ("plain", "robust")
    ]


@pytest.mark.slow
def test_the_robust_network_is_better_at_the_stated_budgets(pair):
    found = compare(*pair)
    robust = {line.key: line for line in found.lines}
    assert robust["robust l2 0.5"].finding == "better"
    assert found.n == 60
    back = {line.key: line for line in compare(*reversed(pair)).lines}
    assert back["robust l2 0.5"].change == -robust["robust l2 0.5"].change


def test_only_images_of_both_count_whatever_their_order(pair):
    shuffled = copy.deepcopy(pair[1])
    order = list(range(59, 9, -1))
    for key in ("hashes", "outcome", "labels"):
        shuffled[key] = [shuffled[key][i] for i in order]
    shuffled["distances"] = {k: [v[i] for i in order] for k, v in shuffled["distances"].items()}
    found = compare(pair[0], shuffled)
    assert found.n == 50
    cut = {key: value[10:] for key, value in pair[1].items() if key in ("hashes", "outcome", "labels")}
    cut["distances"] = {k: v[10:] for k, v in pair[1]["distances"].items()}
    assert compare(pair[0], {**pair[1], **cut}).to_json() == found.to_json()


def test_a_result_compared_with_itself_differs_in_nothing(pair):
    for line in compare(pair[0], pair[0]).lines:
        # Twenty steps are too few for grade B: the share of the distance is withheld.
        assert line.change in (0, None)
        assert line.finding in ("same", "undecided", "unreliable")
        assert line.dense == line.pruned


@pytest.mark.slow
def test_fixed_sizes_are_compared_where_both_were_tried():
    images = data.load("digits:split").take(range(40))
    one, two = (
        secateur.attack(secateur.models.resolve(f"shipped:digits-{name}"), images, "pgd", steps=5, eps=eps)
        for name, eps in (("plain", [0.05, 0.1]), ("robust", [0.1, 0.2]))
    )
    keys = [line.key for line in compare(one, two).lines]
    assert keys == ["accuracy", "robust linf 0.1"]
    with pytest.raises(UserError, match="common size"):
        compare(
            one, secateur.attack(secateur.models.resolve("shipped:digits-plain"), images, "fgsm", eps=0.3)
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"norm": "linf"}, "one attack is in l2, the other in linf"),
        ({"hashes": ["other"] * 60}, "no image in common"),
        ({"hashes": None}, "names no images"),
        ({"kind": "evaluation"}, "compare two of a kind"),
        ({"schema_version": 3}, "written by a newer secateur .schema 3, this one knows 2"),
        ({"outcome": ["found"]}, "60 images, and not as many values of 'outcome'"),
        ({"distances": {"l2": [0.1]}}, "60 images, and not as many values of 'l2'"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(pair, change, words):
    with pytest.raises(UserError, match=words):
        compare(pair[0], {**pair[1], **change})


def test_the_schemas_that_are_written_are_those_that_are_read(tmp_path):
    images = ["--model", "shipped:digits-plain", "--data", "digits:split"]
    for out, command in {"a": ["attack", "--attack", "fgsm", "--eps", "0.1"], "e": ["evaluate"]}.items():
        with pytest.raises(SystemExit, match="0"):
            main([*command, *images, "--out", str(tmp_path / out)])
    written = [json.loads((tmp_path / name).read_text())["schema_version"] for name in ("a", "e")]
    assert written == [pairing._SCHEMAS["attack"], pairing._SCHEMAS["evaluation"]]


def test_evaluations_are_paired_image_by_image():
    images = data.load("digits:split")
    one, two = (evaluate(secateur.models.resolve(f"shipped:digits-{n}"), images) for n in ("plain", "robust"))
    (line,) = compare(one, two).lines
    assert (line.dense, line.pruned) == (one.accuracy, two.accuracy)


def test_a_network_near_chance_has_no_share_of_a_distance(pair):
    broken = copy.deepcopy(pair[1])
    for i in range(3, 60):
        broken["outcome"][i] = "already_wrong"
        for values in broken["distances"].values():
            values[i] = 0.0
    line = compare(pair[0], broken).lines[-1]
    assert (line.change, line.finding) == (None, "collapsed")


def test_targeted_results_are_not_called_robust_accuracy(pair):
    with pytest.raises(UserError, match="says nothing about robust accuracy"):
        compare(pair[0], {**pair[1], "targeted": True})
