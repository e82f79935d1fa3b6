from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from secateur.errors import UserError
from secateur.models import weights_hash
from secateur.train import Checkpoints, checkpoints, loop, train
from train.cases import EVERYTHING, FULL, QUICK, dropping, network

# Other moments to be killed at, for CI: in the second and in the last of four epochs of five batches.
SLOW = [pytest.param(batch, marks=pytest.mark.slow) for batch in (6, 17)]


class Killed(BaseException):
    pass


def killer(batch):
    def tick(done, total):
        if done == batch:
            raise Killed

    return tick


@pytest.fixture(scope="module")
def uninterrupted(few):
    """History and weights of a training that nobody interrupts: each is trained once for all tests."""

    @cache
    def trained(make, recipe, teacher=None):
        model = make()
        return train(model, *few, recipe, seed=3, teacher=teacher and teacher(9)), weights_hash(model)

    return trained


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [QUICK, FULL])
@pytest.mark.parametrize("make", [network, dropping])
@pytest.mark.parametrize("killed_at", [1, *SLOW, 12, 20])
def test_an_interrupted_training_ends_as_the_uninterrupted_one(
    few, uninterrupted, tmp_path, recipe, make, killed_at
):
    expected, weights = uninterrupted(make, recipe)
    with pytest.raises(Killed):
        train(make(), *few, recipe, seed=3, checkpoints=Checkpoints(tmp_path), on_progress=killer(killed_at))
    resumed = make()
    assert train(resumed, *few, recipe, seed=3, checkpoints=Checkpoints(tmp_path)) == expected
    assert weights_hash(resumed) == weights


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [*SLOW, 12])
def test_an_interrupted_training_with_everything_on_ends_as_the_uninterrupted_one(
    few, uninterrupted, tmp_path, killed_at
):
    teacher = network(9)
    expected, weights = uninterrupted(network, EVERYTHING, network)
    with pytest.raises(Killed):
        train(
            network(),
            *few,
            EVERYTHING,
            seed=3,
            teacher=teacher,
            checkpoints=Checkpoints(tmp_path),
            on_progress=killer(killed_at),
        )
    resumed = network()
    assert (
        train(resumed, *few, EVERYTHING, seed=3, teacher=teacher, checkpoints=Checkpoints(tmp_path))
        == expected
    )
    assert weights_hash(resumed) == weights
    with pytest.raises(UserError, match="another training"):
        train(network(), *few, EVERYTHING, seed=3, teacher=network(8), checkpoints=Checkpoints(tmp_path))


@pytest.mark.parametrize(("recipe", "fold"), [(FULL, False), (EVERYTHING, True)])
def test_a_setting_that_older_versions_did_not_have_stops_none_of_their_trainings(
    few, monkeypatch, recipe, fold
):
    """Adversaries of older checkpoints know nothing of ``fold``, and left it out of what they hashed."""
    hashed = []
    monkeypatch.setattr(checkpoints, "json_sha256", hashed.append)
    checkpoints.identify(network(), *few, recipe, seed=3, teacher=None)
    assert ("fold" in str(hashed)) == fold


@pytest.mark.slow
@pytest.mark.parametrize("part", ["momentum", "average", "penalty", "best"])
def test_a_checkpoint_without_any_of_its_parts_would_be_noticed(
    few, uninterrupted, tmp_path, monkeypatch, part
):
    real = loop.generation

    def forgetful(identity, job, state):
        tensors, meta = real(identity, job, state)
        zeroed = {name: torch.zeros_like(tensor) for name, tensor in tensors.items() if name.startswith(part)}
        assert zeroed
        return tensors | zeroed, meta

    monkeypatch.setattr(loop, "generation", forgetful)
    with pytest.raises(AssertionError):
        test_an_interrupted_training_with_everything_on_ends_as_the_uninterrupted_one(
            few, uninterrupted, tmp_path, 17
        )


def test_a_checkpoint_without_momentum_would_be_noticed(few, uninterrupted, tmp_path, monkeypatch):
    real = loop.generation

    def forgetful(*arguments):
        tensors, meta = real(*arguments)
        return {name: tensor for name, tensor in tensors.items() if not name.startswith("momentum")}, meta

    monkeypatch.setattr(loop, "generation", forgetful)
    with pytest.raises(AssertionError):
        test_an_interrupted_training_ends_as_the_uninterrupted_one(
            few, uninterrupted, tmp_path, QUICK, network, 12
        )


