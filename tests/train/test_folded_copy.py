from dataclasses import replace

import pytest
import torch
from torch import nn

from secateur.cpu import switched
from secateur.cpu.batchnorm_folding import NORMS, fold_candidates
from secateur.models import build, eval_mode, initialise, logits, weights_hash
from secateur.recipes import Adversary, Recipe
from secateur.train import perturb, train
from secateur.train.averaging import Average
from secateur.train.folded_copy import FoldedCopy, folded_copy
from train.cases import FULL, network, seeded

FOLDING = Recipe(adversary=Adversary(0.1, 0.05, 3, fold=True))
IMAGES = torch.rand(8, 1, 8, 8, generator=seeded(5))


def changed(model, seed=1):
    """Other weights and statistics, as training would leave them."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        for layer in model.modules():
            if isinstance(layer, NORMS):
                layer.running_mean.copy_(torch.randn(layer.running_mean.shape, generator=generator))
                layer.running_var.copy_(torch.rand(layer.running_var.shape, generator=generator) + 0.5)
    return model


def assert_close(a, b, ulps=512):
    """Sums of a few hundred products in another order."""
    assert torch.allclose(a, b, rtol=0, atol=float(b.abs().max()) * ulps * torch.finfo(b.dtype).eps)


@pytest.mark.parametrize("last", [False, True])
def test_the_copy_answers_as_the_network_does_after_every_change(last):
    model = network()
    folded = folded_copy(model, IMAGES, FOLDING, channels_last=last)
    assert not any(isinstance(layer, NORMS) for layer in folded.updated().modules())
    for seed in range(3):
        changed(model, seed)
        assert_close(logits(folded.updated(), IMAGES), logits(model, IMAGES))


def test_a_copy_that_is_not_updated_would_be_noticed(monkeypatch):
    monkeypatch.setattr(FoldedCopy, "updated", lambda self: self._copy)
    with pytest.raises(AssertionError):
        test_the_copy_answers_as_the_network_does_after_every_change(False)


@pytest.mark.parametrize("method", ["madry", "trades"])
def test_the_adversary_finds_the_same_images_on_the_copy(method):
    model, y = changed(network()), torch.arange(8)
    adversary = replace(FOLDING.adversary, method=method, norm=2.0)
    found = [
        perturb(each, IMAGES, y, adversary=adversary, generator=seeded())
        for each in (model, folded_copy(model, IMAGES, FOLDING, channels_last=False).updated())
    ]
    # A direction divides a gradient by its length, and a few steps pass on what rounding changed.
    assert_close(found[1], found[0], ulps=2**16)


def test_the_copy_never_changes_the_network():
    model = network().train()
    before, flags = weights_hash(model), [parameter.requires_grad for parameter in model.parameters()]
    folded = folded_copy(model, IMAGES, FOLDING, channels_last=False)
    perturb(folded.updated(), IMAGES, torch.arange(8), adversary=FOLDING.adversary, generator=seeded())
    assert weights_hash(model) == before
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(layer.training for layer in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_not_folded_follows_the_network_too():
    """Averages put other tensors in the place of the weights for a while."""
    model = changed(network())
    folded, average = folded_copy(model, IMAGES, FOLDING, channels_last=False), Average(model, 0.5)
    changed(model, 2)
    average.update(model, 1)
    with average.applied(model):
        inside = logits(model, IMAGES)
        assert_close(logits(folded.updated(), IMAGES), inside)
    assert_close(logits(folded.updated(), IMAGES), logits(model, IMAGES))
    assert not torch.equal(inside, logits(model, IMAGES))


class Preactivated(nn.Module):
    """The shortcut reads what the normalisation reads as well."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + self.last(self.conv(self.norm(x).relu()))).mean((2, 3)))


class Gated(Preactivated):
    """The other reader of the stem is outside the graph of the gradients."""

    def forward(self, x):
        x = self.stem(x)
        gate = x.detach().mean((2, 3), keepdim=True)
        return self.head((gate * self.last(self.conv(self.norm(x).relu()))).mean((2, 3)))


def test_a_convolution_that_something_else_reads_is_left_alone():
    model = Preactivated()
    with eval_mode(model):
        assert fold_candidates(model, IMAGES) == [("conv", "last")]
    folded = folded_copy(model, IMAGES, FOLDING, channels_last=False)
    changed(model)
    assert_close(logits(folded.updated(), IMAGES), logits(model, IMAGES))


def test_a_reader_that_no_graph_shows_is_found_before_the_first_step():
    """At first batch normalisation changes nothing, and folding nothing but that."""
    model = Gated()
    assert folded_copy(model, IMAGES, FOLDING, channels_last=False) is None
    folded = FoldedCopy(model, [("stem", "norm")], channels_last=False)
    assert_close(logits(folded.updated(), IMAGES), logits(model, IMAGES), ulps=2**10)
    changed(model)
    with pytest.raises(AssertionError):
        assert_close(logits(folded.updated(), IMAGES), logits(model, IMAGES), ulps=2**10)


@pytest.mark.parametrize("why", ["not asked", "no adversary", "no normalisation", "switched off", "no copy"])
def test_without_a_copy_the_adversary_attacks_the_network(why):
    model, recipe = network(), FOLDING
    if why == "not asked":
        recipe = replace(FOLDING, adversary=replace(FOLDING.adversary, fold=False))
    elif why == "no adversary":
        recipe = replace(FOLDING, adversary=None)
    elif why == "no normalisation":
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    elif why == "no copy":
        model.__deepcopy__ = lambda memo: (_ for _ in ()).throw(TypeError("holds a file"))
    with switched(why != "switched off"):
        assert folded_copy(model, IMAGES, recipe, channels_last=False) is None


def test_pruned_and_parametrised_networks_have_copies():
    model = build("resnet-tiny", widths=(3, 5))
    initialise(model, seeded())
    nn.utils.parametrizations.weight_norm(model.get_submodule("conv1"))
    folded = folded_copy(model, IMAGES, FOLDING, channels_last=False)
    assert sum(isinstance(layer, NORMS) for layer in folded.updated().modules()) == 1
    changed(model)
    assert_close(logits(folded.updated(), IMAGES), logits(model, IMAGES))


def test_training_with_a_copy_begins_as_training_without(few, monkeypatch):
    """One step: later ones pass on, and enlarge, what rounding changed."""
    histories, asked = [], []
    monkeypatch.setattr(FoldedCopy, "updated", lambda self: asked.append(1) or updated(self))
    for fold in (False, True):
        recipe = replace(
            FULL, epochs=1, batch_size=len(few[0].x), adversary=replace(FULL.adversary, norm=2.0, fold=fold)
        )
        model = network()
        histories.append(train(model, *few, recipe, seed=3).epochs[0])
    assert asked
    assert histories[1].loss == pytest.approx(histories[0].loss, rel=1e-4)
    assert histories[1].train_accuracy == histories[0].train_accuracy


updated = FoldedCopy.updated
