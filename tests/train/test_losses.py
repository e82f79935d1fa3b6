from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from secateur.data import load_splits, subset
from secateur.models import accuracy, eval_mode, initialise, weights_hash
from secateur.recipes import Adversary, Distillation, Penalty, Recipe
from secateur.train import History, adversary, collapsed, loop, objective, perturb, recalibrate, train
from secateur.train.averaging import Average
from secateur.train.history import Epoch
from secateur.train.losses import Penaliser
from train.cases import network, seeded

TRADES = Adversary(0.1, 0.04, 4, method="trades", beta=3.0)
PLAIN = Recipe(epochs=3, batch_size=32, learning_rate=0.05)


def cost(model, recipe, *, teacher=None, n=16):
    x = torch.rand(n, 1, 8, 8, generator=seeded(1))
    y = torch.randint(0, 10, (n,), generator=seeded(2))
    loss, scores = objective(model, x, y, recipe, generator=seeded(3), bounds=(0.0, 1.0), teacher=teacher)
    return x, y, loss, scores


def test_trades_is_the_clean_loss_and_beta_times_the_divergence():
    recipe = replace(PLAIN, adversary=TRADES)
    x, y, loss, scores = cost(network().eval(), recipe)
    model = network().eval()
    adv = perturb(model, x, y, adversary=TRADES, generator=seeded(3))
    with torch.no_grad():
        clean, attacked = model(x), model(adv)
        p, q = clean.softmax(1), attacked.softmax(1)
        expected = F.cross_entropy(clean, y) + 3.0 * (p * (p / q).log()).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(scores, attacked, atol=1e-6)


def test_trades_perturbs_towards_another_prediction_than_the_clean_one():
    model = network().eval()
    x, y, _, _ = cost(model, PLAIN)
    adv = perturb(model, x, y, adversary=TRADES, generator=seeded())
    with torch.no_grad():
        clean = model(x).log_softmax(1)
        start = adversary.divergence(clean, model(x + 0.001))
        assert adversary.divergence(clean, model(adv)) > 10 * start
    assert (adv - x).abs().max() <= 0.1 + 1e-6


def test_a_divergence_the_wrong_way_round_would_be_noticed(monkeypatch):
    def swapped(clean, scores):
        return F.kl_div(clean, F.log_softmax(scores, 1), reduction="sum", log_target=True)

    monkeypatch.setattr("secateur.train.losses.divergence", swapped)
    with pytest.raises(AssertionError):
        test_trades_is_the_clean_loss_and_beta_times_the_divergence()


def test_distillation_mixes_in_the_softened_teacher():
    teacher = network(5).eval()
    recipe = replace(PLAIN, distillation=Distillation(weight=0.7, temperature=3.0))
    x, y, loss, scores = cost(network().eval(), recipe, teacher=teacher)
    with torch.no_grad():
        p, q = (teacher(x) / 3).softmax(1), (scores / 3).softmax(1)
        expected = 0.3 * F.cross_entropy(scores, y) + 0.7 * 9 * (p * (p / q).log()).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.slow
def test_a_student_of_weight_one_comes_close_to_its_teacher(few):
    teacher = network(5)
    train(teacher, *few, replace(PLAIN, epochs=6), seed=0)
    before = weights_hash(teacher)
    student, alone = network(), network()
    recipe = replace(PLAIN, epochs=8, distillation=Distillation(weight=1.0, temperature=2.0))
    train(student, *few, recipe, seed=0, teacher=teacher)
    train(alone, *few, replace(recipe, distillation=None), seed=0)
    with eval_mode(teacher), eval_mode(student), eval_mode(alone), torch.no_grad():
        target = F.log_softmax(teacher(few[1].x), 1)
        apart = [adversary.divergence(target, model(few[1].x)).item() for model in (student, alone)]
    assert apart[0] < apart[1]
    assert weights_hash(teacher) == before


