"""Where a study's networks run. There is one device here, so what is seen is what is asked for."""

import pytest
import torch

from secateur import models
from secateur.config import parse_study
from secateur.errors import ExitCode, UserError
from secateur.stages import attack_stage, networks, train_stage
from secateur.study import plan
from whole import TINY, run_here


@pytest.fixture
def asked(monkeypatch):
    """The devices that networks are put on, by the module that asks; none is really moved."""
    found = []

    def to_device(model, device):
        found.append(device)
        return model

    for module in (models, attack_stage):
        monkeypatch.setattr(module, "to_device", to_device)
    assert {train_stage.models, networks.models} == {models}
    return found


@pytest.mark.slow
def test_networks_are_trained_judged_and_attacked_on_the_study_s_device(tmp_path, asked):
    _, records = run_here(TINY, tmp_path, "device=cuda:1")
    assert {record["status"] for record in records} == {"ok"}
    stages = [record["stage"] for record in records]
    # Training and fine-tuning place a network to fit and again to judge it.
    expected = sum({"train": 2, "tune": 2, "prune": 1, "attack": 1}[stage] for stage in stages)
    assert asked == ["cuda:1"] * expected
    assert {record["provenance"]["device"] for record in records} == {"cuda:1"}


@pytest.mark.slow
def test_the_device_changes_no_number_and_is_the_cpu_by_default(tmp_path, asked):
    _, first = run_here(TINY, tmp_path / "a")
    _, second = run_here(TINY, tmp_path / "b", "device=cuda")
    assert [(one["id"], one["science"]) for one in first] == [(one["id"], one["science"]) for one in second]
    assert set(asked) == {"cpu", "cuda"}


def test_a_judged_network_is_on_the_cpu_again(tmp_path, monkeypatch):
    study = parse_study(TINY)
    model = models.build("resnet-tiny")
    homes = []
    monkeypatch.setattr(model, "cpu", lambda: homes.append("cpu"))
    networks.measured(study, plan(study).cells[0], model, test=networks.splits_of(study).test)
    assert homes == ["cpu"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_device_stops_the_study_in_one_sentence_and_leaves_no_record(tmp_path):
    with pytest.raises(UserError, match="there is no device cuda here") as caught:
        run_here(TINY, tmp_path / "run", "device=cuda")
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert not list((tmp_path / "run" / "cells").rglob("*.json"))


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "meta", "CUDA"])
def test_what_is_no_device_is_refused_with_its_line(device):
    with pytest.raises(UserError, match="a device is cpu, cuda"):
        parse_study(TINY, overrides=[f"device='{device}'"])
