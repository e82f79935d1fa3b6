"""Layers may be named or handed over; the loss is that of the named output; tensors may have a class."""

import pytest
import torch
from torch import nn

import secateur
from secateur.errors import UserError
from secateur.pruning.calibration_stats import CalibrationStats


class Kind(torch.Tensor):
    """A class of tensors that operations pass on, as image libraries have them."""


class Heads(nn.Module):
    def __init__(self, form=None):
        super().__init__()
        self.a, self.b, self.f = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 5)
        self.form = form or (lambda y, h: {"logits": y, "loss": None, "features": h})

    def forward(self, x, scale=None):
        h = self.b(self.a(x).relu()).relu()
        y = self.f(h)
        return self.form(y if scale is None else y * scale, h)


def plain(y, h):
    return y


X, Y = torch.rand(6, 6), torch.tensor([0, 1, 2, 3, 4, 0])


@pytest.mark.parametrize("pick", [lambda m: m.b, lambda m: m.b.weight, lambda m: "b", lambda m: "b.weight"])
def test_a_layer_may_be_named_or_handed_over(pick):
    model = Heads(plain).eval()
    graph = secateur.trace(model, X)
    with pytest.raises(UserError, match="named in keep"):
        secateur.plan(graph, sparsity=0.5, keep=[pick(model)])
    plan = secateur.plan(graph, sparsity=0.5, rates={pick(model): 0.25})
    assert [cut.kept for cut in plan.cuts] == [12, 9]


def test_a_layer_of_another_model_is_refused():
    graph = secateur.trace(Heads(plain).eval(), X)
    for other in (nn.Linear(16, 12), Heads().b.weight):
        with pytest.raises(UserError, match="is not part of this model"):
            secateur.plan(graph, sparsity=0.5, keep=[other])
    with pytest.raises(UserError, match=r"keep must be a list of names or modules, got Linear \(for example"):
        secateur.plan(graph, sparsity=0.5, keep=graph.model.b)


def test_the_inner_layers_of_a_normalised_model_may_be_handed_over():
    model = secateur.models.normalised(
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)), (0.5,) * 3, (0.5,) * 3
    )
    inner = next(module for module in model.modules() if isinstance(module, nn.Sequential))
    graph = secateur.trace(model.eval(), torch.rand(1, 3, 4, 4))
    with pytest.raises(UserError, match="named in keep"):
        secateur.plan(graph, sparsity=0.5, keep=[inner[0]])


@pytest.mark.parametrize("criterion", ["taylor", "hessian"])
def test_the_loss_is_that_of_the_output_that_counts(criterion):
    torch.manual_seed(0)
    model, single = Heads().eval(), Heads(plain).eval()
    single.load_state_dict(model.state_dict())
    of_one = secateur.plan(secateur.trace(single, X), criterion=criterion, sparsity=0.5, batch=(X, Y))
    graph = secateur.trace(model, X, logits="logits")
    assert secateur.plan(graph, criterion=criterion, sparsity=0.5, batch=(X, Y)).cuts == of_one.cuts
    with pytest.raises(
        UserError, match=r"needs logits, and the model returns dict.*its outputs are: logits, loss, feat"
    ):
        secateur.plan(secateur.trace(model, X), criterion=criterion, sparsity=0.5, batch=(X, Y))


@pytest.mark.parametrize("criterion", ["taylor", "hessian", "activation"])
def test_a_batch_has_the_form_of_the_inputs(criterion):
    torch.manual_seed(0)
    model, named = Heads(plain).eval(), {"x": X, "scale": torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0])}
    plan = secateur.plan(secateur.trace(model, named), criterion=criterion, sparsity=0.5, batch=(named, Y))
    assert [cut.kept for cut in plan.cuts] == [8, 6]
    found = [
        CalibrationStats(model, x, Y, batch_size=4).gradients["a.weight"]
        for x in (named, (X, named["scale"]), [X, named["scale"]])
    ]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_batch_without_a_row_for_each_label_is_refused():
    for x in (X[:4], {"x": X[:4]}, ()):
        with pytest.raises(UserError, match=r"the calibration batch has [04] images and 6 labels"):
            CalibrationStats(Heads(), x, Y)


def test_tensors_may_have_a_class_of_their_own():
    of_plain = secateur.prune(Heads(plain).eval(), X, sparsity=0.5)
    model = Heads(plain).eval()
    report = secateur.prune(model, X.as_subclass(Kind), sparsity=0.5)
    assert report.verified
    assert report.channels == of_plain.channels
    assert type(model(X.as_subclass(Kind))) is Kind