def test_a_finished_training_is_not_repeated(few, tmp_path):
    ticks = []
    expected = train(network(), *few, QUICK, seed=3, checkpoints=Checkpoints(tmp_path))
    again = network()
    recorded = lambda *tick: ticks.append(tick)  # noqa: E731
    assert (
        train(again, *few, QUICK, seed=3, checkpoints=Checkpoints(tmp_path), on_progress=recorded) == expected
    )
    assert ticks == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"recipe": replace(QUICK, learning_rate=0.06)}, {"model": 1}]
)
def test_checkpoints_of_another_training_are_refused(few, tmp_path, change):
    train(network(), *few, QUICK, seed=3, checkpoints=Checkpoints(tmp_path))
    model, recipe = network(change.get("model", 0)), change.get("recipe", QUICK)
    with pytest.raises(UserError, match="belong to another training"):
        train(model, *few, recipe, seed=change.get("seed", 3), checkpoints=Checkpoints(tmp_path))


SELDOM = {"checkpoint_every": 100}


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [1, 3, *SLOW, 13])
@pytest.mark.parametrize(("make", "recipe"), [(network, FULL), (dropping, QUICK)])
def test_a_stopped_training_goes_on_at_the_step_where_it_was(
    few, uninterrupted, tmp_path, make, recipe, killed_at
):
    """Between two checkpoints, within an epoch: nothing that was done is done again, and no bit differs."""
    expected, weights = uninterrupted(make, recipe)
    seldom, steps = replace(recipe, **SELDOM), []
    with pytest.raises(Killed):
        train(make(), *few, seldom, seed=3, checkpoints=Checkpoints(tmp_path), on_progress=killer(killed_at))
    resumed = make()
    again = train(
        resumed,
        *few,
        recipe,  # how often a training is saved makes no other training of it
        seed=3,
        checkpoints=Checkpoints(tmp_path),
        on_progress=lambda done, total: steps.append(done),
    )
    assert (again, weights_hash(resumed)) == (expected, weights)
    assert steps == list(range(killed_at + 1, 21))


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [7, 10])
def test_a_stopped_training_with_everything_on_goes_on_at_its_step(few, uninterrupted, tmp_path, killed_at):
    teacher, seldom = network(9), replace(EVERYTHING, **SELDOM)
    expected, weights = uninterrupted(network, EVERYTHING, network)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(Killed):
        train(
            network(),
            *few,
            seldom,
            seed=3,
            teacher=teacher,
            checkpoints=checkpoints,
            on_progress=killer(killed_at),
        )
    resumed = network()
    assert train(resumed, *few, seldom, seed=3, teacher=teacher, checkpoints=checkpoints) == expected
    assert weights_hash(resumed) == weights


class Failing(nn.Module):
    """A network whose forward pass in training fails, after it has changed its buffers and drawn numbers."""

    def __init__(self, inner, at):
        super().__init__()
        self.inner, self.at, self.calls = inner, at, 0

    def forward(self, x):
        out = self.inner(x)
        self.calls += self.training
        if self.training and self.calls == self.at:
            torch.rand(7)
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return out


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 8])
def test_a_training_that_fails_in_a_step_goes_on_at_that_step(few, tmp_path, at):
    recipe, steps = replace(QUICK, **SELDOM), []
    expected = Failing(network(), at=0)
    history = train(expected, *few, recipe, seed=3)
    with pytest.raises(RuntimeError, match="illegal"):
        train(Failing(network(), at=at), *few, recipe, seed=3, checkpoints=Checkpoints(tmp_path))
    resumed = Failing(network(), at=0)
    note = lambda done, total: steps.append(done)  # noqa: E731
    assert (
        train(resumed, *few, recipe, seed=3, checkpoints=Checkpoints(tmp_path), on_progress=note) == history
    )
    assert weights_hash(resumed) == weights_hash(expected)
    assert steps[0] == at


def test_a_checkpoint_within_an_epoch_without_its_streams_would_be_noticed(
    few, uninterrupted, tmp_path, monkeypatch
):
    real = loop.Streams.restore
    monkeypatch.setattr(loop.Streams, "restore", lambda self, states: None)
    with pytest.raises(AssertionError):
        test_a_stopped_training_goes_on_at_the_step_where_it_was(
            few, uninterrupted, tmp_path, dropping, QUICK, 3
        )
    monkeypatch.setattr(loop.Streams, "restore", real)


@pytest.mark.slow
def test_checkpoints_of_a_former_start_are_replaced_where_the_folder_says_so(few, tmp_path):
    train(network(1), *few, QUICK, seed=3, checkpoints=Checkpoints(tmp_path))
    fresh, again = network(), network()
    expected = train(fresh, *few, QUICK, seed=3)
    assert train(again, *few, QUICK, seed=3, checkpoints=Checkpoints(tmp_path, restart=True)) == expected
    assert weights_hash(again) == weights_hash(fresh)
