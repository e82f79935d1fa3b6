"""The proof catches every wrong surgery, and agrees with masks put on by hand."""

import importlib

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from graph.networks import build, images
from secateur.errors import UserError
from secateur.graph.labels import Factor, Marks
from secateur.graph.rules import RULES
from secateur.graph.trace.named_tensors import named_tensors
from secateur.proof.verify import verify
from secateur.surgery import cut
from secateur.surgery.perturbed import perturbed

# The function of the same name hides the module in its package.
VERIFY = importlib.import_module("secateur.proof.verify")


def planned(net, sparsity=0.5):
    graph = secateur.trace(net, images())
    return graph, secateur.plan(graph, sparsity=sparsity)


def broken(monkeypatch, change):
    """Let ``change(name, tensor)`` spoil what surgery puts into the network."""
    honest = cut.without_indices

    def spoiled(tensors, removed):
        return {
            name: change(name, tensor, tensors[name]) for name, tensor in honest(tensors, removed).items()
        }

    monkeypatch.setattr(cut, "without_indices", spoiled)


def test_an_honest_surgery_passes():
    net = build(["residual", "concat"], "batch", "sigmoid", "flatten")
    graph, plan = planned(net)
    proof = verify(plan, graph)
    assert proof.ok
    assert proof.error <= 1e-10
    assert proof.alive


def test_two_swapped_indices_are_caught(monkeypatch):
    net = build(["residual"], "batch", "sigmoid", "linear")
    graph, plan = planned(net)

    def swap(name, tensor, dense):
        return tensor[[1, 0, *range(2, len(tensor))]] if name == "body.1.first.0.weight" else tensor

    broken(monkeypatch, swap)
    assert not verify(plan, graph).ok


def test_a_forgotten_buffer_is_caught(monkeypatch):
    net = build(["residual"], "batch", "sigmoid", "linear")
    graph, plan = planned(net)
    broken(monkeypatch, lambda name, tensor, dense: dense if name == "body.0.1.running_mean" else tensor)
    proof = verify(plan, graph)
    assert not proof.ok
    assert "batch_norm" in proof.reason


def test_a_buffer_cut_at_other_indices_is_caught(monkeypatch):
    net = build(["residual"], "batch", "sigmoid", "linear")
    graph, plan = planned(net)
    broken(
        monkeypatch, lambda name, tensor, dense: tensor.flip(0) if name == "body.0.1.running_var" else tensor
    )
    assert not verify(plan, graph).ok


def test_a_permuted_layer_norm_is_caught(monkeypatch):
    net = build(["plain"], "batch", "relu", "norm")
    graph, plan = planned(net)
    broken(monkeypatch, lambda name, tensor, dense: tensor.roll(1, 0) if name == "head.0.weight" else tensor)
    assert not verify(plan, graph).ok


def test_a_shifted_concat_offset_is_caught(monkeypatch):
    honest = RULES["aten::cat"]

    def shifted(tracer, call):
        marks = honest(tracer, call)
        factors = tuple(Factor(np.roll(f.atoms, 1, f.column), f.column) for f in marks.factors)
        return Marks(marks.shape, factors, marks.free, marks.weight)

    monkeypatch.setitem(RULES, "aten::cat", shifted)
    net = build(["concat", "plain"], "batch", "sigmoid", "linear")
    graph, plan = planned(net)
    assert not verify(plan, graph).ok


def test_a_failed_proof_rolls_back_freezes_the_group_and_says_why(monkeypatch):
    net = build(["residual"], "batch", "sigmoid", "linear")
    _graph, plan = planned(net)
    dense = net.get_parameter("body.1.first.0.weight").detach().clone()
    broken(
        monkeypatch,
        lambda name, tensor, dense: (
            tensor.roll(1, 0) if name == "body.1.first.0.weight" and len(tensor) != len(dense) else tensor
        ),
    )
    report = secateur.apply(net, plan)
    assert net.get_parameter("body.1.first.0.weight").shape[0] == dense.shape[0]
    assert any(note.startswith("not pruned") for note in report.notes)
    assert report.groups_pruned < len(plan.cuts)
    assert report.max_error <= 1e-10


