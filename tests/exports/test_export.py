"""Exported files compute what the model does, and say so; what does not is not kept."""

import copy
import json
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from torch import nn

import secateur
from graph.attention import Recurrent, Transformer
from graph.networks import build, images
from secateur import exports, measure
from secateur.errors import ExitCode, UserError
from secateur.exports import formats

onnx = pytest.mark.skipif(
    any(find_spec(package) is None for package in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs the extra [onnx]",
)
FORMATS = ["pt2", pytest.param("onnx", marks=onnx)]
QUICK = {"batch_sizes": ()}


def network():
    return build(["residual", "concat"], "batch", "relu", "flatten")


def pruned(net):
    secateur.prune(net, images(), sparsity=0.5, verify=False)
    return net


NETWORKS = {
    "residual": lambda: pruned(network()),
    "attention": lambda: pruned(Transformer("torch").eval()),
    "recurrent": lambda: pruned(Recurrent(nn.LSTM, 2, True).eval()),
}


WRITTEN = [
    ("residual", "pt2"),
    pytest.param("residual", "onnx", marks=onnx),
    # These take seconds.
    *(pytest.param(kind, "pt2", marks=pytest.mark.slow) for kind in ("attention", "recurrent")),
    *(pytest.param(kind, "onnx", marks=[onnx, pytest.mark.slow]) for kind in ("attention", "recurrent")),
]


def check_names(exported):
    """An ONNX file names its input, its logits and its batch."""
    from onnxruntime import InferenceSession

    session = InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    (x,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (x.name, x.shape[0], x.shape[1:]) == (exported.inputs[0].name, "batch", [3, 12, 12])
    assert (logits.name, logits.shape) == ("logits", ["batch", 5])
    assert [(item.shape, item.dtype) for item in exported.inputs] == [(("batch", 3, 12, 12), "float32")]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "ending"), WRITTEN)
def test_a_pruned_network_becomes_a_file_that_computes_the_same(kind, ending, tmp_path):
    torch.manual_seed(0)
    net = NETWORKS[kind]().train()
    exported = secateur.export(net, tmp_path / f"net.{ending}", images(), **QUICK)
    assert exported.max_error <= 1e-5
    assert exported.checked == (2, 1, 5)
    if ending == "onnx":
        check_names(exported)
    run = formats.FORMATS[f".{ending}"].open(exported.path, 1)
    x = torch.rand(9, 3, 12, 12)
    (found,) = run(x)
    assert torch.allclose(found, net.eval()(x), atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"net.{ending}",
        f"net.{ending}.json",
        f"net.{ending}.md",
    ]


@pytest.mark.slow
def test_the_model_is_left_as_it_was(tmp_path):
    net = pruned(network()).train()
    net.body[0].eval()
    before = copy.deepcopy(net.state_dict())
    secateur.export(net, tmp_path / "net.pt2", images(), **QUICK)
    assert net.training
    assert not net.body[0].training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())


class Two(nn.Module):
    """Keyword inputs, one of them without a batch, and two outputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x, *, scale):
        y = self.layer(x) * scale
        return {"logits": y, "sum": y.sum(1)}


@pytest.mark.slow
@pytest.mark.parametrize("ending", FORMATS)
def test_inputs_by_name_and_several_outputs_are_followed(ending, tmp_path):
    inputs = {"x": torch.rand(2, 4), "scale": torch.rand(3)}
    exported = secateur.export(Two(), tmp_path / f"two.{ending}", inputs, **QUICK)
    assert [(item.name, item.shape) for item in exported.inputs] == [("x", ("batch", 4)), ("scale", (3,))]
    assert exported.max_error <= 1e-6


class Fixed(nn.Module):
    """Its code knows the batch size."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x.reshape(2, 4))


def test_a_fixed_batch_must_be_asked_for(tmp_path):
    with pytest.raises(UserError, match=r"torch\.export failed on the model") as caught:
        secateur.export(Fixed(), tmp_path / "fixed.pt2", torch.rand(2, 4), **QUICK)
    assert "dynamic_batch=False" in caught.value.hint
    exported = secateur.export(
        Fixed(), tmp_path / "fixed.pt2", torch.rand(2, 4), dynamic_batch=False, batch_sizes=(1,), seconds=0
    )
    assert exported.checked == (2,)
    assert {cost.batch for cost in exported.costs} == {2}
    assert exported.inputs[0].shape == (2, 4)


def broken_writer(program, path, shapes):
    with torch.no_grad():
        next(iter(program.state_dict.values())).add_(0.01)
    torch.export.save(program, path)


