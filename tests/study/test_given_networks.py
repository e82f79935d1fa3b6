"""What a study does to networks that are given: their weights stay, their input is normalised as asked."""

import pytest
import torch
from torch import nn

from secateur import pruning
from secateur.config import parse_study
from secateur.engine.perform import perform
from secateur.errors import UserError
from secateur.models import build, statistics, weights_hash
from secateur.registry import MODELS
from secateur.stages import execute, network
from secateur.store import Store
from secateur.study import plan
from secateur.study.build_models import remarks

SHIFT = {"value": 0.0}


def given(num_classes=10, in_channels=1):
    """A network whose constructor chooses its weights, as one that reads a file does."""
    net = nn.Sequential(nn.Conv2d(in_channels, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, num_classes))
    with torch.no_grad():
        net[0].bias.fill_(SHIFT["value"])
    return net


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(MODELS, "_entries", dict(MODELS._entries))
    monkeypatch.setattr(MODELS, "_objects", dict(MODELS._objects))
    MODELS.register("given", given)
    monkeypatch.setitem(SHIFT, "value", 0.0)


def study(model="{arch: given}", extra=""):
    return parse_study(
        "name: given\n"
        f"data: {{spec: digits, sizes: [100, 20, 60]{extra}}}\n"
        f"models: {{net: {model}}}\n"
        "sparsities: [0, 0.5]\nseeds: [0, 1]\nattacks: {ddn: {steps: 2}}\nimages: 8\n"
    )


def carried_out(laid, out, stage="train"):
    store = Store.create(out, laid.to_json())
    for cell in laid.cells:
        if cell.stage == stage:
            perform(store, laid.study, cell, execute)
    return store, [record.to_json() for record in store.records() if record.stage == stage]


def test_a_network_of_a_plug_in_keeps_its_weights_whatever_the_seed(tmp_path):
    laid = plan(study())
    store, records = carried_out(laid, tmp_path / "run")
    own = build("given", in_channels=1)
    assert [record["status"] for record in records] == ["ok", "ok"]
    assert {record["science"]["weights_hash"] for record in records} == {weights_hash(own)}
    assert all(record["settings"]["weights"] == weights_hash(own) for record in records)
    assert torch.equal(network(laid.study, records[0]["id"], store)[0].weight, own[0].weight)
    assert any(
        "keeps the weights" in remark and "not trained" in remark
        for remark in remarks(laid.study, laid.facts)
    )


def test_a_recipe_trains_on_from_the_given_weights(tmp_path):
    laid = plan(study("{arch: given, recipe: {epochs: 1, learning_rate: 1.0e-9}}"))
    store, records = carried_out(laid, tmp_path / "run")
    own = build("given", in_channels=1)
    trained = network(laid.study, records[0]["id"], store)
    torch.testing.assert_close(trained[0].weight, own[0].weight, atol=1e-6, rtol=0)


def test_other_given_weights_are_other_cells(monkeypatch):
    before = {cell.id for cell in plan(study()).cells}
    monkeypatch.setitem(SHIFT, "value", 0.5)
    assert not before & {cell.id for cell in plan(study()).cells}


def test_weights_that_changed_since_the_plan_are_refused(tmp_path, monkeypatch):
    laid = plan(study())
    monkeypatch.setitem(SHIFT, "value", 0.5)
    _, records = carried_out(laid, tmp_path / "run")
    assert {record["status"] for record in records} == {"failed"}
    assert "has other weights now than when the study was planned" in records[0]["error"]["sentence"]


def test_a_network_that_does_not_know_the_images_is_noted(tmp_path):
    _, records = carried_out(plan(study()), tmp_path / "run")
    assert any("normalisation of the input" in note for note in records[0]["science"]["notes"])


def test_a_function_that_fails_is_a_line_of_the_study():
    def broken(num_classes=10, in_channels=1):
        raise OSError("no such checkpoint")

    MODELS.register("broken", broken)
    with pytest.raises(
        UserError, match=r"models\.net\.arch: 'broken' cannot be built: OSError: no such checkpoint"
    ):
        plan(study("{arch: broken}"))


def test_networks_of_the_zoo_are_still_drawn_by_seed(tmp_path):
    laid = plan(study("{arch: resnet-tiny, settings: {widths: [4, 6]}, recipe: {epochs: 0}}"))
    _, records = carried_out(laid, tmp_path / "run")
    assert len({record["science"]["weights_hash"] for record in records}) == 2
    assert all(record["settings"]["weights"] is None for record in records)


def test_the_cells_of_the_zoo_are_those_they_were():
    laid = plan(study("{arch: resnet-tiny}"))
    trained = [cell for cell in laid.cells if cell.stage == "train"]
    assert [cell.id for cell in trained] == IDS
    assert "normalise" not in trained[0].settings


def test_a_normalisation_reaches_every_network_of_the_study(tmp_path):
    laid = plan(study("{arch: given, normalise: {mean: [0.3], std: [0.5]}}"))
    store = Store.create(tmp_path / "run", laid.to_json())
    for cell in laid.cells:
        perform(store, laid.study, cell, execute)
    assert {record.status for record in store.records()} == {"ok"}
    for record in store.records():
        if record.stage in ("train", "prune"):
            mean, std = statistics(network(laid.study, record.id, store))
            assert (mean, std) == ((pytest.approx(0.3),), (0.5,))
    plain = {cell.id for cell in plan(study()).cells}
    assert not plain & {cell.id for cell in laid.cells}
    notes = next(record for record in store.records() if record.stage == "train").science.notes
    assert "the input is normalised with mean 0.3 and std 0.5" in notes


