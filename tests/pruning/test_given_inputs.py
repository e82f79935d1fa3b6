"""Integers, flags and masks among the inputs mean something to a network: proofs leave them as they are."""

import json

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import secateur
from secateur.surgery.plan import Plan


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.g, self.f = nn.Embedding(50, 24), nn.LSTM(24, 20, batch_first=True), nn.Linear(20, 5)

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(self.e(ids), lengths, batch_first=True, enforce_sorted=False)
        return self.f(self.g(packed)[1][0][-1])


class Bags(nn.Module):
    """Like a click predictor: dense features, and bags of indices into one table each."""

    def __init__(self):
        super().__init__()
        self.d, self.f = nn.Linear(4, 20), nn.Linear(20, 5)
        self.tables = nn.ModuleList(nn.EmbeddingBag(30, 20, mode="sum") for _ in range(3))

    def forward(self, dense, offsets, indices):
        found = [bag(ids, o) for bag, ids, o in zip(self.tables, indices, offsets, strict=True)]
        return self.f((self.d(dense) + sum(found)).relu())


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(24, 4, 48, batch_first=True)
        self.e, self.f = nn.Embedding(50, 24), nn.Linear(24, 5)
        self.t = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, ids, mask, padding=None):
        return self.f(self.t(self.e(ids), mask=mask, src_key_padding_mask=padding).mean(1))


IDS = torch.randint(0, 30, (3, 9), generator=torch.Generator().manual_seed(0))
CAUSAL = torch.ones(9, 9).triu(1).bool()
LATE = torch.arange(9) >= torch.tensor([[9], [5], [7]])
WHOLE = {
    "lengths": (Packed, (IDS, torch.tensor([9, 5, 7]))),
    "offsets": (
        Bags,
        (
            torch.rand(3, 4),
            [torch.tensor([0, 2, 5]), torch.tensor([0, 2, 5]), torch.tensor([0, 0, 0])],
            [IDS[0], IDS[1, :7], torch.tensor([], dtype=torch.int64)],
        ),
    ),
    "a mask of flags": (Masked, (IDS, CAUSAL)),
    "a mask of minus infinity": (Masked, (IDS, torch.zeros(9, 9).masked_fill(CAUSAL, -torch.inf))),
    "a mask of large numbers": (Masked, (IDS, torch.zeros(9, 9).masked_fill(CAUSAL, -1e9))),
    "padding": (Masked, {"ids": IDS, "mask": CAUSAL, "padding": LATE}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WHOLE)
def test_integers_and_masks_stay_as_given(kind):
    make, inputs = WHOLE[kind]
    report = secateur.prune(make().eval(), inputs, sparsity=0.5)
    assert report.verified
    assert report.channels < report.channels_before
    plan = Plan.from_json(json.loads(json.dumps(report.plan.to_json())))
    assert plan == report.plan


def test_the_mask_of_the_example_is_the_mask_of_the_proof():
    seen = []

    class Watching(Masked):
        def forward(self, ids, mask):
            seen.append((ids.clone(), mask.clone()))
            return super().forward(ids, mask)

    inputs = WHOLE["a mask of minus infinity"][1]
    secateur.prune(Watching().eval(), inputs, sparsity=0.5)
    real = [(ids, mask) for ids, mask in seen if not ids.is_meta]
    assert len(real) > 1
    assert all(torch.equal(ids, IDS) and torch.equal(mask.float(), inputs[1]) for ids, mask in real)


def test_scores_that_are_masked_with_minus_infinity_are_compared():
    class Scores(Masked):
        def forward(self, ids, mask):
            return super().forward(ids, mask).masked_fill(ids[:, :5] > 14, -torch.inf)

    assert secateur.prune(Scores().eval(), WHOLE["a mask of flags"][1], sparsity=0.5).verified


def test_numbers_are_still_drawn_anew():
    seen = []

    class Watching(nn.Linear):
        def forward(self, x):
            seen.append(x.detach().clone())
            return super().forward(x)

    x = torch.rand(2, 6)
    model = nn.Sequential(Watching(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    secateur.prune(model, (x,), sparsity=0.5)
    assert any(not item.is_meta and not torch.equal(item.float(), x) for item in seen)


def test_a_network_that_ignores_its_integers_is_told_from_one_that_reads_them():
    class Reads(nn.Module):
        def __init__(self, reads):
            super().__init__()
            self.e, self.a, self.f, self.reads = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 3), reads
            self.c = nn.Parameter(torch.rand(2, 2, 8))

        def forward(self, ids):
            h = self.e(ids) if self.reads else self.c
            return self.f(self.a(h).relu().mean(1))

    for reads in (True, False):
        model = Reads(reads).eval()
        graph = secateur.trace(model, torch.tensor([[1, 2], [3, 4]]))
        plan = secateur.plan(graph, sparsity=0.5, keep=["c"])
        assert secateur.proof.verify(plan, graph).alive is reads