def test_the_teacher_is_shown_clean_images_also_in_adversarial_training():
    seen = []

    class Teacher(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network(5)

        def forward(self, x):
            seen.append(x)
            return self.net(x)

    recipe = replace(PLAIN, adversary=Adversary(0.1, 0.05, 2), distillation=Distillation())
    x, _, _, _ = cost(network(), recipe, teacher=Teacher())
    assert len(seen) == 1
    assert torch.equal(seen[0], x)


def test_a_network_trained_against_one_step_is_judged_by_ten():
    fast = Adversary(0.1, 0.125, 1)
    assert adversary.for_validation(fast) == replace(fast, steps=10, step_size=0.025)
    assert adversary.for_validation(TRADES) == replace(TRADES, method="madry")


def epoch(number, robust, clean=0.9):
    return Epoch(number, 0.1, 0.9, clean, 0.1, robust)


def test_a_sudden_loss_of_robustness_is_found():
    epochs = [epoch(1, 0.2), epoch(2, 0.4), epoch(3, 0.19), epoch(4, 0.21), epoch(5, 0.05)]
    assert collapsed(epochs) == (3, 5)
    assert collapsed([epoch(1, None), epoch(2, None)]) == ()
    assert History(tuple(epochs), 2).to_json()["collapsed"] == [3, 5]


def test_a_collapsed_epoch_is_never_kept_however_accurate(few):
    state = loop.State(best={})
    for entry in (epoch(1, 0.4, 0.7), epoch(2, 0.5, 0.8), epoch(3, 0.1, 0.99)):
        loop._keep(entry, network(), PLAIN, state)
    assert state.best_epoch == 2


def test_averaged_weights_follow_the_formula():
    model = network()
    average = Average(model, 0.5)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(1, 30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1)
        decay = min(0.5, (1 + step) / (10 + step))
        average.update(model, step)
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * tensor
    for name, tensor in average.tensors.items():
        assert torch.allclose(tensor.float(), expected[name].float(), atol=1e-5), name
    before = weights_hash(model)
    with average.applied(model):
        assert weights_hash(model) != before
    assert weights_hash(model) == before


def test_with_an_average_the_kept_weights_are_averages(few):
    plain, averaged = network(), network()
    train(plain, *few, replace(PLAIN, epochs=1), seed=0)
    history = train(averaged, *few, replace(PLAIN, epochs=1, ema=0.8), seed=0)
    assert weights_hash(plain) != weights_hash(averaged)
    assert accuracy(averaged, few[1].x, few[1].y) == history.epochs[0].validation_accuracy


def test_recalibration_gives_the_statistics_of_the_images():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(0.9), nn.Linear(64, 10))
    splits = load_splits("digits", generator=seeded())
    data = subset(splits.train, 256, generator=seeded())
    model[0].running_mean.fill_(7.0)
    before = model[3].weight.clone()
    modes = [part.training for part in model.modules()]
    recalibrate(model, data, generator=seeded(), batch_size=64)
    assert model[0].running_mean.item() == pytest.approx(data.x.mean().item(), rel=1e-4)
    assert model[0].running_var.item() == pytest.approx(data.x.var().item(), rel=1e-2)
    assert torch.equal(model[3].weight, before)
    assert [part.training for part in model.modules()] == modes
    assert model[0].momentum == 0.1


@pytest.mark.slow
def test_recalibration_alone_is_a_recipe(few):
    model, stale = network(), network()
    train(stale, *few, replace(PLAIN, epochs=10), seed=0)
    model.load_state_dict(stale.state_dict())
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.add_(10.0)
    broken = accuracy(model, few[1].x, few[1].y)
    history = train(model, *few, Recipe(epochs=0, recalibrate=True), seed=0)
    assert accuracy(model, few[1].x, few[1].y) > broken + 0.25
    assert history.best_epoch == 0
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), stale.parameters(), strict=True))