def test_a_plan_that_cannot_be_proved_leaves_the_network_untouched(monkeypatch):
    net = build(["plain"], "batch", "sigmoid", "linear")
    _graph, plan = planned(net)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    broken(monkeypatch, lambda name, tensor, dense: tensor * 1.5)
    with pytest.raises(UserError, match="cannot be pruned safely"):
        secateur.apply(net, plan)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert net.body[0][0].out_channels == 8


@pytest.mark.parametrize("act", [nn.Sigmoid, nn.ReLU, nn.Softplus])
def test_pruning_equals_masks_put_on_after_the_activations_by_hand(act):
    def network():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            act(),
            nn.Conv2d(8, 6, 3),
            act(),
            nn.Flatten(),
            nn.Linear(384, 4),
        )

    dense, pruned = network().double().eval(), network().double().eval()
    x = images().double().requires_grad_()
    plan = secateur.plan(secateur.trace(pruned, x), sparsity=0.5)
    secateur.apply(pruned, plan)
    gone = {
        cut.group: next(p.removed for p in cut.slices if f"{p.tensor}[{p.dim}]" == cut.group)
        for cut in plan.cuts
    }

    def mask(indices):
        keep = torch.ones(1, 8 if len(indices) == 4 else 6, 1, 1, dtype=torch.float64)
        keep[:, list(indices)] = 0
        return lambda module, inputs, output: output * keep

    dense[2].register_forward_hook(mask(gone["0.weight[0]"]))
    dense[4].register_forward_hook(mask(gone["3.weight[0]"]))
    assert torch.allclose(dense(x), pruned(x), rtol=0, atol=1e-12)
    wanted, found = (torch.autograd.grad(net(x).square().sum(), x)[0] for net in (dense, pruned))
    assert torch.allclose(wanted, found, rtol=0, atol=1e-12)


def test_weights_cut_before_they_are_perturbed_are_those_cut_afterwards():
    net = build(["residual", "concat"], "batch", "sigmoid", "linear")
    _graph, plan = planned(net)
    tensors = named_tensors(net)
    whole, lazy = (
        cut.cut_tensors(perturbed(tensors, torch.Generator().manual_seed(1), whole=size), plan, net)
        for size in (10**9, 0)
    )
    assert all(torch.equal(whole[name], lazy[name]) for name in tensors)
    assert any(whole[name].shape != tensors[name].shape for name in tensors)


def test_swapped_indices_are_caught_where_weights_are_built_when_asked_for(monkeypatch):
    net = build(["residual"], "batch", "sigmoid", "linear")
    graph, plan = planned(net)
    monkeypatch.setattr(VERIFY, "perturbed", lambda *given, **named: perturbed(*given, whole=0, **named))
    assert verify(plan, graph).ok
    broken(
        monkeypatch, lambda name, tensor, dense: tensor.roll(1, 0) if name == "body.0.0.weight" else tensor
    )
    assert not verify(plan, graph).ok


class Normalised(nn.Module):
    """Constants that the code makes in the type of its input: in float64 they are rounded less."""

    def __init__(self, off=0.0):
        super().__init__()
        self.h, self.f, self.off = nn.Linear(3, 16), nn.Linear(16, 3), off

    def forward(self, x):
        wide = self.off if x.dtype is torch.float64 else 0.0
        mean = torch.as_tensor([0.485 + wide, 0.456, 0.406], dtype=x.dtype)
        return self.f(self.h(x - mean).relu())


def test_constants_in_the_type_of_the_input_are_those_of_the_pruned_run():
    assert secateur.prune(Normalised().eval(), torch.rand(4, 3), sparsity=0.5).verified
    with pytest.raises(UserError, match="differs from the masked dense network"):
        secateur.prune(Normalised(1e-5).eval(), torch.rand(4, 3), sparsity=0.5)
