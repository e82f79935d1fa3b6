"""From a dense network to a verdict: what is measured, what is left in the folder, and how it resumes."""

import copy
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from secateur import evaluate, models, pruning
from secateur.data import load
from secateur.decision import check, pruned, usual_recipe
from secateur.decision.images import network_and_images
from secateur.decision.lines import share_line
from secateur.decision.pruned import trains_faster_channels_last
from secateur.decision.verdict import sentences
from secateur.errors import ExitCode, UserError
from secateur.recipes import Distillation, Recipe
from secateur.report.examples import RULE

RECIPE = Recipe(
    epochs=2, learning_rate=0.01, recalibrate=True, distillation=Distillation(), checkpoint_every=1
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, digits):
    """A finished check with its folder."""
    folder = tmp_path_factory.mktemp("check") / "out"
    dense = models.resolve("shipped:digits-plain")
    verdict = check(
        dense,
        *digits,
        sparsity=0.4,
        recipe=RECIPE,
        images=40,
        steps=20,
        budgets={"linf": [0.05]},
        min_accuracy=0.5,
        max_drop="60%",
        min_robust="0.0@linf:0.07",
        max_latency="10s",
        out=folder,
    )
    return verdict, folder


@pytest.mark.slow
def test_the_lines_are_those_of_the_two_networks(finished, digits, dense):
    verdict, _ = finished
    test = digits[1]
    line = verdict.line("accuracy")
    assert line.dense == models.accuracy(dense, test.x, test.y)
    assert line.pruned == models.accuracy(verdict.model, test.x, test.y)
    parameters = verdict.line("parameters")
    assert parameters.pruned == sum(each.numel() for each in verdict.model.parameters()) < parameters.dense
    # The budget of a limit is stated as well.
    assert verdict.line("robust linf 0.05").n == verdict.line("robust linf 0.07").n == 40


def test_every_limit_is_judged_and_the_dense_network_is_left_alone(finished, dense):
    verdict, _ = finished
    assert [each.state for each in verdict.limits] == ["kept"] * 4
    assert verdict.kept
    assert verdict.sentences[0].startswith("All 4 limits are kept")
    assert "near chance" not in str(verdict)
    fresh = models.resolve("shipped:digits-plain")
    assert models.weights_hash(dense) == models.weights_hash(fresh)


def test_the_folder_holds_network_page_and_numbers(finished):
    verdict, folder = finished
    loaded = pruning.load(folder / "network", lambda: models.resolve("shipped:digits-plain"))
    assert models.weights_hash(loaded) == models.weights_hash(verdict.model)
    stored = json.loads((folder / "verdict.json").read_text())
    assert stored == json.loads(json.dumps(verdict.to_json()))
    page = (folder / "check.html").read_text()
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert all(sentence in page.replace("&#39;", "'") for sentence in verdict.sentences)


def test_the_page_shows_the_same_images_on_both_networks(finished, digits):
    page = (finished[1] / "check.html").read_text()
    assert RULE in page
    blocks = re.findall(r"<figcaption>image (\d+) of 40</figcaption>(.*?)</figure>", page, flags=re.S)
    assert len(blocks) == 4
    for _, block in blocks:
        assert '<th scope="col">dense</th><th scope="col">pruned</th>' in block
        assert block.count("data:image/png;base64,") == 5
        clean = re.search(r'alt="clean image of class ([^"]+)"', block)[1]
        assert clean in digits[1].classes
        assert f'alt="pruned: adversarial image of class {clean}, taken for' in block


