"""A model is as it was after whatever ran: a trace, a plan, a prune that fails, an attack."""

import copy
import random
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from secateur.errors import UserError
from secateur.undisturbed import same_randomness, undisturbed


class Meddling(nn.Module):
    """Changes whatever a forward pass can change."""

    def __init__(self):
        super().__init__()
        self.a, self.f = nn.Linear(8, 16), nn.Linear(16, 5)
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("mean", torch.zeros(16))
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("missing", torch.tensor([float("nan")]))
        self.state, self.log, self.cache = torch.zeros(3), [torch.zeros(2)], {"last": torch.zeros(2)}
        self.nested, self.past = {"keys": [torch.zeros(1)]}, deque([torch.zeros(1)], maxlen=3)
        self.limit = nn.Parameter(torch.tensor([0.5]))

    def forward(self, x):
        h = self.a(x).relu()
        self.calls.data += 1
        self.missing.data += 1
        self.mean.data.lerp_(h.mean(0).detach().to(self.mean.dtype), 0.5)
        self.seen.resize_(len(x)).fill_(1)
        self.state.add_(1)
        self.log[0].data += 1
        self.log.append(1)
        self.cache["last"].mul_(0).add_(2)
        self.cache["new"] = h.detach()
        self.limit.data.add_(1)
        self.nested["keys"][0].add_(1)
        self.nested["keys"].append(2)
        self.past.append(3)
        self.extra = h
        self.a.train()
        self.f.requires_grad_(False)
        if not self.f._forward_hooks:
            self.f.register_forward_hook(lambda *_: None)
        random.random()
        np.random.rand()  # noqa: NPY002
        return self.f(h) * 1.0


def picture(model):
    """All of a model's state as plain data."""
    held = {
        name: (tuple(t.shape), t.tolist(), t.requires_grad)
        for name, t in [*model.named_parameters(), *model.named_buffers()]
    }
    own = (model.state.tolist(), [str(item) for item in model.log], str(model.cache), sorted(vars(model)))
    own += (str(model.nested), str(model.past))
    modes = [(m.training, len(m._forward_hooks)) for m in model.modules()]
    return str((held, own, modes))


def chances():
    return torch.get_rng_state().sum().item(), random.getstate(), str(np.random.get_state())  # noqa: NPY002


@pytest.fixture
def model():
    made = Meddling().train()
    made.f.eval()
    return made


def test_after_a_trace(model):
    before, chance = picture(model), chances()
    secateur.trace(model, torch.ones(4, 8))
    assert picture(model) == before
    assert chances() == chance


def test_after_a_plan(model):
    graph, before = secateur.trace(model, torch.ones(4, 8)), picture(model)
    secateur.plan(graph, sparsity=0.5)
    assert picture(model) == before


def test_after_a_prune_that_fails(model):
    before = picture(model)
    with pytest.raises(UserError):
        secateur.prune(model, torch.ones(4, 8), sparsity=0.5, keep=["a", "f"])
    assert picture(model) == before
    with pytest.raises(UserError, match="fails on the example inputs"):
        secateur.prune(model, torch.ones(4, 7), sparsity=0.5)
    assert picture(model) == before


def test_a_prune_changes_the_pruned_tensors_alone(model):
    before = copy.deepcopy(model)
    assert secateur.prune(model, torch.rand(4, 8), sparsity=0.5).verified
    assert model.a.out_features == 8
    for name in ("calls", "seen", "limit", "state"):
        assert torch.equal(getattr(model, name), getattr(before, name))
    assert (model.mean == 0).all()
    assert [module.training for module in model.modules()] == [m.training for m in before.modules()]


def test_after_an_error_inside(model):
    before = picture(model)

    def fails():
        with undisturbed(model), torch.no_grad():
            model.eval()
            model.calls += 1
            del model.log
            model.register_buffer("more", torch.zeros(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert picture(model) == before


def test_modes_alone_leave_the_rest(model):
    with undisturbed(model, "modes"):
        model.eval()
        model.calls += 1
    assert model.training
    assert not model.f.training
    assert model.calls == 1


def test_after_an_attack():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Linear(16, 3)
            self.register_buffer("calls", torch.zeros(1))
            self.note, self.passes = [torch.zeros(1)], 0

        def forward(self, x):
            self.calls.data += 1
            self.note[0] += 1
            self.passes += 1
            return self.f(x.flatten(1))

    model = Counting().train()
    x = torch.rand(4, 1, 4, 4)
    images = secateur.data.Dataset("toy", x, model(x).argmax(1), ("a", "b", "c"), None)
    calls, note = model.calls.clone(), model.note[0].clone()
    secateur.attacks.run(model, images, "fgsm", eps=0.1)
    assert model.training
    assert torch.equal(model.calls, calls)
    assert torch.equal(model.note[0], note)
    # A count of the user's own goes on: an attack is a use of the model.
    assert model.passes > 1
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_random_numbers_go_on_as_if_nothing_had_been_drawn():
    before = chances()
    with same_randomness():
        torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    assert chances() == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_parts_are_pruned_around():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 16, 3), nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU())
            self.c, self.f = nn.Conv2d(16, 24, 3), nn.Linear(384, 5)

        def forward(self, x):
            return self.f(self.c(self.b(self.a(x))).flatten(1))

    for compiled in (torch.jit.script, lambda part: torch.jit.trace(part, torch.rand(2, 16, 6, 6))):
        model = Net().eval()
        model.b = compiled(model.b)
        report = secateur.prune(model, torch.rand(2, 3, 8, 8), sparsity=0.5)
        assert report.verified
        assert (model.a.out_channels, model.c.out_channels, report.channels) == (16, 12, 12)
        assert "not pruned: b: compiled to TorchScript" in report.notes