@pytest.mark.slow
def test_a_file_that_computes_something_else_is_caught_and_not_kept(tmp_path, monkeypatch):
    broken = replace(formats.FORMATS[".pt2"], write=broken_writer)
    monkeypatch.setitem(formats.FORMATS, ".pt2", broken)
    with pytest.raises(UserError, match="does not reproduce the model"):
        secateur.export(pruned(network()), tmp_path / "net.pt2", images(), **QUICK)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "spoil", [lambda out: out[:, :-1], lambda out: out * float("nan"), lambda out: out.flip(0)]
)
def test_shapes_order_and_numbers_are_compared(spoil):
    net = network()
    inputs = exports.inputs.batch_input_specs(images())
    known = exports.writing.reference_outputs(net, inputs, (4,), seed=1)
    assert exports.writing.max_relative_error(known, lambda x: [net(x)]) == 0
    assert exports.writing.max_relative_error(known, lambda x: [spoil(net(x))]) > 1e-3


class Dice(nn.Module):
    def forward(self, x):
        return x.flatten(1) + torch.rand(1)


def test_a_model_that_is_random_in_evaluation_is_refused(tmp_path):
    with pytest.raises(UserError, match="random numbers in evaluation"):
        secateur.export(Dice(), tmp_path / "net.pt2", images(), **QUICK)


@pytest.mark.slow
def test_the_record_and_the_card_hold_what_was_measured(tmp_path):
    dense, net = network(), pruned(network())
    exported = secateur.export(
        net, tmp_path / "net.pt2", images(), before=dense, batch_sizes=(1, 3), seconds=0, threads=1
    )
    record = json.loads((tmp_path / "net.pt2.json").read_text())
    assert record == exported.to_json()
    assert record["networks"]["before"]["parameters"] == measure.parameters(dense)
    assert record["networks"]["after"]["macs"] == measure.macs(net, images())
    assert record["plans"] == [plan.fingerprint for plan in secateur.pruning.history(net)]
    assert [(cost["network"], cost["batch"]) for cost in record["costs"]] == [
        (name, batch) for batch in (1, 3) for name in ("before", "after", "torch.export")
    ]
    peaks = {(cost["network"], cost["batch"]): cost["peak_bytes"] for cost in record["costs"]}
    assert peaks["after", 3] == measure.peak_memory(net, torch.rand(3, 3, 12, 12))
    assert peaks["after", 3] < peaks["before", 3]
    assert peaks["torch.export", 3] is None
    assert all(cost["latency"]["threads"] == 1 and cost["latency"]["median"] > 0 for cost in record["costs"])
    card = (tmp_path / "net.pt2.md").read_text()
    assert f"| parameters | {measure.parameters(dense):,} | {measure.parameters(net):,} |" in card
    assert "1 CPU thread, model on cpu" in card
    assert exported.sha256 in card


def test_a_missing_extra_is_said_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda package: None)
    with pytest.raises(UserError, match="ONNX needs onnx, onnxscript, onnxruntime") as caught:
        secateur.export(network(), tmp_path / "net.onnx", images())
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert "pip install 'secateur[onnx]'" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("net.pth", {}, "has no known suffix"),
        ("net.pt2", {"batch_sizes": (0,)}, "batch size"),
        ("net.pt2", {"batch_sizes": (1.5,)}, "batch size"),
    ],
)
def test_bad_arguments_are_one_sentence(name, wrong, message, tmp_path):
    with pytest.raises(UserError, match=message):
        secateur.export(nn.Linear(4, 3), tmp_path / name, torch.rand(2, 4), **wrong)
    assert not list(tmp_path.iterdir())


def test_inputs_without_a_batch_are_refused(tmp_path):
    with pytest.raises(UserError, match="no batch"):
        secateur.export(network(), tmp_path / "net.pt2", torch.tensor(1.0))


@pytest.mark.slow
@pytest.mark.parametrize("taken", ["net.pt2", "net.pt2.json", "net.pt2.md"])
def test_nothing_is_overwritten_by_accident(taken, tmp_path):
    (tmp_path / taken).write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        secateur.export(nn.Linear(4, 3), tmp_path / "net.pt2", torch.rand(2, 4))
    assert (tmp_path / taken).read_text() == "mine"
    secateur.export(nn.Linear(4, 3), tmp_path / "net.pt2", torch.rand(2, 4), overwrite=True, **QUICK)
    assert (tmp_path / taken).read_bytes() != b"mine"


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write") as caught:
        secateur.export(network(), tmp_path / "file" / "net.pt2", images())
    assert caught.value.code == ExitCode.ENVIRONMENT
