"""What a trace finds in networks whose groups are known, and what it refuses."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from graph.networks import BLOCKS, build, images
from secateur import models
from secateur.errors import UserError


def groups_of(net, x=None):
    return secateur.trace(net, images() if x is None else x).groups


def members(group):
    return {str(member): member.role for member in group.members}


def test_a_chain_has_one_group_per_hidden_layer():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(320, 2)
    )
    first, second = groups_of(net)
    assert members(first) == {
        "0.weight[0]": "out",
        "0.bias[0]": "with",
        "1.weight[0]": "with",
        "1.bias[0]": "with",
        "1.running_mean[0]": "with",
        "1.running_var[0]": "with",
        "3.weight[1]": "in",
    }
    assert members(second) == {"3.weight[0]": "out", "3.bias[0]": "with", "5.weight[1]": "in"}
    flat = second.members[-1]
    assert np.array_equal(flat.channels[np.argsort(flat.indices)], np.repeat(np.arange(5), 64))


def test_a_residual_sum_couples_its_branches():
    names = {m for group in groups_of(build(["residual"], "batch", "relu", "linear")) for m in members(group)}
    coupled = next(g for g in groups_of(build(["residual"], "batch", "relu", "linear")) if g.size == 8)
    assert {"body.0.0.weight[0]", "body.1.second.0.weight[0]", "head.weight[1]"} <= set(members(coupled))
    assert "head.weight[0]" not in names


def test_concatenation_reads_two_groups_at_their_offsets():
    net = build(["concat", "plain"], "none", "relu", "linear")
    graph = secateur.trace(net, images())
    left, right = graph["body.1.left.0.weight[0]"], graph["body.1.right.0.weight[0]"]
    reads = {g.name: next(m for m in g.members if m.tensor == "body.2.0.weight") for g in (left, right)}
    assert reads[left.name].indices.tolist() == list(range(6))
    assert reads[right.name].indices.tolist() == list(range(6, 10))


def test_a_depthwise_convolution_goes_with_its_input():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 2, 1), nn.Flatten(), nn.LazyLinear(2)
    )
    net(images())
    first = groups_of(net)[0]
    assert first.size == 4
    assert next(m for m in first.members if str(m) == "1.weight[0]").channels.tolist() == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]
    secateur.prune(net, images(), sparsity=0.5)
    assert (net[1].groups, net[1].in_channels, net[1].out_channels) == (2, 2, 4)


def test_a_transposed_convolution_is_followed():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ConvTranspose2d(6, 8, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
    )
    net(images())
    report = secateur.prune(net, images(), sparsity=0.5)
    assert (net[1].in_channels, net[1].out_channels) == (3, 4)
    assert report.max_error <= 1e-10


def test_padded_shortcuts_keep_what_meets_the_padding():
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.body, self.head = (
                nn.Conv2d(3, 8, 3, padding=1),
                nn.Conv2d(8, 16, 3, 2, 1),
                nn.Linear(16, 4),
            )

        def forward(self, x):
            x = self.stem(x).relu()
            short = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
            return self.head((self.body(x) + short).relu().mean((2, 3)))

    net = Padded()
    graph = secateur.trace(net, images())
    assert [group.size for group in graph.groups] == [8]
    assert secateur.apply(net, secateur.plan(graph, sparsity=0.5)).max_error <= 1e-10
    assert net.body.out_channels == 12


def test_shared_weights_are_one_axis():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.same, self.head = (
                nn.Conv2d(3, 6, 1),
                nn.Conv2d(6, 6, 3, padding=1),
                nn.Linear(6, 4),
            )

        def forward(self, x):
            x = self.same(self.same(self.stem(x)).relu()).relu()
            return self.head(x.mean((2, 3)))

    net = Shared()
    report = secateur.prune(net, images(), sparsity=0.5)
    assert (net.same.in_channels, net.same.out_channels) == (3, 3)
    assert report.max_error <= 1e-10


class Odd(nn.Module):
    """An operation that no rule knows between two layers."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        x = self.one(x.mean((2, 3)))
        x = torch.cumsum(x, 1)
        return self.head(self.two(x).relu())


def test_an_unknown_operation_freezes_what_reaches_it_and_says_where():
    graph = secateur.trace(Odd(), images())
    assert [group.name for group in graph.groups] == ["two.weight[0]"]
    stuck = next(item for item in graph.frozen if item.name == "one.weight[0]")
    assert stuck.size == 8
    assert stuck.reason.op == "cumsum"
    line = 1 + [text.strip() for text in Path(__file__).read_text().splitlines()].index(
        "x = torch.cumsum(x, 1)"
    )
    assert stuck.reason.source == f"graph/test_tracing.py:{line}"
    assert "cumsum" in graph.explain()
    assert f"test_tracing.py:{line}" in graph.explain()


def test_a_new_rule_can_be_added(monkeypatch):
    from secateur.graph.rules import RULES, shape_ops

    monkeypatch.setitem(RULES, "aten::cumsum", lambda context, call: context.of(call.tensor("self")))
    assert len(groups_of(Odd())) == 2
    assert shape_ops.view is RULES["aten::view"]


