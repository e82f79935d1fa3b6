"""The filters of a group as a matrix: the right weights for every kind of layer."""

import doctest
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import secateur
from secateur.pruning import filter_matrix, filters
from secateur.registry import CRITERIA

ROOT = Path(__file__).parent.parent.parent


def drawn(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model.eval()


def group_of(model, example, tensor):
    """The group whose channels a parameter produces."""
    groups = secateur.trace(model, example).groups
    (found,) = [g for g in groups if any(m.tensor == tensor and m.role == "out" for m in g.members)]
    return found


class Gated(nn.Module):
    """A gated linear unit: channel c is row c and row c + 6 of one layer."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(5, 12), nn.Linear(6, 3)

    def forward(self, x):
        value, gate = self.up(x).chunk(2, dim=-1)
        return self.down(value * torch.sigmoid(gate))


class Sum(nn.Module):
    """Two layers that produce the same channels, one of them transposed."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 6, 3, padding=1), nn.ConvTranspose2d(2, 6, 1)
        self.bn, self.head = nn.BatchNorm2d(6), nn.Conv2d(6, 3, 1)

    def forward(self, x):
        return self.head(F.relu(self.bn(self.a(x) + self.b(x))))


IMAGE = torch.rand(2, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def test_a_convolution_has_its_filters_as_rows():
    model = drawn(nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 3, 1)))
    found = filters(group_of(model, IMAGE, "0.weight"), model)
    assert found.dtype == torch.float64
    assert torch.equal(found, model[0].weight.detach().flatten(1).double())
    found.zero_()
    assert model[0].weight.abs().min() > 0, "a copy"


def test_a_transposed_convolution_has_its_outputs_in_the_second_dimension():
    model = drawn(nn.Sequential(nn.ConvTranspose2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 3, 1)))
    found = filters(group_of(model, IMAGE, "0.weight"), model)
    assert torch.equal(found, model[0].weight.detach().double().transpose(0, 1).flatten(1))


def test_a_grouped_convolution_has_every_filter_of_a_channel():
    model = drawn(nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 3, 1)))
    found = filters(group_of(model, IMAGE, "1.weight"), model)
    first, second = (model[i].weight.detach().double().flatten(1) for i in (0, 1))
    assert torch.equal(found, torch.cat([first, second[0::2], second[1::2]], dim=1))


def test_a_grouped_transposed_convolution_has_its_outputs_in_the_second_dimension():
    model = drawn(nn.Sequential(nn.ConvTranspose2d(2, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 3, 1)))
    found = filters(group_of(model, IMAGE, "0.weight"), model)
    assert torch.equal(found, model[0].weight.detach().double().transpose(0, 1).flatten(1))


def test_both_halves_of_a_gate_stand_in_the_row_of_their_channel():
    model = drawn(Gated())
    group = group_of(model, torch.rand(2, 5), "up.weight")
    weight = model.up.weight.detach().double()
    assert torch.equal(filters(group, model), torch.cat([weight[:6], weight[6:]], dim=1))


def test_the_layers_of_a_group_stand_side_by_side():
    model = drawn(Sum())
    found = filters(group_of(model, IMAGE, "a.weight"), model)
    parts = [
        model.a.weight.detach().double().flatten(1),
        model.b.weight.detach().double().transpose(0, 1).flatten(1),
    ]
    assert found.shape == (6, 2 * 9 + 2)
    assert sorted(map(tuple, found.tolist())) in (
        sorted(map(tuple, torch.cat(parts, 1).tolist())),
        sorted(map(tuple, torch.cat(parts[::-1], 1).tolist())),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet-tiny", "smallcnn", "preact-resnet18"])
def test_their_sums_and_norms_are_those_of_the_criteria(name):
    model = secateur.models.build(name, **({"in_channels": 3} if "preact" in name else {}))
    size = {"resnet-tiny": (1, 8, 8), "smallcnn": (1, 28, 28)}.get(name, (3, 32, 32))
    for group in secateur.trace(model.eval(), torch.rand(2, *size)).groups:
        found = filters(group, model)
        for criterion, expected in (("l1", found.abs().sum(1)), ("l2", found.norm(dim=1))):
            if len({m.tensor for m in group.members if m.role == "out" and m.tensor.endswith("weight")}) == 1:
                torch.testing.assert_close(CRITERIA.get(criterion)(group, model), expected)


def test_the_example_in_its_docstring_holds():
    assert doctest.testmod(filter_matrix).failed == 0


@pytest.fixture
def example(monkeypatch):
    """The criterion that docs/criteria.md shows, as it stands there."""
    monkeypatch.setattr(CRITERIA, "_entries", dict(CRITERIA._entries))
    monkeypatch.setattr(CRITERIA, "_objects", dict(CRITERIA._objects))
    page = (ROOT / "docs" / "criteria.md").read_text(encoding="utf-8")
    code = re.search(r"^```python\n(.*?)^```", page, flags=re.M | re.S)[1]
    exec(compile(code, "criteria.md", "exec"), {})
    return CRITERIA.get("linf")


@pytest.mark.parametrize(
    ("model", "shape", "tensor"),
    [
        (nn.Sequential(nn.ConvTranspose2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 3, 1)), (2, 2, 6, 6), "0.weight"),
        (Gated(), (2, 5), "up.weight"),
    ],
    ids=["transposed", "gated"],
)
def test_the_documented_criterion_scores_the_channel_whose_weights_are_large(example, model, shape, tensor):
    model = drawn(model)
    images = torch.rand(*shape, generator=torch.Generator().manual_seed(1))
    group = group_of(model, images, tensor)
    for member in group.members:
        if member.role == "out" and member.tensor == tensor:
            weight = model.get_parameter(tensor)
            for index, channel in zip(member.indices, member.channels, strict=True):
                with torch.no_grad():
                    weight.select(member.dim, index)[0] = 10.0 + channel if index < 6 else 0.0
    scores = example(group, model)
    assert scores.tolist() == [10.0 + channel for channel in range(6)]
    plan = secateur.plan(secateur.trace(model, images), criterion="linf", sparsity=0.5)
    (cut,) = [cut for cut in plan.cuts if cut.group == group.name]
    gone = next(
        part.removed for part in cut.slices if part.tensor == tensor and part.dim == member_dim(group, tensor)
    )
    assert {index % 6 for index in gone} == {0, 1, 2}


def member_dim(group, tensor):
    return next(m.dim for m in group.members if m.tensor == tensor and m.role == "out")
