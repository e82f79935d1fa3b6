import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from secateur.cpu import malloc
from secateur.data import Dataset
from secateur.errors import UserError
from secateur.models import accuracy, build, weights_hash
from secateur.recipes import Adversary, Distillation, Recipe
from secateur.train import Checkpoints, learning_rate, loop, perturb, train
from secateur.train.descent import Descent
from train.cases import FULL, QUICK, dropping, network, seeded


@pytest.mark.slow
def test_plain_training_classifies_the_digits(splits):
    model = network(widths=(8, 16, 24))
    history = train(model, splits.train, splits.validation, Recipe(8, 64, 0.1), seed=0)
    assert accuracy(model, splits.test.x, splits.test.y) >= 0.97
    assert len(history.epochs) == 8
    assert history.epochs[-1].loss < 0.1


@pytest.mark.slow
def test_adversarial_training_gives_a_visibly_more_robust_network(splits):
    recipe = Recipe(10, 64, 0.1)
    plain, robust = network(widths=(16, 32, 48)), network(widths=(16, 32, 48))
    train(plain, splits.train, splits.validation, recipe, seed=0)
    train(
        robust, splits.train, splits.validation, replace(recipe, adversary=Adversary(0.15, 0.06, 4)), seed=0
    )
    test = splits.test
    under_attack = [
        accuracy(model, perturb(model, test.x, test.y, adversary=strong, generator=seeded()), test.y)
        for model in (plain, robust)
        for strong in [Adversary(0.15, 0.03, 20)]
    ]
    assert accuracy(robust, test.x, test.y) >= 0.95
    assert under_attack[0] < 0.3
    assert under_attack[1] > 0.75


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [QUICK, FULL])
@pytest.mark.parametrize("make", [network, dropping])
def test_the_same_seed_gives_the_same_network_to_the_bit(few, recipe, make):
    first, second, other = make(), make(), make()
    one = train(first, *few, recipe, seed=3)
    torch.rand(5)
    assert train(second, *few, recipe, seed=3) == one
    train(other, *few, recipe, seed=4)
    assert weights_hash(first) == weights_hash(second)
    assert weights_hash(first) != weights_hash(other)