@pytest.mark.parametrize("keep", ["'0'", "model.0"])
def test_layers_of_a_normalised_network_are_named_as_in_the_network(keep):
    text = study("{arch: given, normalise: {mean: [0.3], std: [0.5]}}").resolved()
    text["pruning"]["keep"] = [keep.strip("'")]
    from secateur.config.load import study_from_json

    assert plan(study_from_json(text)).cells


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            "{arch: given, normalise: {mean: [0.3, 0.3, 0.3], std: [1, 1, 1]}}",
            "has 3 values for images of 1 channel",
        ),
        ("{arch: given, normalise: {mean: [0.3, 0.3], std: [1, 1, 1]}}", "mean has 2 values and std 3"),
        ("{arch: given, normalise: {mean: [0.3], std: [0]}}", "greater than 0"),
        ("{arch: given, normalise: {mean: [0.3]}}", "is required"),
        ("{arch: given, normalise: {mean: [], std: []}}", "at least 1"),
        (
            "{arch: resnet20, settings: {normalise: null}, normalise: {mean: [0.3], std: [1]}}",
            "settings as well",
        ),
        ("{arch: 'robustbench:Standard', normalise: {mean: [0.3], std: [1]}}", "as it was trained"),
    ],
)
def test_a_normalisation_that_does_not_fit_is_a_line_of_the_study(model, said):
    with pytest.raises(UserError, match=rf"study.yaml:3: models\.net.*{said}"):
        plan(study(model))


def test_a_network_that_fails_on_the_images_is_a_line_of_the_study():
    said = r"study.yaml:3: models\.net\.arch: the network fails on the images of digits, which are 1x8x8"
    with pytest.raises(UserError, match=said):
        plan(study("{arch: smallcnn}"))
    assert plan(study("{arch: smallcnn}", ", resize: 28")).facts.shape == (1, 28, 28)

    def asks(num_classes=10, in_channels=1):
        """A network whose forward looks at numbers, which shapes alone do not have."""

        class Asking(nn.Linear):
            def forward(self, x):
                return super().forward(x.flatten(1) if x.sum() >= 0 else x)

        return Asking(64, num_classes)

    MODELS.register("asks", asks)
    assert plan(study("{arch: asks}")).cells


@pytest.mark.slow
def test_images_are_scaled_in_a_study():
    laid = plan(study("{arch: resnet-tiny}", ", resize: 12"))
    assert laid.facts.shape == (1, 12, 12)
    assert plan(study("{arch: resnet-tiny}", ", resize: [12, 10]")).facts.shape == (1, 12, 10)
    assert not {cell.id for cell in laid.cells} & {
        cell.id for cell in plan(study("{arch: resnet-tiny}")).cells
    }


@pytest.mark.parametrize("size", ["0", "[3]", "big", "5000", "true", "[8, 0]", "8.5"])
def test_an_impossible_size_is_a_line_of_the_study(size):
    with pytest.raises(UserError, match=r"data\.resize: must be one side, or \[height, width\]"):
        study("{arch: resnet-tiny}", f", resize: {size}")


# Finished cells of studies are found by these ids, also by later versions.
IDS = ["eaca0c28413e0d675246df73660b2ada", "03345252458bf62fe2c2d4c7a4d5efac"]


def test_a_pruned_folder_is_a_network_to_start_from(tmp_path):
    dense = build("given", in_channels=1)
    images = torch.rand(4, 1, 8, 8)
    report = pruning.prune(dense, images, sparsity=0.5)
    folder = pruning.save(dense.eval(), tmp_path / "pruned")
    before, size = dense(images), sum(each.numel() for each in dense.parameters())
    laid = plan(study(f"{{arch: given, weights: {folder}}}"))
    store, trained = carried_out(laid, tmp_path / "run")
    _, pruned = carried_out(laid, tmp_path / "run", "prune")
    assert report.channels < report.channels_before
    assert {record["science"]["parameters"] for record in trained} == {size}
    assert {record["science"]["weights_hash"] for record in trained} == {weights_hash(dense)}
    assert torch.equal(network(laid.study, trained[0]["id"], store)(images), before)
    # What is removed is removed from the pruned network.
    assert {record["science"]["parameters_dense"] for record in pruned} == {size}
    assert all(record["science"]["parameters"] < size for record in pruned)
    assert all(record["science"]["proof"]["max_error"] < 1e-9 for record in pruned)
    assert torch.isfinite(network(laid.study, pruned[0]["id"], store)(images)).all()


def test_a_pruned_folder_of_another_network_is_refused_before_anything_runs(tmp_path):
    other = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    pruning.prune(other, torch.rand(1, 3), sparsity=0.5)
    folder = pruning.save(other, tmp_path / "pruned")
    with pytest.raises(UserError, match=r"models\.net\.weights"):
        plan(study(f"{{arch: given, weights: {folder}}}"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"models\.net\.weights"):
        plan(study(f"{{arch: given, weights: {tmp_path / 'empty'}}}"))


def test_a_pruned_folder_that_changed_since_the_plan_pauses_the_run(tmp_path):
    dense = build("given", in_channels=1)
    pruning.prune(dense, torch.rand(4, 1, 8, 8), sparsity=0.5)
    folder = pruning.save(dense, tmp_path / "pruned")
    laid = plan(study(f"{{arch: given, weights: {folder}}}"))
    with torch.no_grad():
        dense[0].bias.add_(1)
    pruning.save(dense, folder, overwrite=True)
    with pytest.raises(UserError, match="not those that the study was planned with"):
        carried_out(laid, tmp_path / "run")
