"""What the run did not read, or read as plain numbers, stays as it is."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import secateur


def halved(net, x, **options):
    """The report of pruning half, which must be proved."""
    torch.manual_seed(0)
    report = secateur.prune(net.eval(), x, sparsity=0.5, **options)
    assert report.verified
    assert report.max_error <= 1e-10
    return report


class Tokens(nn.Module):
    """Tokens with a table of positions, of which the network reads as many as there are tokens."""

    def __init__(self, read, rows: int = 64, *, fixed: bool = False) -> None:
        super().__init__()
        self.embed, self.read = nn.Embedding(50, 24), read
        table = torch.randn(rows, 24)
        if fixed:
            self.register_buffer("places", table)
        else:
            self.places = nn.Parameter(table)
        self.body = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))
        self.head = nn.Linear(24, 5)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.embed(ids) + self.read(self.places, ids.shape[1])
        return self.head((h + self.body(h)).mean(1))


READINGS = {
    "slice": lambda table, count: table[:count],
    "slice of a copy": lambda table, count: table.unsqueeze(0).clone()[:, :count],
    "from the third": lambda table, count: table[2 : 2 + count],
    "from the end": lambda table, count: table[-count:],
    "narrow": lambda table, count: table.t().narrow(1, 0, count).t(),
    "split": lambda table, count: table.split([count, len(table) - count])[0],
    "positions": lambda table, count: table[torch.arange(count)],
    "scaled": lambda table, count: (table * 0.5)[:count],
    "turned": lambda table, count: (
        table.flip(0).flip(0)[:count] + nn.functional.normalize(table, dim=-1)[:count]
    ),
    "beside another": lambda table, count: torch.cat([table, table])[:count],
    "joined with itself": lambda table, count: (table + table.roll(0, 0))[:count],
    "embedding": lambda table, count: nn.functional.embedding(torch.arange(count), table),
}


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("reading", READINGS)
def test_a_table_of_positions_keeps_its_rows_and_loses_width(reading, fixed):
    torch.manual_seed(0)
    net = Tokens(READINGS[reading], fixed=fixed)
    before = net.places.detach().clone()
    report = halved(net, torch.randint(0, 50, (2, 10)))
    gone = report.plan.removed()["places", 1]
    assert net.places.shape == (64, 12)
    assert torch.equal(net.places, before[:, [i for i in range(24) if i not in gone]])
    assert net(torch.randint(0, 50, (2, 60))).shape == (2, 5)


def test_rows_that_were_not_read_are_explained():
    graph = secateur.trace(Tokens(READINGS["slice"]), torch.zeros(1, 10, dtype=torch.long))
    found = [item for item in graph.frozen if item.axes == ("places[0]",)]
    assert sorted(item.size for item in found) == [10, 54]
    assert "54 in places[0]: is not read in this run" in graph.explain()


class Numbers(nn.Module):
    """A scale of each channel, of which the code reads a number too."""

    def __init__(self, read, *, fixed: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 16), nn.Linear(16, 24), nn.Linear(24, 5)
        self.read = read
        if fixed:
            self.register_buffer("scale", torch.rand(16))
        else:
            self.scale = nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu() * self.scale
        return self.head(self.second(h * float(self.read(self.scale))).relu())


AS_NUMBERS = {
    "tolist": lambda scale: max(scale.tolist()),
    "numpy": lambda scale: scale.detach().numpy().max(),
    "data": lambda scale: np.flatnonzero(scale.data.cpu().numpy() > 0.5)[0],
    "array": lambda scale: np.asarray(scale.detach())[3],
    "item": lambda scale: scale.max().item(),
    "float": lambda scale: float(scale[0]),
    "int": lambda scale: 1 + int(scale.argmax()),
    "bool": lambda scale: 2 if (scale > 0).all() else 1,
    "loop": lambda scale: sum(float(value) for value in scale),
    "list of a view": lambda scale: scale.view(4, 4).tolist()[1][2],
}


@pytest.mark.parametrize("reading", AS_NUMBERS)
def test_a_parameter_that_is_read_as_numbers_stays_and_holds_up_nothing_else(reading):
    torch.manual_seed(0)
    net = Numbers(AS_NUMBERS[reading])
    report = halved(net, torch.rand(2, 6))
    assert net.scale.shape == (16,)
    assert (net.first.out_features, net.second.out_features) == (16, 12)
    assert not report.notes


@pytest.mark.parametrize("reading", ["tolist", "numpy", "item"])
def test_a_buffer_that_is_read_as_numbers_stays(reading):
    torch.manual_seed(0)
    net = Numbers(AS_NUMBERS[reading], fixed=True)
    halved(net, torch.rand(2, 6))
    assert net.scale.shape == (16,)


def test_numbers_read_from_activations_hold_up_nothing():
    torch.manual_seed(0)
    net = Numbers(lambda scale: 1.0)
    net.register_forward_pre_hook(lambda module, inputs: (inputs[0] * inputs[0].mean().item(),))
    halved(net, torch.rand(2, 6))
    assert (net.first.out_features, net.second.out_features) == (8, 12)


class Exit(nn.Module):
    """Returns early where it is sure, or else computes more."""

    def __init__(self, sure) -> None:
        super().__init__()
        self.first, self.more, self.sure = nn.Linear(6, 16), nn.Linear(16, 24), sure
        self.early, self.late = nn.Linear(16, 4), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        found = self.early(h)
        return found if self.sure(found) else self.late(self.more(h).relu())


SURE = {
    "maximum": lambda y: y.softmax(1).max() > 0.9,
    "all images": lambda y: (y.softmax(1).max(1).values > 0.9).all(),
    "any class": lambda y: (y.softmax(1) > 0.9).any(),
    "entropy": lambda y: float(-(y.softmax(1) * y.log_softmax(1)).sum(1).mean()) < 0.1,
    "count": lambda y: int((y.softmax(1).amax(1) > 0.9).sum()) == len(y),
}


@pytest.mark.parametrize("sure", SURE)
def test_what_decides_whether_to_stop_keeps_its_channels(sure):
    torch.manual_seed(0)
    net = Exit(SURE[sure])
    halved(net, torch.rand(3, 6))
    assert net.early.out_features == net.late.out_features == 4
    assert (net.first.out_features, net.more.out_features) == (8, 12)


@pytest.mark.parametrize("check", ["isnan", "isinf", "isfinite"])
def test_a_check_for_nan_holds_up_nothing(check):
    torch.manual_seed(0)
    net = Exit(lambda y: False)
    net.first.register_forward_hook(
        lambda module, inputs, h: h if (getattr(torch, check)(h).all() or True) else None
    )
    net.early = nn.Linear(16, 4)
    halved(net, torch.rand(3, 6))
    assert (net.first.out_features, net.more.out_features) == (8, 12)


class Searched(nn.Module):
    """The best of some layers, by parameters that are close to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = nn.ModuleList(nn.Linear(6, 16) for _ in range(4)), nn.Linear(16, 4)
        self.scores = nn.Parameter(torch.tensor([0.98, 1.0, 0.99, 0.97]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers[int(self.scores.argmax())](x).relu())


def test_a_proof_takes_the_way_that_read_numbers_name():
    torch.manual_seed(0)
    net = Searched()
    graph = secateur.trace(net, torch.rand(2, 6))
    assert graph.numbers == {"scores"}
    for seed in range(4):
        again = Searched()
        report = secateur.prune(again, torch.rand(2, 6), sparsity=0.5, criterion="random", seed=seed)
        assert (report.verified, again.layers[1].out_features) == (True, 8)


def test_lists_are_read_as_before_after_a_trace():
    halved(Numbers(AS_NUMBERS["tolist"]), torch.rand(2, 6))
    assert "tolist" not in vars(Tensor)
    assert torch.arange(2).tolist() == [0, 1]


class FixedFront(nn.Module):
    """Two constant matrices in front of what is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("there", torch.randn(16, 4))
        self.register_buffer("back", torch.randn(6, 16))
        self.body, self.head = nn.Linear(6, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body((x @ self.there.t()).abs() @ self.back.t()).relu())


def test_channels_between_buffers_stay():
    torch.manual_seed(0)
    net = FixedFront()
    halved(net, torch.rand(2, 4))
    assert net.there.shape == (16, 4)
    assert (net.back.shape[1], net.body.out_features) == (16, 12)


class Sizes(nn.Module):
    """One branch for small images, another for large ones, and parameters for neither."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(24, 5)
        self.small, self.large = nn.Conv2d(16, 24, 3), nn.Sequential(nn.Conv2d(16, 24, 5), nn.ReLU())
        self.norms = nn.ModuleList(nn.BatchNorm2d(24, affine=False) for _ in range(2))
        self.token, self.choice = nn.Parameter(torch.zeros(16)), nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        h = self.large(h) if x.shape[-1] > 16 else self.small(h)
        return self.head(self.norms[x.shape[-1] > 16](h).relu().mean((2, 3)))


def test_what_did_not_run_is_named():
    torch.manual_seed(0)
    report = halved(Sizes(), torch.rand(1, 3, 8, 8))
    (note,) = report.notes
    # A parameter of size 3 beside widths of 16 and 24 fits as before.
    assert note.startswith("token, large, norms.1 did not run on the example inputs and may no longer fit")


def test_what_ran_in_training_alone_is_no_such_case():
    class Auxiliary(Sizes):
        def forward(self, x: Tensor):
            h = self.stem(x).relu()
            found = self.head(self.norms[0](self.norms[1](self.small(h))).mean((2, 3)))
            return (found, self.large(h + self.token[:, None, None])) if self.training else found

    torch.manual_seed(0)
    assert not halved(Auxiliary(), torch.rand(1, 3, 8, 8)).notes


@pytest.mark.parametrize("check", ["isnan", "isinf", "isfinite"])
def test_an_assertion_about_a_parameter_that_trains_is_no_warning(check):
    torch.manual_seed(0)
    net = Numbers(lambda scale: 1 + int(scale.argmax()) if getattr(torch, check)(scale).any() or True else 1)
    halved(net, torch.rand(2, 6))
    assert net.scale.shape == (16,)


class Causal(nn.Module):
    """torch's encoder, which looks at its mask to see whether it is the causal one."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(24, 4, 48, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.stem, self.head = nn.Linear(6, 24), nn.Linear(24, 7)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.triu(torch.full((x.shape[1], x.shape[1]), -torch.inf), 1)
        return self.head(self.body(self.stem(x), mask=mask)).argmax(-1)


def test_a_mask_of_infinities_that_decides_is_compared():
    torch.manual_seed(0)
    net = Causal()
    halved(net, torch.rand(2, 9, 6))
    assert (net.stem.out_features, net.head.out_features) == (12, 7)
