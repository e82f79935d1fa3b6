"""Memory that runs short: batches in parts where no number depends on it, a plain refusal where one does."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from secateur.errors import UserError
from secateur.models import initialise
from secateur.train import Checkpoints, train
from train.cases import FULL, QUICK, dropping, network, seeded


class Hungry(nn.Module):
    """A network with room for ``room`` images in training."""

    def __init__(self, inner, room=1000):
        super().__init__()
        self.inner, self.room, self.seen = inner, room, []

    def forward(self, x):
        if self.training:
            self.seen.append(len(x))
        out = self.inner(x)
        if self.training and len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return out


def plain():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    initialise(model, seeded())
    return model


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


RANDOM = replace(FULL, epochs=2)
TRADES = replace(RANDOM, adversary=replace(RANDOM.adversary, method="trades", beta=2.0))
L2 = replace(RANDOM, adversary=replace(RANDOM.adversary, norm=2.0), accumulate=2)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [QUICK, RANDOM, TRADES, L2])
@pytest.mark.parametrize("room", [5, 12])
def test_a_batch_in_parts_gives_the_same_training_up_to_rounding(few, recipe, room):
    whole, short = Hungry(plain()), Hungry(plain(), room)
    expected, got = train(whole, *few, recipe, seed=3), train(short, *few, recipe, seed=3)
    assert expected.parts == 1
    assert got.parts in (4, 8) if recipe.accumulate == 1 else got.parts in (2, 4)
    assert max(short.seen[20:]) <= room
    # A few dozen steps, each of which adds sums of 32 gradients in another order.
    assert (weights(short) - weights(whole)).abs().max() < 2e-4
    for one, other in zip(got.epochs, expected.epochs, strict=True):
        assert abs(one.loss - other.loss) < 1e-4


def test_one_image_that_does_not_fit_fails_with_a_sentence_and_keeps_its_place(few, tmp_path):
    with pytest.raises(UserError, match="not even in 26 parts"):
        train(Hungry(plain(), 0), *few, QUICK, seed=3, checkpoints=Checkpoints(tmp_path))


class Ending(Hungry):
    """A network for whose third step there is room for two images only."""

    def forward(self, x):
        self.room = 2 if len(self.seen) >= 2 else 1000
        return super().forward(x)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "why"), [(network, "batch normalisation takes means"), (dropping, "draws random numbers")]
)
def test_a_network_whose_numbers_depend_on_the_batch_is_not_given_parts(few, tmp_path, make, why):
    seldom, steps = replace(QUICK, checkpoint_every=100), []
    with pytest.raises(UserError, match=why) as caught:
        train(Ending(make()), *few, seldom, seed=3, checkpoints=Checkpoints(tmp_path))
    assert "goes on at this step" in caught.value.hint
    whole, resumed = Hungry(make()), Hungry(make())
    expected = train(whole, *few, seldom, seed=3)
    note = lambda done, total: steps.append(done)  # noqa: E731
    got = train(resumed, *few, seldom, seed=3, checkpoints=Checkpoints(tmp_path), on_progress=note)
    assert got == expected
    assert torch.equal(weights(resumed), weights(whole))
    assert steps[0] == 3


def test_another_error_is_passed_on(few):
    def broken(module, arguments):
        if module.training:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    model = plain()
    model.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train(model, *few, QUICK, seed=3)
