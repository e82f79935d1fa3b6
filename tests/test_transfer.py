"""Adversarial examples of one network, put to another: counts that can be checked by hand."""

import json
import math

import pytest
import torch
from torch import nn

from secateur import transfer as transferring
from secateur.attacks.runner.run import run
from secateur.cli import main
from secateur.config import Cell, study_of
from secateur.data import Dataset
from secateur.errors import UserError
from secateur.report.transfer import write_transfer
from secateur.stages import attacked_images
from secateur.store import Store
from secateur.transfer import NetworkFilter, transfer
from whole import TINY, run_here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("transfer") / "run"
    run_here(TINY, out, "seeds=[0, 1]", "images=20")
    return out


@pytest.fixture(scope="module")
def found(folder):
    return transfer(folder, "ddn", steps=20)


@pytest.mark.slow
def test_every_finished_network_takes_part_dense_pruned_and_of_other_seeds(found):
    labels = [each["label"] for each in found.to_json()["networks"]]
    assert labels == [
        text
        for seed in (0, 1)
        for text in (
            f"net/{seed}",
            f"net/{seed}, standard",
            f"net/{seed}, l1 0.5",
            f"net/{seed}, l1 0.5, standard",
        )
    ]


def test_every_example_fools_the_network_it_was_found_on(found):
    own = [(found.fooled[i][i], found.eligible[i][i]) for i in range(len(found.networks))]
    assert all(fooled == eligible for fooled, eligible in own)
    assert any(eligible for _, eligible in own)


def test_only_images_that_the_other_network_gets_right_count():
    """Source and target are linear in one pixel, so every count is known."""
    x = torch.tensor([0.1, 0.2, 0.3, 0.7]).reshape(4, 1, 1, 1)
    dataset = Dataset("pixel", x, torch.tensor([0, 0, 0, 1]), ("dark", "light"), levels=None)
    source, nearer, blind = threshold(0.5), threshold(0.25), threshold(-1.0)
    result = run(source, dataset, "ddn", steps=50, init_eps=0.3)
    assert [str(outcome) for outcome in result.outcome] == ["found"] * 4
    examples = [result.adv]
    assert transferring._column(source, dataset, [result], examples) == ([4], [4])
    # Dark images beyond 0.5 are beyond 0.25 too; the third is wrong there already, and 0.5 is light enough.
    assert transferring._column(nearer, dataset, [result], examples) == ([3], [2])
    assert transferring._column(blind, dataset, [result], examples) == ([1], [0])


def test_counting_images_that_were_wrong_already_is_caught():
    x = torch.tensor([0.3]).reshape(1, 1, 1, 1)
    dataset = Dataset("pixel", x, torch.tensor([0]), ("dark", "light"), levels=None)
    result = run(threshold(0.5), dataset, "ddn", steps=20, init_eps=0.3)
    assert transferring._column(threshold(0.25), dataset, [result], [result.adv]) == ([0], [0])


def threshold(at):
    """Light when the pixel exceeds ``at``."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-10.0], [10.0]]))
        model[1].bias.copy_(torch.tensor([10.0 * at, -10.0 * at]))
    return model.eval()


@pytest.mark.slow
def test_deeper_perturbations_carry_over_more(folder, found):
    deeper = transfer(folder, "ddn", steps=20, scale=3.0)
    assert deeper.eligible == found.eligible
    total = [sum(map(sum, each.fooled)) for each in (found, deeper)]
    assert total[1] > total[0]


@pytest.mark.slow
def test_the_matrix_is_the_same_on_every_run(folder, found):
    assert transfer(folder, "ddn", steps=20).to_json() == found.to_json()


def test_networks_are_picked_by_their_axes_and_the_dense_ones_stay():
    def cell(stage, criterion, sparsity, arm, seed=0):
        axes = {"model": "net", "seed": seed, "criterion": criterion, "sparsity": sparsity, "arm": arm}
        return Cell("0" * 8, stage, None, {**axes, "attack": None}, "dense", {})

    where = NetworkFilter(sparsities=(0.5,), arms=("standard",), seeds=(0,))
    assert cell("train", None, 0.0, "none") in where
    assert cell("tune", "l1", 0.5, "standard") in where
    assert cell("tune", "l1", 0.25, "standard") not in where
    assert cell("prune", "l1", 0.5, "none") not in where
    assert cell("train", None, 0.0, "none", seed=1) not in where


def test_a_folder_with_a_single_network_is_refused(folder):
    with pytest.raises(UserError, match="transfer needs at least two"):
        transfer(folder, where=NetworkFilter(models=("net",), arms=("none",), sparsities=(0.0,), seeds=(0,)))


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"criteria": ["none such"]}, "no network of the study has criterion none such"),
        ({"models": ["other"]}, "no network of the study has model other"),
        ({"sparsities": [0.123]}, "no network of the study has sparsity 0.123"),
        ({"arms": ["other"]}, "no network of the study has arm other"),
        ({"seeds": [0, 7]}, "no network of the study has seed 7"),
    ],
)
def test_what_no_network_has_is_told_instead_of_selecting_the_dense_ones_alone(folder, where, words):
    with pytest.raises(UserError, match=words) as told:
        transfer(folder, where=NetworkFilter(**where))
    assert "it has" in told.value.hint


@pytest.mark.slow
def test_examples_of_a_fixed_budget_can_be_written_too(folder, tmp_path):
    seed = NetworkFilter(seeds=(0,), arms=("none",))
    record = transfer(folder, "pgd", where=seed, limit=4, steps=2, eps=0.1).to_json()
    assert record["settings"]["norm"] == "inf"
    assert json.loads(write_transfer(record, tmp_path)[0].read_text()) == record


def test_a_limit_draws_images_of_every_class(folder):
    study = study_of(Store.open(folder).study)
    whole = attacked_images(study)
    drawn = transferring._images(study, 10)
    assert set(drawn.image_hashes()) <= set(whole.image_hashes())
    assert len(set(drawn.y.tolist())) > len(set(whole.y[:10].tolist())) - 1
    assert drawn.fingerprint == transferring._images(study, 10).fingerprint
    assert drawn.fingerprint != whole.take(range(10)).fingerprint


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_no_positive_number_is_refused(folder, scale):
    with pytest.raises(UserError, match="must be positive"):
        transfer(folder, scale=scale)


@pytest.mark.slow
def test_the_same_record_writes_the_same_files(found, tmp_path):
    first = write_transfer(found.to_json(), tmp_path / "a")
    again = write_transfer(found.to_json(), tmp_path / "b")
    assert [path.name for path in first] == [
        f"transfer-ddn-l2.{end}" for end in ("json", "csv", "png", "pdf")
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


@pytest.mark.slow
def test_the_command_line_writes_and_tells(folder, tmp_path, capsys):
    arguments = [
        "transfer",
        str(folder),
        "--steps",
        "5",
        "--limit",
        "4",
        "--arm",
        "standard",
        "--out",
        str(tmp_path),
    ]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--json"])
    assert not end.value.code
    record = json.loads(capsys.readouterr().out)
    assert record["images"] == 4
    assert len(record["networks"]) == 6
    assert (tmp_path / "transfer-ddn-l2.png").exists()
