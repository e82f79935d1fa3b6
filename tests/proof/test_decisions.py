"""Networks that pick by their own numbers: detectors, thresholds, predicted lengths."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

import secateur
from secateur.graph.trace.decisions import deciding_calls


def suppressed(boxes, scores, limit=0.5):
    """Which boxes stay, best first: non-maximum suppression in plain operations."""
    order, kept = scores.argsort(descending=True), []
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        low = torch.maximum(boxes[first, :2], boxes[rest, :2])
        high = torch.minimum(boxes[first, 2:], boxes[rest, 2:])
        inside = (high - low).clamp(min=0).prod(1)
        order = rest[inside / (area[first] + area[rest] - inside + 1e-9) <= limit]
    return torch.stack(kept) if kept else order


class Detector(nn.Module):
    """A list of images of different sizes to a list of dicts, as detectors of one stage do."""

    def __init__(self, raw=False):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.scores, self.boxes, self.raw = nn.Conv2d(12, 4, 1), nn.Conv2d(12, 4, 1), raw

    def forward(self, images, targets=None):
        same = [F.interpolate(image[None], size=(16, 16), mode="bilinear") for image in images]
        features = self.deep(self.stem(torch.cat(same)))
        scores = self.scores(features).flatten(2).transpose(1, 2).sigmoid()
        boxes = self.boxes(features).flatten(2).transpose(1, 2)
        if self.raw:
            return scores, boxes
        return [self.picked(one, box) for one, box in zip(scores, boxes, strict=True)]

    def picked(self, scores, boxes):
        corner = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:].abs()], 1)
        best, labels = scores.max(1)
        likely = torch.where(best > 0.5)[0]
        top, order = best[likely].topk(min(8, len(likely)))
        corner, labels = corner[likely][order], labels[likely][order]
        kept = suppressed(corner, top)
        return {"boxes": corner[kept], "labels": labels[kept], "scores": top[kept]}


class TwoStages(Detector):
    """Proposals of a first stage, and a second stage that runs on what was proposed."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 5))

    def forward(self, images, targets=None):
        same = [F.interpolate(image[None], size=(16, 16), mode="bilinear") for image in images]
        features = self.deep(self.stem(torch.cat(same)))
        scores = self.scores(features).flatten(2).amax(1)
        boxes = self.boxes(features).flatten(2).transpose(1, 2)
        found = []
        for one, score, box in zip(features.flatten(2), scores, boxes, strict=True):
            kept = suppressed(torch.cat([box[:, :2], box[:, :2] + box[:, 2:].abs()], 1), score)[:6]
            found.append(self.head(one[:, kept].T).softmax(-1))
        return found


IMAGES = [torch.rand(3, 20, 14), torch.rand(3, 15, 18)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("make", "channels"), [(Detector, 10), (TwoStages, 19)])
def test_detectors_are_pruned_up_to_their_boxes_and_scores(make, channels, seed):
    torch.manual_seed(seed)
    model = make().eval()
    report = secateur.prune(model, (IMAGES,), sparsity=0.5, seed=seed)
    assert report.verified
    assert report.channels <= channels
    assert model.deep[0].out_channels == 6
    assert len(model(IMAGES[:1])) == 1


def test_what_decides_is_an_output():
    model = Detector().eval()
    raw = Detector(raw=True).eval()
    raw.load_state_dict(model.state_dict())
    graph = secateur.trace(model, (IMAGES,))
    assert [group.size for group in graph.groups] == [g.size for g in secateur.trace(raw, (IMAGES,)).groups]
    names = {graph.tape.calls[place].short_name for place in graph.tape.decided}
    assert {"gt", "le"} <= names
    # Scores before the threshold, and how far boxes overlap, in front of what the model returns.
    assert len(graph.tape.outputs) > len(graph.tape.returned)


def spoilt(plan, group, tensor, size):
    """The plan, but with one consumer of a group that loses other channels than the producer."""
    cut = next(cut for cut in plan.cuts if cut.group == group)
    parts = tuple(
        dataclasses.replace(part, removed=tuple(sorted({(i + 1) % size for i in part.removed})))
        if part.tensor == tensor
        else part
        for part in cut.slices
    )
    wrong = dataclasses.replace(cut, slices=parts)
    cuts = tuple(wrong if one is cut else one for one in plan.cuts)
    return dataclasses.replace(plan, cuts=cuts, graph=None)


@pytest.mark.slow
def test_a_wrong_index_before_the_decision_is_found():
    torch.manual_seed(0)
    model = Detector().eval()
    graph = secateur.trace(model, (IMAGES,))
    plan = secateur.plan(graph, sparsity=0.5)
    bad = spoilt(plan, "deep.0.weight[0]", "scores.weight", 12)
    assert not secateur.proof.verify(bad, graph).ok


class Speech(nn.Module):
    """Tokens, repeated as often as a predictor says."""

    def __init__(self, way):
        super().__init__()
        self.way, self.e, self.dec = way, nn.Embedding(30, 16), nn.Linear(16, 8)
        self.enc = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 16))
        self.length = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 1))

    def forward(self, ids):
        h = self.enc(self.e(ids))
        told = self.length(h).squeeze(-1)
        return self.dec(self.way(h, told.exp().round().clamp(min=1).long())), told


def interleaved(h, lengths):
    return torch.cat(
        [torch.repeat_interleave(one, many, dim=0) for one, many in zip(h, lengths, strict=True)]
    )


