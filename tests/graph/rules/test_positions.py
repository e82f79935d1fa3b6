"""What an index counts stays as it is: after pruning, position 5 would be another channel."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import secateur

WIDTH, CLASSES = 16, 10


class Counting(nn.Module):
    """A classifier whose last line is given."""

    def __init__(self, last) -> None:
        super().__init__()
        self.first, self.head, self.last = nn.Linear(8, WIDTH), nn.Linear(WIDTH, CLASSES), last

    def forward(self, x: Tensor):
        return self.last(self.head(self.first(x).relu()))


def halved(net, x=None):
    """The report of pruning half, which must be proved."""
    report = secateur.prune(net.eval(), torch.rand(4, 8) if x is None else x, sparsity=0.5)
    assert report.verified
    assert report.max_error <= 1e-10
    return report


LAST = {
    "argmax": lambda y: y.argmax(1),
    "argmin": lambda y: (y.exp(), y.argmin(-1, keepdim=True)),
    "max": lambda y: dict(zip(("confidence", "label"), y.softmax(1).max(1), strict=True)),
    "min": lambda y: y.min(1),
    "median": lambda y: y.median(1).indices,
    "mode": lambda y: y.mode(1),
    "kthvalue": lambda y: y.kthvalue(2, 1),
    "sort": lambda y: y.argsort(1),
    "topk": lambda y: y.topk(3, 1).indices,
    "of everything": lambda y: y.argmax(),
    "where": lambda y: [*torch.where(y.abs() >= 0), y.sign().long()],
    "unique": lambda y: y.unique(return_inverse=True)[1],
    "bucketize": lambda y: torch.bucketize(y, torch.tensor([0.0, 1.0])),
    "searchsorted": lambda y: torch.searchsorted(y[0].sort()[0], y[1]),
    "one hot": lambda y: F.one_hot(y.argmax(1), CLASSES),
    "flags": lambda y: y > 0,
    "rounded": lambda y: (y * 100).round().long(),
}


@pytest.mark.parametrize("last", LAST)
def test_labels_that_a_network_returns_name_the_classes_of_before(last):
    torch.manual_seed(0)
    net = Counting(LAST[last])
    halved(net)
    assert (net.first.out_features, net.head.out_features) == (WIDTH // 2, CLASSES)


@pytest.mark.parametrize("last", ["max", "min", "median", "mode", "kthvalue"])
def test_values_without_their_positions_count_nothing(last):
    torch.manual_seed(0)
    place = (2,) if last == "kthvalue" else ()
    net = Counting(lambda y: getattr(y, last)(*place, 1).values)
    halved(net)
    assert net.head.out_features == CLASSES // 2


def test_a_label_keeps_its_meaning_where_another_output_is_named():
    torch.manual_seed(0)
    net = Counting(lambda y: {"features": y * 2, "score": y.logsumexp(1), "label": y.argmax(1)})
    report = secateur.prune(net.eval(), torch.rand(4, 8), sparsity=0.5, logits="score")
    assert report.verified
    assert net.head.out_features == CLASSES


class Experts(nn.Module):
    """The best one or two of four experts, chosen by a router."""

    def __init__(self, best: int) -> None:
        super().__init__()
        self.gate, self.best, self.head = nn.Linear(8, 4), best, nn.Linear(8, 3)
        experts = (nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8)) for _ in range(4))
        self.experts = nn.ModuleList(experts)

    def forward(self, x: Tensor) -> Tensor:
        share = self.gate(x).softmax(1)
        if self.best == 1:
            share, which = share.max(1, keepdim=True)
        else:
            share, which = share.topk(self.best, 1)
        shares = [(share * (which == k)).sum(1, keepdim=True) for k in range(len(self.experts))]
        return self.head(sum(expert(x) * own for expert, own in zip(self.experts, shares, strict=True)))


@pytest.mark.parametrize("best", [1, 2])
def test_a_router_keeps_one_gate_for_each_expert(best):
    torch.manual_seed(0)
    net = Experts(best)
    halved(net)
    assert net.gate.out_features == 4
    assert [expert[0].out_features for expert in net.experts] == [6] * 4
    assert net.head.in_features == 4


class Sent(Experts):
    """Each expert sees only what is sent to it, and some see nothing."""

    def forward(self, x: Tensor) -> Tensor:
        share, which = self.gate(x).softmax(1).topk(2, 1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, slot = torch.where(which == number)
            out = out.index_add(0, rows, expert(x[rows]) * share[rows, slot, None])
        return self.head(out)


def test_experts_that_nothing_was_sent_to_are_pruned_like_the_others():
    torch.manual_seed(0)
    net = Sent(2)
    x = torch.rand(6, 8)
    assert len(set(net.gate(x).topk(2, 1).indices.flatten().tolist())) < 4
    halved(net, x)
    assert net.gate.out_features == 4
    assert [expert[0].out_features for expert in net.experts] == [6] * 4


class Codebook(nn.Module):
    """Features are replaced by the nearest of 16 codes."""

    def __init__(self, distance) -> None:
        super().__init__()
        self.distance = distance
        self.inside, self.codes, self.outside = nn.Linear(8, 12), nn.Embedding(16, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor):
        h = self.inside(x)
        code = self.distance(h, self.codes.weight).argmin(1)
        return self.outside(self.codes(code)), code


DISTANCES = {
    "by hand": lambda h, codes: (h[:, None] - codes).square().sum(-1),
    "expanded": lambda h, codes: codes.square().sum(1) - 2 * h @ codes.t(),
    "cdist": torch.cdist,
    "cityblock": lambda h, codes: torch.cdist(h[None], codes[None], 1.0)[0],
}


@pytest.mark.parametrize("distance", DISTANCES)
def test_codes_keep_their_numbers_and_lose_width(distance):
    torch.manual_seed(0)
    net = Codebook(DISTANCES[distance])
    halved(net)
    assert net.codes.weight.shape == (16, 6)
    assert (net.inside.out_features, net.outside.in_features) == (6, 6)


def test_the_best_of_several_and_a_gather_along_them_stay_right():
    torch.manual_seed(0)
    net = Counting(lambda y: y.gather(1, y.topk(4, 1).indices).sum(1, keepdim=True))
    halved(net)
    assert (net.first.out_features, net.head.out_features) == (WIDTH // 2, CLASSES)


class Sorted(nn.Module):
    """Tokens sorted by their expert, and one product of all experts, as libraries have it."""

    def __init__(self):
        super().__init__()
        self.first, self.gate, self.last = nn.Linear(8, 16), nn.Linear(16, 4), nn.Linear(16, 5)
        self.up, self.down = nn.Parameter(torch.randn(4, 64, 16)), nn.Parameter(torch.randn(4, 16, 32))

    def forward(self, x):
        h = self.first(x)
        best, which = self.gate(h).softmax(1).topk(2)
        own, order = which.flatten().sort()
        ends = torch.bincount(own, minlength=4).cumsum(0).int()
        rows = torch._grouped_mm(h[order // 2], self.up.transpose(1, 2), offs=ends)
        gate, up = rows.chunk(2, dim=-1)
        rows = torch._grouped_mm((nn.functional.silu(gate) * up), self.down.transpose(1, 2), offs=ends)
        return self.last(h.index_add(0, order // 2, rows * best.flatten()[order][:, None]))


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this torch has no such product")
def test_experts_in_one_product_keep_their_number_and_lose_width():
    torch.manual_seed(0)
    net = Sorted()
    report = secateur.prune(net, torch.randn(9, 8), sparsity=0.5)
    assert report.verified
    assert (net.up.shape, net.down.shape) == ((4, 32, 8), (4, 8, 16))
    assert net.gate.weight.shape == (4, 8)
    assert net(torch.randn(9, 8)).isfinite().all()