@pytest.mark.slow
def test_a_second_call_computes_nothing_and_other_limits_need_nothing_new(
    finished, digits, dense, monkeypatch, quick
):
    verdict, folder = finished

    def forbidden(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(evaluate, "attack", forbidden)
    monkeypatch.setattr("secateur.decision.pruned.fit", forbidden)
    again = quick(sparsity=0.4, out=folder, min_accuracy=0.999, budgets={"linf": [0.05, 0.06]})
    assert again.line("accuracy") == verdict.line("accuracy")
    assert again.line("robust linf 0.06").pruned <= again.line("robust linf 0.05").pruned
    assert again.limits[0].state == ("kept" if again.line("accuracy").pruned >= 0.999 else "broken")


def test_another_check_is_not_mixed_into_the_folder(finished, quick, tmp_path):
    _, folder = finished
    with pytest.raises(UserError, match="holds a check with another pruning options") as error:
        quick(sparsity=0.3, out=folder)
    assert error.value.code == ExitCode.FOREIGN_FOLDER
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds no check"):
        quick(sparsity=0.3, out=tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.slow
def test_an_interrupted_check_goes_on_in_the_epoch_where_it_was(tmp_path, quick):
    class Stopped(Exception):
        pass

    seen = []

    def stop(part, done, total):
        seen.append(part)
        # 400 images, less the tenth for validation, are 3 batches of at most 128: the teacher is asked for
        # three, and one is left of the second epoch's.
        if seen.count("pruned fine-tuning") == 8:
            raise Stopped

    with pytest.raises(Stopped):
        quick(sparsity=0.4, out=tmp_path / "a", on_progress=stop)
    epochs = sorted(path.name for path in (tmp_path / "a" / "work").glob("pruned-*/checkpoints/epoch-*"))
    # The first epoch is finished, and a graceful stop saves the steps of the second.
    assert epochs
    assert all(name.startswith("epoch-000001") for name in epochs)
    resumed = quick(sparsity=0.4, out=tmp_path / "a")
    assert models.weights_hash(resumed.model) == models.weights_hash(quick(sparsity=0.4).model)


@pytest.mark.slow
def test_a_broken_limit_is_the_first_sentence(quick):
    verdict = quick(sparsity=0.4, min_robust="100%@linf:0.5")
    assert not verdict.kept
    assert verdict.sentences[0] == "Do not ship: 1 of 1 limits broken."


@pytest.mark.slow
def test_a_collapsed_network_is_not_to_be_shipped(quick):
    verdict = quick(sparsity=0.9, recipe=replace(RECIPE, epochs=0, recalibrate=False), min_accuracy=0)
    assert verdict.sentences[0] == "The pruned network is near chance: do not ship it."
    assert verdict.line("distance linf").change is None


def test_a_network_that_recognises_nothing_is_refused_with_the_usual_causes(quick, dense):
    class Inverted(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = dense

        def forward(self, x):
            return self.inner(1 - x).flip(1)

    with pytest.raises(UserError, match=r"does not fit these images: .*normalis"):
        quick(model=Inverted().eval(), images=120)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attack": "pgd"}, "fixed sizes"),
        ({"attack": "ddn", "budgets": {"linf": [0.1]}}, "does not attack in norm linf"),
        ({"budgets": {"l7": [0.1]}}, "norm l7"),
        ({"find": True}, "needs at least one limit"),
        ({"find": True, "max_drop": 0.1, "sparsity": 0.5}, "chooses the sparsity itself"),
        ({"sparsity": 0.5, "macs": 0.5}, "exclude each other"),
        ({"images": 0}, "0 images"),
        ({"adversarial": 0.1}, "leave out adversarial"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(quick, options, words):
    with pytest.raises(UserError, match=words):
        quick(**options)


@pytest.mark.slow
def test_a_search_returns_the_smallest_network_that_keeps_the_limits(tmp_path, quick):
    verdict = quick(find=True, rounds=2, min_accuracy=0.3, out=tmp_path / "found")
    assert [point["sparsity"] for point in verdict.points] in ([0.275, 0.5], [0.5, 0.725])
    kept = [point["sparsity"] for point in verdict.points if point["kept"]]
    assert f"sparsity {max(kept):g}" in verdict.title
    assert "The networks that were tried" in (tmp_path / "found" / "check.html").read_text()


def test_the_usual_fine_tuning_passes_about_as_many_images_whatever_the_data_set():
    assert [usual_recipe(n).epochs for n in (1_000, 50_000, 1_300_000)] == [30, 4, 1]
    assert usual_recipe(1_000).adversary is None
    # A cosine per epoch would hardly fall in a few epochs, whoever chose their number.
    few = [usual_recipe(50_000), usual_recipe(1_300_000), usual_recipe(1_000, epochs=2)]
    assert {recipe.schedule for recipe in few} == {"cosine_per_step"}
    assert {usual_recipe(1_000).schedule, usual_recipe(50_000, epochs=20).schedule} == {"cosine"}
    robust = usual_recipe(50_000, adversarial=4 / 255)
    assert robust.select == "robust"
    assert robust.adversary.epsilon == pytest.approx(4 / 255)


@pytest.mark.parametrize(
    ("network", "shape", "last"),
    [
        (nn.Conv2d(3, 64, 3), (1, 3, 8, 8), True),
        (nn.Conv2d(3, 128, 3), (1, 3, 8, 8), False),
        (nn.Linear(3, 8), (1, 3), False),
        (nn.Conv2d(3, 8, 3), (1, 3), False),  # a network that makes images of rows
        (nn.Conv2d(3, 8, 3, device="meta"), (1, 3, 8, 8), False),
    ],
)
def test_narrow_networks_are_fine_tuned_channels_last_on_cpus(network, shape, last):
    assert trains_faster_channels_last(network, torch.rand(shape)) == last
    assert usual_recipe(1_000, channels_last=last).channels_last == last


def test_the_usual_fine_tuning_of_a_narrow_network_is_channels_last(quick, monkeypatch):
    class Seen(Exception):
        pass

    def fit(*arguments, **_):
        assert arguments[3].channels_last
        raise Seen

    monkeypatch.setattr(pruned, "fit", fit)
    with pytest.raises(Seen):
        quick(recipe=None, sparsity=0.4, images=8, steps=2)


@pytest.mark.slow
def test_an_adversarial_fine_tuning_has_a_folder_that_another_check_cannot_take(tmp_path, quick):
    quick(sparsity=0.4, recipe=None, adversarial=0.1, steps=5, images=10, out=tmp_path / "out")
    with pytest.raises(UserError, match="another recipe"):
        quick(sparsity=0.4, recipe=None, adversarial=0.2, steps=5, images=10, out=tmp_path / "out")


@pytest.mark.slow
def test_the_attacked_images_are_a_stratified_sample(quick, digits):
    verdict = quick(sparsity=0.2, images=20)
    assert verdict.line("robust linf 0.05").n == 20
    assert torch.bincount(digits[1].y).min() > 0


@pytest.mark.slow
def test_loaders_and_arrays_are_read_as_they_are_handed_over(quick, digits):
    train, test = digits
    loader = DataLoader(TensorDataset(train.x, train.y), batch_size=64)
    ours = quick(sparsity=0.4)
    theirs = quick(images_of=(loader, (test.x.numpy(), test.y.numpy().astype("int16"))), sparsity=0.4)
    assert theirs.line("accuracy") == ours.line("accuracy")
    assert theirs.line("parameters") == ours.line("parameters")


@pytest.mark.slow
def test_test_images_without_the_last_classes_still_fit_the_network(quick, digits):
    train, test = digits
    few = test.take((test.y < 6).nonzero().flatten())
    verdict = quick(images_of=((train.x, train.y), (few.x, few.y)), sparsity=0.2)
    assert verdict.line("accuracy").n == few.n


@pytest.mark.slow
def test_nothing_is_written_through_a_link_in_the_folder(tmp_path, quick):
    """A folder from somebody else may hold links; the same check in it must not follow them."""
    folder, aside = tmp_path / "out", tmp_path / "aside"
    aside.mkdir()
    (aside / "page").write_text("mine")
    quick(sparsity=0.4, out=folder)
    (folder / "check.html").unlink()
    (folder / "check.html").symlink_to(aside / "page")
    quick(sparsity=0.4, out=folder)
    assert (aside / "page").read_text() == "mine"
    (place,) = (folder / "work").glob("pruned-*")
    shutil.rmtree(place)
    place.symlink_to(aside)
    with pytest.raises(UserError, match="link"):
        quick(sparsity=0.4, out=folder)
    assert [path.name for path in aside.iterdir()] == ["page"]


@pytest.mark.slow
def test_the_control_is_the_dense_network_with_the_same_fine_tuning(
    finished, digits, dense, monkeypatch, quick
):
    verdict, folder = finished
    trained = []
    fit = pruned.fit

    def counted(model, *args, **options):
        trained.append(sum(each.numel() for each in model.parameters()))
        return fit(model, *args, **options)

    monkeypatch.setattr(pruned, "fit", counted)
    options = {"sparsity": 0.4, "out": folder, "control": True}
    with_control = quick(**options)
    # Only the control is new, and it has all channels.
    assert trained == [sum(each.numel() for each in dense.parameters())]
    assert with_control.lines[0] == verdict.lines[0]
    by_hand, (train, test) = copy.deepcopy(dense), digits
    _, splits = network_and_images(dense, train, None, test, seed=0)
    fit(by_hand, splits.train, splits.validation, RECIPE, seed=0, teacher=dense)
    accuracy = next(line for line in with_control.control if line.key == "accuracy")
    assert accuracy.dense == models.accuracy(by_hand.eval(), test.x, test.y)
    assert accuracy.pruned == verdict.line("accuracy").pruned
    assert {line.kind for line in with_control.control} == {"share", "distance"}
    assert any("with the same fine-tuning" in said for said in with_control.sentences)
    assert not any("--control" in note for note in with_control.notes)
    assert any("--control" in note for note in verdict.notes)
    assert "dense, fine-tuned" in (folder / "check.html").read_text()
    assert "tuned dense" in str(with_control)
    trained.clear()
    assert quick(**options).control == with_control.control
    assert trained == []


@pytest.mark.parametrize("control", [False, True])
def test_better_is_put_down_to_the_fine_tuning_unless_a_control_says_otherwise(control):
    zeros, ones = np.zeros(200), np.ones(200)
    lines = [
        share_line("accuracy", "accuracy", ones, ones),
        share_line("robust linf 0.1", "robust accuracy at L∞ 0.1", zeros, ones),
    ]
    against = [lines[0], share_line("robust linf 0.1", "robust accuracy at L∞ 0.1", ones, zeros)]
    said = sentences(lines, (), collapsed=False, control=against if control else ())
    better = next(sentence for sentence in said if "is better" in sentence)
    assert ("maybe by the fine-tuning" in better) is not control
    alone = [sentence for sentence in said if sentence.startswith("Against the dense network")]
    assert alone == (
        [
            "Against the dense network with the same fine-tuning, accuracy is the same within 5 points "
            "(+0.0 points); robust accuracy is worse at L∞ 0.1."
        ]
        if control
        else []
    )


def test_the_card_states_what_was_measured_to_the_hub(finished):
    verdict, folder = finished
    card = (folder / "network" / "README.md").read_text()
    told = yaml.safe_load(card.split("---\n")[1])
    (result,) = told["model-index"][0]["results"]
    metrics = {each["name"]: each for each in result["metrics"]}
    accuracy, robust = metrics["Accuracy"], metrics["Robust accuracy at L∞ 0.05"]
    assert accuracy["value"] == verdict.line("accuracy").pruned
    assert accuracy["args"]["n"] == 120
    assert robust["value"] == verdict.line("robust linf 0.05").pruned
    assert robust["args"] == {
        "n": 40,
        "low": pytest.approx(robust["args"]["low"]),
        "high": pytest.approx(robust["args"]["high"]),
        "attack": "steep",
        "norm": "linf",
        "epsilon": 0.05,
    }
    assert robust["args"]["low"] < robust["value"] < robust["args"]["high"]
    assert "base_model" not in told


@pytest.mark.slow
def test_the_card_names_the_model_of_the_hub_that_was_pruned(tmp_path, quick, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for number, (model, base) in enumerate({"hf:owner/net@v1": "owner/net", "hf:mine": None}.items()):
        quick(sparsity=0.2, images=12, steps=3, out=tmp_path / str(number), origin={"model": model})
        card = (tmp_path / str(number) / "network" / "README.md").read_text()
        assert yaml.safe_load(card.split("---\n")[1]).get("base_model") == base


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budgets": [0.1]}, "budgets are"),
        ({"images": 2.5}, "2.5 images cannot be attacked"),
        ({"adversarial": "8/255"}, "adversarial is '8/255'"),
        ({"adversarial": 8}, "8 grey levels of 256 are 8/255"),
    ],
)
def test_values_of_another_kind_are_one_sentence(dense, options, said):
    digits = load("digits:split").take(range(60))
    with pytest.raises(UserError, match=said):
        check(dense, digits, digits, sparsity=0.5, **options)