def test_accumulating_gradients_changes_memory_and_not_the_result_without_batch_statistics(few):
    def dense():
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
        initialise(model, seeded())
        return model

    whole, parts = dense(), dense()
    first = train(whole, *few, PLAIN, seed=0)
    second = train(parts, *few, replace(PLAIN, accumulate=3), seed=0)
    assert [e.loss for e in second.epochs] == pytest.approx([e.loss for e in first.epochs], rel=1e-4)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_half_precision_and_memory_format_keep_the_training_close(few):
    losses = []
    for change in ({}, {"precision": "bfloat16"}, {"channels_last": True}):
        model = network()
        losses.append(train(model, *few, replace(PLAIN, **change), seed=0).epochs[-1].loss)
        assert model.get_parameter("conv1.weight").dtype == torch.float32
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]
    assert losses[2] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bn_scale", "group_lasso", "group_norm", "growing_reg"])
def test_a_penalty_drives_what_it_acts_on_towards_zero(few, kind):
    free, sparse = network(), network()
    recipe = replace(PLAIN, epochs=4, weight_decay=0.0)
    train(free, *few, recipe, seed=0)
    train(sparse, *few, replace(recipe, penalty=Penalty(kind, 0.5, 0.1)), seed=0)

    def size(model):
        if kind == "bn_scale":
            return sum(
                part.weight.abs().sum() for part in model.modules() if isinstance(part, nn.BatchNorm2d)
            )
        return sum(squares.sum() for squares in Penaliser(model, Penalty(kind), few[0].x[:2]).squares())

    assert size(sparse) < 0.9 * size(free)


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.conv2(torch.relu(self.conv1(x))).relu().mean((2, 3)))


def chain():
    model = Chain()
    initialise(model, seeded())
    return model


def channel_norms(model):
    """By hand: the squares of each hidden channel over its filter, its bias and what reads it."""
    first, second = model.conv1.weight.square(), model.conv2.weight.square()
    return [
        first.sum((1, 2, 3)) + model.conv1.bias.square() + second.sum((0, 2, 3)),
        second.sum((1, 2, 3)) + model.conv2.bias.square() + model.fc.weight.square().sum(0),
    ]


def test_the_penalties_are_their_formulas():
    model, x = chain(), torch.rand(2, 1, 8, 8, generator=seeded())
    by_hand = channel_norms(model)
    found = Penaliser(model, Penalty("group_lasso"), x).squares()
    for mine, expected in zip(found, by_hand, strict=True):
        assert torch.allclose(mine, expected, rtol=1e-5)
    lasso = Penaliser(model, Penalty("group_lasso", 0.3), x).loss()
    assert lasso.item() == pytest.approx(0.3 * sum(s.sqrt().sum().item() for s in by_hand), rel=1e-5)
    smallness = [(s.sqrt().max() - s.sqrt()) / (s.sqrt().max() - s.sqrt().min()) for s in by_hand]
    norm = Penaliser(model, Penalty("group_norm", 0.3, alpha=4.0), x).loss()
    expected = sum((2 ** (4 * u) * s).sum().item() for u, s in zip(smallness, by_hand, strict=True))
    assert norm.item() == pytest.approx(0.15 * expected, rel=1e-4)
    growing = Penaliser(model, Penalty("growing_reg", 0.3, growth=0.1), x)
    assert growing.loss().item() == pytest.approx(0.15 * sum(s.sum().item() for s in by_hand), rel=1e-5)
    growing.grow()
    growing.grow()
    expected = sum(((0.3 + 0.2 * u) * s).sum().item() for u, s in zip(smallness, by_hand, strict=True))
    assert growing.loss().item() == pytest.approx(expected / 2, rel=1e-4)


def test_a_penalty_without_the_following_layer_would_be_noticed(monkeypatch):
    real = Penaliser.squares

    def partly(self):
        self.groups = [[place for place in places if place[1] == 0] for places in self.groups]
        return real(self)

    monkeypatch.setattr(Penaliser, "squares", partly)
    with pytest.raises(AssertionError):
        test_the_penalties_are_their_formulas()


def test_penalties_with_nothing_to_act_on_are_refused():
    from secateur.errors import UserError

    with pytest.raises(UserError, match="no batch normalisation"):
        Penaliser(chain(), Penalty("bn_scale"), torch.zeros(2, 1, 8, 8))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UserError, match="no prunable groups"):
        Penaliser(flat, Penalty("group_lasso"), torch.zeros(2, 1, 2, 2))