def test_training_leaves_the_global_random_state_alone(few):
    model, before = dropping(), torch.get_rng_state()
    train(model, *few, FULL, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_counts_batches_to_the_total(few):
    ticks = []
    train(network(), *few, QUICK, seed=0, on_progress=lambda done, total: ticks.append((done, total)))
    assert ticks == [(index + 1, 20) for index in range(20)]


@pytest.mark.slow
def test_the_weights_are_those_of_the_best_epoch_on_validation(few):
    model = network()
    history = train(model, *few, replace(QUICK, epochs=8), seed=1)
    best = max(epoch.validation_accuracy for epoch in history.epochs)
    assert accuracy(model, few[1].x, few[1].y) == best
    assert history.epochs[history.best_epoch - 1].validation_accuracy == best
    assert all(epoch.validation_accuracy < best for epoch in history.epochs[history.best_epoch :])


@pytest.mark.slow
def test_keeping_the_last_epoch_instead_of_the_best_would_be_noticed(few, monkeypatch):
    def careless(entry, model, recipe, state):
        state.epochs.append(entry)
        state.best, state.best_epoch = loop.weights_of(model), 1

    monkeypatch.setattr(loop, "_keep", careless)
    with pytest.raises(AssertionError):
        test_the_weights_are_those_of_the_best_epoch_on_validation(few)


def test_the_loop_descends_as_plain_torch_code_would(few, monkeypatch):
    """Two epochs of one batch each, against an independent computation."""

    def keep_last(entry, model, recipe, state):
        state.epochs.append(entry)
        state.best, state.best_epoch = loop.weights_of(model), entry.epoch

    monkeypatch.setattr(loop, "_keep", keep_last)
    data = few[0]
    recipe = Recipe(epochs=2, batch_size=data.n, learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    model, naive = network(), network()
    history = train(model, data, data, recipe, seed=0)
    velocity = [torch.zeros_like(parameter) for parameter in naive.parameters()]
    losses = []
    for rate in (0.1, 0.05):
        naive.train()
        loss = F.cross_entropy(naive(data.x), data.y)
        gradients = torch.autograd.grad(loss, list(naive.parameters()))
        with torch.no_grad():
            for parameter, speed, gradient in zip(naive.parameters(), velocity, gradients, strict=True):
                speed.mul_(0.9).add_(gradient + 0.01 * parameter)
                parameter.sub_(rate * speed)
        losses.append(loss.item())
    assert [epoch.loss for epoch in history.epochs] == pytest.approx(losses, rel=1e-4)
    for mine, theirs in zip(model.parameters(), naive.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)


def test_learning_rates_follow_their_schedules():
    def rates(schedule):
        recipe = Recipe(epochs=4, learning_rate=0.1, schedule=schedule, decay=0.1)
        return [learning_rate(recipe, epoch) for epoch in range(1, 5)]

    assert rates("constant") == [0.1] * 4
    assert rates("exponential") == pytest.approx([1e-1, 1e-2, 1e-3, 1e-4])
    assert rates("cosine") == pytest.approx([0.1, 0.05 * (1 + 0.5**0.5), 0.05, 0.05 * (1 - 0.5**0.5)])
    assert rates("cosine_per_step") == rates("cosine")  # where an epoch begins


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [("cosine", [0, 0, 0, 0.5, 0.5, 0.5]), ("cosine_per_step", [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])],
)
def test_every_step_has_the_learning_rate_of_its_place(few, monkeypatch, schedule, shares):
    """``shares``: the part of the training that the cosine sees behind each of two epochs of three steps."""
    seen = []
    real = Descent.step

    def step(self):
        seen.append(self.param_groups[0]["lr"])
        real(self)

    monkeypatch.setattr(Descent, "step", step)
    data = few[0]
    recipe = Recipe(epochs=2, batch_size=math.ceil(data.n / 3), learning_rate=0.1, schedule=schedule)
    history = train(network(), data, data, recipe, seed=0)
    assert seen == pytest.approx([0.05 * (1 + math.cos(math.pi * share)) for share in shares])
    assert [epoch.learning_rate for epoch in history.epochs] == pytest.approx([0.1, 0.05])


def test_zero_epochs_train_nothing(few):
    model = network()
    history = train(model, *few, replace(QUICK, epochs=0), seed=0)
    assert weights_hash(model) == weights_hash(network())
    assert (history.epochs, history.best_epoch, history.outcome) == ((), 0, "completed")


class Explodes(nn.Module):
    """Returns NaN after some training batches."""

    def __init__(self, batches):
        super().__init__()
        self.net, self.left = network(), batches

    def forward(self, x):
        self.left -= self.training
        return self.net(x) * (float("nan") if self.left < 0 and self.training else 1.0)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_the_last_good_weights(few, tmp_path):
    sane, model = Explodes(10**6), Explodes(12)
    train(sane, *few, replace(QUICK, epochs=4), seed=3, on_progress=None)
    history = train(model, *few, QUICK, seed=3, checkpoints=Checkpoints(tmp_path))
    assert history.outcome == "diverged"
    assert len(history.epochs) == 2
    assert history.best_epoch in {1, 2}
    assert accuracy(model, few[1].x, few[1].y) == max(epoch.validation_accuracy for epoch in history.epochs)
    assert "not finite in epoch 3" in history.sentence
    saved = Checkpoints(tmp_path).latest()
    assert saved is not None
    assert saved.epoch == 2


def test_a_divergence_in_the_first_epoch_keeps_the_starting_weights(few):
    model = network()
    history = train(model, *few, replace(QUICK, learning_rate=1e30), seed=0)
    assert (history.outcome, history.best_epoch) == ("diverged", 0)
    assert weights_hash(model) == weights_hash(network())
    assert "nothing was learned" in history.sentence


def test_every_image_is_seen_once_per_epoch_and_no_batch_has_a_single_one(few):
    seen = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x):
            if self.training:
                seen.append(x.detach().clone())
            return self.net(x)

    data = few[0]
    assert data.n % 32 == 1
    train(Watching(), data, data, replace(QUICK, epochs=1), seed=0)
    assert sorted(len(batch) for batch in seen) == [25, 26, 26, 26, 26]
    images = torch.cat(seen)
    assert torch.equal(images.flatten(1).sort(0).values, data.x.flatten(1).sort(0).values)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (replace(QUICK, batch_size=1), "at least two images per batch"),
        (replace(QUICK, epochs=-1), "epochs must be in"),
        (replace(QUICK, learning_rate=float("nan")), "learning_rate must be in"),
        (replace(QUICK, select="robust"), "needs an adversary"),
        (replace(QUICK, adversary=Adversary(0.1, 0.1, norm=1)), "norm must be one of 2, inf"),
    ],
)
def test_an_impossible_recipe_is_refused_before_training(few, recipe, said):
    model = network()
    with pytest.raises(UserError, match=said):
        train(model, *few, recipe, seed=0)
    assert weights_hash(model) == weights_hash(network())


