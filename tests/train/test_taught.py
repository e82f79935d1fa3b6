from dataclasses import replace

import pytest
import torch
from torch import nn

from secateur.models import weights_hash
from secateur.recipes import Adversary, Augment, Distillation
from secateur.train import Checkpoints, taught, train
from train.cases import QUICK, network

DISTILLED = replace(QUICK, distillation=Distillation(0.7, 3.0))


class Counting(nn.Module):
    """A teacher that counts the images it is shown."""

    def __init__(self, fails=""):
        super().__init__()
        self.net, self.seen, self.fails = network(9), 0, fails

    def forward(self, x):
        self.seen += len(x)
        if self.fails and self.seen > 40:
            told, self.fails = self.fails, ""
            raise RuntimeError(told)
        return self.net(x)


def images_shown(few, recipe, **options):
    teacher = Counting(**options)
    train(network(), *few, recipe, seed=3, teacher=teacher)
    return teacher.seen - 2  # two are shown when teacher and images are checked


@pytest.mark.parametrize("adversary", [None, Adversary(0.1, 0.05, 1)])
def test_the_teacher_is_shown_every_image_once(few, adversary):
    recipe = replace(DISTILLED, adversary=adversary)
    assert images_shown(few, recipe) == few[0].n
    assert images_shown(few, replace(recipe, epochs=1)) == few[0].n


def test_augmented_images_are_shown_in_every_epoch(few):
    recipe = replace(DISTILLED, augment=Augment(padding=1))
    assert images_shown(few, recipe) == recipe.epochs * few[0].n


def test_logits_that_would_need_much_memory_are_not_kept(few, monkeypatch):
    monkeypatch.setattr(taught, "SMALL", 0.1)  # 10 classes, 64 pixels
    assert images_shown(few, DISTILLED) == DISTILLED.epochs * few[0].n


def test_what_the_teacher_said_once_trains_as_what_it_says_in_every_step(few, monkeypatch):
    def weights():
        model = network()
        train(model, *few, replace(DISTILLED, adversary=Adversary(0.1, 0.05, 1)), seed=3, teacher=network(9))
        return torch.cat([each.flatten() for each in model.parameters()])

    kept = weights()
    monkeypatch.setattr(taught, "SMALL", 0.0)
    assert torch.allclose(kept, weights(), atol=1e-5)
    monkeypatch.setattr(taught, "SMALL", 0.25)
    exact = taught._taught
    monkeypatch.setattr(taught, "_taught", lambda job: exact(job).roll(1, 0))
    assert not torch.allclose(kept, weights(), atol=1e-5)


def test_a_lack_of_memory_is_no_end(few):
    shown = images_shown(few, DISTILLED, fails="DefaultCPUAllocator: can't allocate memory")
    assert shown > DISTILLED.epochs * few[0].n
    with pytest.raises(RuntimeError, match="defect"):
        images_shown(few, DISTILLED, fails="a defect")


def test_the_progress_counts_the_teacher_and_ends_at_all(few):
    ticks = []
    train(
        network(), *few, DISTILLED, seed=3, teacher=network(9),
        on_progress=lambda *tick: ticks.append(tick),
    )  # fmt: skip
    done, (total,) = [tick[0] for tick in ticks], {tick[1] for tick in ticks}
    assert done == sorted(done)
    # 129 images, 5 batches in each of 4 epochs; the teacher's forward passes are a third of 5 steps.
    assert (done[-1], total) == (22, 22)


def test_a_teacher_that_draws_random_numbers_draws_them_from_the_seed(few):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network(9)

        def forward(self, x):
            return self.net(x) + torch.rand(1)

    def weights():
        model = network()
        train(model, *few, DISTILLED, seed=3, teacher=Noisy())
        return weights_hash(model)

    first = weights()
    torch.rand(7)
    assert weights() == first


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("at", [1, 4, 9])
def test_a_stopped_distillation_ends_as_the_uninterrupted_one(few, tmp_path, at):
    whole, resumed = network(), network()
    expected = train(whole, *few, DISTILLED, seed=3, teacher=network(9))

    def stop(done, total):
        if done == at:
            raise Stopped

    with pytest.raises(Stopped):
        train(
            network(), *few, DISTILLED, seed=3, teacher=network(9),
            checkpoints=Checkpoints(tmp_path), on_progress=stop,
        )  # fmt: skip
    again = train(resumed, *few, DISTILLED, seed=3, teacher=network(9), checkpoints=Checkpoints(tmp_path))
    assert (again, weights_hash(resumed)) == (expected, weights_hash(whole))
