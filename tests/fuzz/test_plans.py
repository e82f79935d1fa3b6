"""Saved networks with a changed plan, sealed again, or damaged files: the network, or one sentence."""

import json
import os
import random

import pytest
import torch
from torch import nn

import secateur
from fuzz.mutate import changed, damaged
from secateur.errors import UserError
from secateur.hashing import json_sha256
from secateur.pruning import origin, saved_statistics

ROUNDS = 2000 if os.environ.keys() & {"CI", "SLOW"} else 150


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    ).eval()


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model = network()
    secateur.prune(model, torch.rand(1, 1, 8, 8), sparsity=0.5)
    return secateur.save(
        model, tmp_path / "pruned", origin={"model": "tiny", "classes": 3, "input": [1, 1, 8, 8]}
    )


def sealed(document):
    if isinstance(document, dict):
        body = {key: value for key, value in document.items() if key != "hash"}
        return {**body, "hash": json_sha256(body)}
    return document


def sentences(folder):
    """What is said about a folder, by everything that reads it."""
    said = []
    for look in (
        lambda: secateur.load(folder, network),
        lambda: origin(folder),
        lambda: saved_statistics(folder),
    ):
        try:
            look()
        except UserError as refused:
            said.append(refused.message)
    return said


@pytest.mark.slow
def test_odd_plans_and_damaged_files_are_read_or_refused(folder):
    plan, weights = (folder / name for name in ("plan.json", "weights.safetensors"))
    before = {path: path.read_bytes() for path in (plan, weights)}
    for seed in range(ROUNDS):
        draw = random.Random(seed)
        path = weights if seed % 5 == 0 else plan
        if seed % 5 < 2:
            path.write_bytes(damaged(before[path], draw))
        else:
            path.write_text(
                json.dumps(sealed(changed(json.loads(before[path]), draw, draw.choice([1, 1, 2]))))
            )
        try:
            said = sentences(folder)
        except Exception as error:
            raise AssertionError(f"seed {seed}, {path.name}: {type(error).__name__}: {error}") from error
        assert not any("\n" in sentence for sentence in said), (seed, said)
        path.write_bytes(before[path])
    assert sentences(folder) == []


def inputs_of(**changes):
    def change(document):
        document["plans"][0]["inputs"][0].update(changes)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (inputs_of(shape=[10**6, 1, 10**3, 10**3]), "more than 268,435,456 numbers"),
        (inputs_of(dtype="load"), "and type load"),
        (inputs_of(shape=[1, 1, 8]), "does not fit the network"),
        (lambda document: document.update(origin=5), "its origin is no object"),
        (lambda document: document.update(fingerprint=["a"]), "does not fit the network"),
    ],
)
def test_a_plan_that_asks_for_too_much_is_refused(folder, change, said):
    document = json.loads((folder / "plan.json").read_text())
    change(document)
    (folder / "plan.json").write_text(json.dumps(sealed(document)))
    assert any(said in sentence for sentence in sentences(folder))


def test_lists_without_end_are_not_json(folder):
    (folder / "plan.json").write_text("[" * 100_000)
    assert any("it is not JSON" in sentence for sentence in sentences(folder))


@pytest.mark.parametrize("name", ["plan.json", "weights.safetensors"])
def test_a_pipe_or_a_device_is_no_file_of_a_network(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert len(sentences(folder)) >= 2
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert len(sentences(folder)) >= 2


def test_a_network_is_not_saved_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out").mkdir()
    for name in ("weights.safetensors", "README.md"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match=r"holds weights\.safetensors and README\.md already"):
        secateur.save(network(), tmp_path / "out")
    secateur.save(network(), tmp_path / "out", overwrite=True)
    assert (tmp_path / "mine").read_text() == "mine"
    assert secateur.load(tmp_path / "out", network)[4].out_features == 3