@torch.library.custom_op("mine::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


twice.register_fake(torch.empty_like)
twice.register_autograd(lambda context, gradient: 2 * gradient)


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.two(twice(self.one(x).relu()))


def test_the_documented_rule_lets_channels_of_an_own_operation_pass(monkeypatch):
    from secateur.graph.rules import RULES

    monkeypatch.setattr("secateur.graph.rules.context.RULES", RULES | {})
    x = torch.rand(2, 4)
    with pytest.raises(UserError, match="cannot remove a single channel"):
        secateur.prune(Doubled(), x, sparsity=0.5)
    page = (Path(__file__).parents[2] / "docs" / "pruning.md").read_text(encoding="utf-8")
    (code,) = [text for text in page.split("```python\n")[1:] if "mine::twice" in text]
    exec(code.split("```")[0], {})
    net = Doubled()
    assert secateur.prune(net, x, sparsity=0.5).verified
    assert net.one.out_features == 4


@pytest.mark.parametrize("block", BLOCKS)
def test_tracing_changes_nothing(block):
    net = build([block], "batch", "relu", "linear").train()
    before = copy.deepcopy(net.state_dict())
    attributes = {name: sorted(module.__dict__) for name, module in net.named_modules()}
    secateur.trace(net, images())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert {name: sorted(module.__dict__) for name, module in net.named_modules()} == attributes
    assert all(module.training for module in net.modules())


def test_frozen_parameters_and_no_grad_make_no_difference():
    net = build(["residual"], "batch", "relu", "linear")
    wanted = [str(group) for group in groups_of(net)]
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        assert [str(group) for group in groups_of(net)] == wanted
    with torch.inference_mode():
        assert [str(group) for group in groups_of(net)] == wanted


def test_parameters_that_never_run_stay():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.spare, self.two = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x):
            x = self.one(x.mean((2, 3))).relu()
            return self.two(self.spare(x) if self.training and runs else x)

    runs = False
    graph = secateur.trace(Spare(), images())
    assert [group.name for group in graph.groups] == ["one.weight[0]"]
    assert any("not used" in item.reason.why for item in graph.frozen)
    runs = True
    net = Spare()
    secateur.prune(net, images(), sparsity=0.5)
    assert tuple(net.spare.weight.shape) == (4, 4)
    assert net.train()(images()).shape == (2, 2)


class Named(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.net, self.form = build(["plain"], "batch", "relu", "linear"), form

    def forward(self, x):
        logits = self.net(x)
        return {"dict": {"logits": logits}, "tuple": (logits, logits[:, 0]), "number": 3.0}[self.form]


@pytest.mark.parametrize("form", ["dict", "tuple"])
def test_dicts_and_tuples_of_logits_are_followed(form):
    net = Named(form)
    report = secateur.prune(net, images(), sparsity=0.5)
    assert report.max_error <= 1e-10
    assert net.net.head.out_features == 5
    assert net.net.body[1][0].out_channels == 6


def test_a_model_without_tensor_outputs_is_refused():
    with pytest.raises(UserError, match="returns no tensor"):
        secateur.trace(Named("number"), images())


def test_torchs_own_layers_blame_no_line_of_the_caller():
    graph = secateur.trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), images())
    assert {item.reason.source for item in graph.frozen} == {""}


@pytest.mark.slow
def test_torch_behind_a_link_blames_no_line_of_its_own(tmp_path):
    """An environment may be a link: then the files of torch have other names than those they lead to."""
    (tmp_path / "linked").symlink_to(Path(torch.__file__).parents[1])
    code = (
        "import secateur, torch\n"
        f"assert torch.__file__.startswith({str(tmp_path)!r})\n"
        "net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 2, 1))\n"
        "graph = secateur.trace(net, torch.rand(1, 3, 8, 8))\n"
        "assert {item.reason.source for item in graph.frozen} == {''}, graph.frozen\n"
    )
    places = [str(tmp_path / "linked"), str(Path(secateur.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_network_of_the_zoo_has_lines_too():
    graph = secateur.trace(models.build("resnet-tiny"), torch.rand(1, 1, 8, 8))
    assert all(item.reason.source.startswith("models/resnet.py:") for item in graph.frozen)
    assert all(item.reason.op and item.reason.module for item in graph.frozen)


class Coordinates(nn.Module):
    """Where the tokens are, written number by number into a table of zeros."""

    def __init__(self):
        super().__init__()
        self.stem, self.place, self.head = nn.Linear(5, 8), nn.Linear(2, 8), nn.Linear(8, 3)

    def forward(self, x):
        where = torch.zeros(1, x.shape[1], 2, dtype=x.dtype)
        where[:, :, 0] = torch.arange(x.shape[1], dtype=x.dtype)
        where[:, :, 1] = where[:, :, 0].square()
        return self.head((self.stem(x) + self.place(where)).relu().mean(1))


def test_what_is_written_into_zeros_is_no_longer_the_same_everywhere():
    torch.manual_seed(0)
    net = Coordinates().eval()
    graph = secateur.trace(net, torch.rand(2, 9, 5))
    assert [group.name for group in graph.groups] == ["stem.weight[0]"]
    report = secateur.prune(net, torch.rand(2, 9, 5), sparsity=0.5)
    assert not report.notes
    assert (net.place.in_features, net.place.out_features) == (2, 4)
