"""The front matter of cards, read by the hub's own reader where it is installed."""

import pytest
import yaml

from report.synthetic import Grid, write
from secateur.report.aggregate import aggregate
from secateur.report.cards import cards
from secateur.report.hub_card import Metric, front_matter
from secateur.report.load import load
from secateur.report.paired_changes import changes

METRICS = [
    Metric("accuracy", "Accuracy", 0.75, {"n": 40}),
    Metric(
        "robust_accuracy", "Robust accuracy at L∞ 8/255", 0.5, {"n": 20, "norm": "linf", "epsilon": 8 / 255}
    ),
]


def index(card):
    """The model, the images and the metrics of a card."""
    (model,) = yaml.safe_load(card.split("---\n")[1])["model-index"]
    (result,) = model["results"]
    return model["name"], result["dataset"], result["metrics"]


def test_metrics_stand_with_their_images_and_how_they_were_measured():
    card = front_matter("small", METRICS, data="folder:my images", base="owner/name") + "\n\n# small\n"
    name, images, metrics = index(card)
    assert (name, images) == ("small", {"type": "folder", "name": "folder:my images", "split": "test"})
    assert [each["value"] for each in metrics] == [0.75, 0.5]
    assert metrics[1]["args"] == {"n": 20, "norm": "linf", "epsilon": 8 / 255}
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == "owner/name"
    assert "model-index" not in front_matter("small", [], data="digits")


def test_names_cannot_end_the_front_matter_or_be_markup():
    name = "a: <b>\n---\n# heading " + "long " * 60
    card = front_matter(name, METRICS, data="x\n---\ny")
    assert card.count("---\n") == 1
    assert "<" not in card
    assert index(card + "\n")[0] == "a: b --- # heading " + "long " * 60


def check_with_the_hub(card, metrics):
    """The same numbers, by ModelCard and EvalResult of huggingface_hub."""
    found = pytest.importorskip("huggingface_hub").ModelCard(card)
    assert found.data.library_name == "secateur"
    results = found.data.eval_results
    assert [(each.metric_type, each.metric_value) for each in results] == metrics
    assert {each.task_type for each in results} == {"image-classification"}
    return results


@pytest.mark.reference
def test_the_reader_of_the_hub_gives_the_same_numbers():
    card = front_matter("small", METRICS, data="digits:split") + "\n\n# small\n"
    results = check_with_the_hub(card, [("accuracy", 0.75), ("robust_accuracy", 0.5)])
    assert results[1].metric_args["epsilon"] == 8 / 255
    assert (results[0].dataset_type, results[0].dataset_name) == ("digits", "digits:split")


@pytest.fixture
def card(tmp_path):
    small = {"models": {"m": False}, "seeds": (0, 1), "sparsities": (0, 0.5), "failed": (), "grade_c": ()}
    grid = aggregate(load(write(tmp_path / "run", Grid(**small))))
    return dict(cards(grid, changes(grid)))["m-l1-0.5-standard.md"]


def test_the_cards_of_a_study_have_it(card):
    name, images, metrics = index(card)
    assert name == "m, l1 at sparsity 0.5, fine-tuned"
    assert images["split"] == "test"
    assert metrics[0]["type"] == "accuracy"
    robust = metrics[1]
    assert robust["type"] == "robust_accuracy"
    assert robust["args"]["trainings"] == 2
    assert robust["args"]["n"] > 0
    assert robust["args"]["low"] <= robust["value"] <= robust["args"]["high"]
    # The same number as in the table of the card.
    assert f"{100 * robust['value']:.0f}" in card


@pytest.mark.reference
def test_the_hub_reads_the_cards_of_a_study(card):
    metrics = index(card)[2]
    check_with_the_hub(card, [(each["type"], each["value"]) for each in metrics])