def expanded(h, lengths):
    rows = [
        torch.cat([one[i].expand(int(many[i]), -1) for i in range(len(one))])
        for one, many in zip(h, lengths, strict=True)
    ]
    most = max(len(row) for row in rows)
    return torch.stack([F.pad(row, (0, 0, 0, most - len(row))) for row in rows])


def listed(h, lengths):
    return torch.cat(
        [one.repeat_interleave(torch.tensor(many), 0) for one, many in zip(h, lengths.tolist(), strict=True)]
    )


def multiplied(h, lengths):
    ends = lengths.cumsum(1)
    place = torch.arange(int(ends[:, -1].max()))[None, :, None]
    return ((place < ends[:, None]) & (place >= (ends - lengths)[:, None])).to(h.dtype) @ h


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("way", [interleaved, expanded, listed, multiplied])
def test_predicted_lengths(way, seed):
    torch.manual_seed(seed)
    model = Speech(way).eval()
    with torch.no_grad():
        model.length[2].weight.mul_(4)
    report = secateur.prune(model, torch.randint(0, 30, (2, 7)), sparsity=0.5, seed=seed)
    assert report.verified
    assert (model.enc[0].out_features, model.length[0].out_features) == (12, 6)


def test_a_network_without_decisions_is_recorded_once():
    class Counting(nn.Linear):
        calls = 0

        def forward(self, x):
            type(self).calls += 1
            return torch.where(x > 0, x, 0.1 * x) @ self.weight.T

    graph = secateur.trace(Counting(4, 4, bias=False).eval(), torch.randn(2, 4))
    assert Counting.calls == 1
    assert not deciding_calls(graph.tape)
    assert not graph.tape.decided


def test_a_mask_among_the_inputs_decides_nothing():
    class Picking(nn.Linear):
        def forward(self, x, mask):
            return super().forward(x[mask])

    class Weighing(Picking):
        def forward(self, x, mask):
            return super().forward(x, mask > 0)

    x, mask = torch.rand(4, 6), torch.tensor([True, False, True, True])
    assert not secateur.trace(Picking(6, 8).eval(), (x, mask)).tape.decided
    assert not secateur.trace(Weighing(6, 8).eval(), (x, mask.float())).tape.decided
    # Numbers that are drawn anew decide.
    assert secateur.trace(Weighing(6, 8).eval(), (x, torch.rand(4))).tape.decided


def test_padded_lengths_are_followed():
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.f = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, rows):
            return self.f(pad_sequence([self.a(row).relu() for row in rows], batch_first=True))

    report = secateur.prune(Padded().eval(), ([torch.rand(3, 6), torch.rand(5, 6)],), sparsity=0.5)
    assert report.verified
    assert report.channels == 4


class Cast(nn.Module):
    """A cast of numbers in front of a decision: in float64 there is nothing to cast."""

    def __init__(self):
        super().__init__()
        self.h, self.n, self.f = nn.Linear(6, 16), nn.Linear(6, 1), nn.Linear(16, 3)

    def forward(self, x):
        h = self.h(x).double()
        often = (self.n(x).sigmoid() * 3).ceil().long()
        return self.f(h.repeat_interleave(often[:, 0], 0).float())


def test_a_cast_of_numbers_is_no_decision():
    torch.manual_seed(0)
    model = Cast().eval()
    assert secateur.prune(model, torch.randn(5, 6), sparsity=0.5).verified
    assert model.h.out_features == 8


class Found(nn.Module):
    """A patch of the size that the network finds, in whole pixels, and where it is brightest."""

    def __init__(self, pixels):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU())
        self.size, self.heat, self.pixels = nn.Linear(16, 2), nn.Conv2d(16, 4, 1), pixels

    def forward(self, x):
        h = self.stem(x)
        wide, high = self.pixels(3 + 9 * self.size(h.mean((2, 3))).sigmoid()[0])
        patch = F.interpolate(self.heat(h), size=(high, wide), mode="bicubic")
        place = patch.flatten(2).argmax(2)
        return patch.flatten(2).amax(2), (place % wide + 0.5) / wide, (place // wide + 0.5) / high


PIXELS = {
    "ceil": lambda sides: [int(side.ceil()) for side in sides],
    "floor, then at least 4": lambda sides: [int(side.item()) for side in sides.floor().clamp(min=4)],
    "round to a list": lambda sides: [int(side) for side in sides.round().tolist()],
    "trunc to numpy": lambda sides: sides.trunc().detach().numpy().astype("int").tolist(),
    "to integers": lambda sides: sides.long().tolist(),
    "by code": lambda sides: [int(side) for side in sides],
    "by code, from a list": lambda sides: [int(side) + 1 for side in sides.tolist()],
    "by code, from an array": lambda sides: [math.ceil(side) for side in sides.detach().numpy()],
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("way", PIXELS)
def test_sizes_in_whole_pixels_are_followed(way, seed):
    torch.manual_seed(seed)
    net = Found(PIXELS[way])
    report = secateur.prune(net, torch.rand(1, 3, 20, 20), sparsity=0.5)
    assert report.verified
    assert not [note for note in report.notes if "not pruned" in note]
    assert net.stem[0].out_channels == 8


@pytest.mark.parametrize("way", ["by code", "by code, from a list", "ceil"])
def test_a_wrong_index_before_a_number_that_code_reads_is_found(way):
    torch.manual_seed(0)
    net = Found(PIXELS[way])
    graph = secateur.trace(net, torch.rand(1, 3, 20, 20))
    plan = secateur.plan(graph, sparsity=0.5)
    assert secateur.proof.verify(plan, graph).ok
    assert not secateur.proof.verify(spoilt(plan, "stem.0.weight[0]", "size.weight", 16), graph).ok