def test_a_distillation_needs_a_teacher_that_fits(few):
    recipe = replace(QUICK, distillation=Distillation())
    with pytest.raises(UserError, match="needs a teacher"):
        train(network(), *few, recipe, seed=0)
    with pytest.raises(UserError, match="the teacher does not accept images"):
        train(network(), *few, recipe, seed=0, teacher=build("resnet-tiny", in_channels=3))
    with pytest.raises(UserError, match="10 classes, its teacher 11"):
        train(network(), *few, recipe, seed=0, teacher=build("resnet-tiny", num_classes=11))


def test_a_batch_of_one_is_fine_without_batch_normalisation(few):
    tiny = few[0].take(range(6))
    assert train(dropping(), tiny, tiny, Recipe(1, 1, 0.01), seed=0).outcome == "completed"


def test_images_and_classes_that_do_not_fit_the_model_are_refused(few):
    with pytest.raises(UserError, match="does not accept images of shape \\[1, 8, 8\\]"):
        train(build("resnet-tiny", in_channels=3), *few, QUICK, seed=0)
    with pytest.raises(UserError, match="the model has 5 classes, dataset 'digits' has 10"):
        train(build("resnet-tiny", num_classes=5), *few, QUICK, seed=0)
    with pytest.raises(UserError, match="no parameters to train"):
        train(network().requires_grad_(False), *few, QUICK, seed=0)
    with pytest.raises(UserError, match="seed"):
        train(network(), *few, QUICK, seed=-1)


def test_frozen_parameters_stay(few):
    model = network()
    model.get_submodule("layer1").requires_grad_(False)
    before = model.get_parameter("layer1.0.conv1.weight").clone()
    train(model, *few, QUICK, seed=0)
    assert torch.equal(model.get_parameter("layer1.0.conv1.weight"), before)


def test_the_history_is_plain_json(few):
    import json

    history = train(network(), *few, replace(FULL, epochs=2), seed=0).to_json()
    assert json.loads(json.dumps(history, allow_nan=False)) == history
    assert set(history) == {"epochs", "best_epoch", "outcome", "collapsed"}
    assert history["epochs"][0]["epoch"] == 1
    assert 0 <= history["epochs"][0]["robust_accuracy"] <= 1
    assert math.isclose(history["epochs"][0]["learning_rate"], FULL.learning_rate)


def test_images_outside_of_zero_and_one_never_reach_the_model(few):
    assert isinstance(few[0], Dataset)
    with pytest.raises(UserError, match="outside"):
        replace(few[0], x=few[0].x * 255)


def test_memory_stays_in_the_process_from_step_to_step(few):
    inside = []
    train(network(), *few, QUICK, seed=0, on_progress=lambda *_: inside.append(malloc._users))
    assert set(inside) == {0 if malloc._glibc() is None else 1}
    assert malloc._users == 0
