"""Whatever form a network's inputs have, they keep it: when it is traced, pruned, proved, saved and timed."""

import collections
import dataclasses
import json
import types

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

import secateur
from secateur.errors import UserError
from secateur.graph.trace.input_tree import parts
from secateur.surgery.plan import Plan

Pair = collections.namedtuple("Pair", "x e")


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: torch.Tensor
    e: torch.Tensor
    note: str = "two"


class Tokenised(collections.UserDict):
    """Like the encodings of tokenisers: a mapping that is no dict."""

    def __getattr__(self, name):
        return self.data[name]


class Padded:
    def __init__(self, x, e):
        self.x, self.e, self.sizes = x, e, [6, 6]


class Sum(nn.Module):
    """Two branches that are added, 16 and 12 channels wide; the settings change what is computed."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12))
        self.b, self.f = nn.Linear(6, 12), nn.Linear(12, 5)

    def forward(self, x, mask=None, e=None, features=False, scale=1.0, mode="sum"):
        if not isinstance(x, torch.Tensor):
            x, e, *_ = parts(x).values()
        h = self.a(x).relu() * (1 if mask is None else mask)
        if e is not None:
            h = getattr(torch, {"sum": "add", "product": "mul"}[mode])(h, self.b(e))
        y = self.f(h) * scale
        return {"y": y, "h": h} if features else y


def tensors():
    return torch.rand(2, 6), torch.rand(2, 6)


FORMS = {
    "a list": lambda x, e: ([x, e],),
    "a tuple in a tuple": lambda x, e: ((x, e),),
    "one dict": lambda x, e: ({"x": x, "e": e},),
    "an ordered dict": lambda x, e: (collections.OrderedDict(x=x, e=e),),
    "a mapping of its own": lambda x, e: (Tokenised(x=x, e=e),),
    "a mapping as keywords": lambda x, e: Tokenised(x=x, e=e),
    "a named tuple": Pair,
    "a frozen dataclass": Frozen,
    "an object": Padded,
    "a namespace": lambda x, e: types.SimpleNamespace(x=x, e=e),
    "None between": lambda x, e: (x, None, e),
    "a number": lambda x, e: {"x": x, "e": e, "scale": 2.5},
    "a string": lambda x, e: {"x": x, "e": e, "mode": "product"},
}


@pytest.mark.parametrize("form", FORMS)
def test_inputs_keep_their_form(form):
    report = secateur.prune(Sum().eval(), FORMS[form](*tensors()), sparsity=0.5)
    assert (report.verified, report.channels_before, report.channels) == (True, 28, 14)


def test_a_flag_keeps_its_value():
    report = secateur.prune(Sum().eval(), {"x": tensors()[0], "features": True}, sparsity=0.5)
    # The features are an output, so that only the hidden layer is pruned.
    assert (report.verified, report.channels_before, report.channels) == (True, 16, 8)


def test_the_inputs_and_their_containers_are_left_alone():
    class Popping(Sum):
        def forward(self, batch):
            x = batch.pop("x")
            return super().forward(x.mul_(2), e=batch["e"])

    x, e = tensors()
    before, batch = x.clone(), {"x": x, "e": e}
    secateur.prune(Popping().eval(), (batch,), sparsity=0.5)
    assert list(batch) == ["x", "e"]
    assert torch.equal(x, before)


@pytest.mark.parametrize("form", ["a list", "one dict", "None between", "a number", "a string"])
def test_a_plan_file_holds_the_form(form):
    torch.manual_seed(0)
    model = Sum().eval()
    graph = secateur.trace(model, FORMS[form](*tensors()))
    plan = secateur.plan(graph, sparsity=0.5)
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert again.inputs.form == plan.inputs.form
    assert secateur.apply(model, again).channels == 14


def test_a_plan_file_says_which_class_it_cannot_hold(tmp_path):
    torch.manual_seed(0)
    model = Sum().eval()
    inputs = Frozen(*tensors())
    plan = secateur.plan(secateur.trace(model, inputs), sparsity=0.5)
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    with pytest.raises(
        UserError, match=r"inputs of class .*Frozen, which a file cannot hold \(pass example_i"
    ):
        secateur.apply(model, again)
    assert secateur.apply(model, again, example_inputs=inputs).channels == 14
    loaded = secateur.load(secateur.save(model, tmp_path / "pruned"), Sum)
    assert torch.equal(loaded.eval()(inputs), model(inputs))


def test_plans_of_plain_inputs_are_written_as_before():
    x, e = tensors()
    for inputs, paths in ((x, [""]), ((x, None, e)[::2], ["0", "1"]), ({"x": x, "e": e}, ["x", "e"])):
        model = nn.Linear(6, 4) if paths == [""] else nn.Bilinear(6, 6, 4)
        named = inputs if paths != ["x", "e"] else {"input1": x, "input2": e}
        data = secateur.plan(secateur.trace(model, named), sparsity=0.0).to_json()
        assert "form" not in data
        assert all(set(item) == {"path", "shape", "dtype", "low", "high"} for item in data["inputs"])


def test_a_list_where_one_argument_is_a_list_says_how_to_write_it():
    with pytest.raises(UserError, match=r"write \(\[\.\.\.\],\) for one argument that is a list"):
        secateur.trace(nn.Linear(6, 4), list(tensors()))
    with pytest.raises(UserError, match=r"write \(\{\.\.\.\},\) for one argument that is a dict"):
        secateur.trace(nn.Linear(6, 4), {"x": tensors()[0], 0: 1})


def test_tensors_that_show_no_numbers_are_refused_in_words():
    with pytest.raises(UserError, match="an example input is a sparse_coo tensor"):
        secateur.prune(Sum().eval(), ([torch.eye(6).to_sparse(), tensors()[0]],), sparsity=0.5)


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.i, self.g, self.f = nn.Linear(6, 6), nn.LSTM(6, 10, batch_first=True), nn.Linear(10, 3)

    def forward(self, x):
        x = PackedSequence(self.i(x.data), *x[1:])
        return self.f(pad_packed_sequence(self.g(x)[0], batch_first=True)[0].mean(1))


def test_a_packed_sequence_is_one_argument(tmp_path):
    x = pack_sequence([torch.rand(4, 6), torch.rand(5, 6)], enforce_sorted=False)
    model = Reader().eval()
    report = secateur.prune(model, x, sparsity=0.5)
    assert report.verified
    assert report.channels * 2 == report.channels_before
    assert secateur.load(secateur.save(model, tmp_path / "pruned"), Reader).g.hidden_size == 5


def test_arrays_and_bare_texts_are_handed_on():
    class Reads(Sum):
        def forward(self, x, mode="sum"):
            return super().forward(torch.from_numpy(x).to(self.f.weight.dtype), mode=mode)

    x = torch.rand(2, 6).numpy()
    for inputs in (x, (x,), {"x": x, "mode": "sum"}):
        assert secateur.prune(Reads().eval(), inputs, sparsity=0.5).verified


def test_a_network_may_take_nothing():
    class Start(nn.Linear):
        def forward(self):
            return super().forward(self.weight[:2])

    model = nn.Sequential(Start(6, 6), nn.ReLU(), nn.Linear(6, 3))
    model.forward = lambda: model[2](model[1](model[0]()))
    for inputs in ((), {}):
        assert len(secateur.trace(model, inputs).inputs) == 0


def test_complex_inputs_are_drawn_anew():
    class Phases(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.f = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.f(self.a(torch.view_as_real(x).flatten(1)).relu())

    report = secateur.prune(Phases().eval(), torch.randn(4, 3, dtype=torch.complex64), sparsity=0.5)
    assert (report.verified, report.channels) == (True, 4)
