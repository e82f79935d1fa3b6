"""The law of the rules: masking labelled channels of the arguments equals computing on smaller arguments.

Every dimension of every tensor gets labels at random, rules carry them along, and some channels that may go
are removed. Each call is then run twice in float64: on its masked arguments, and on its smaller ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from secateur.graph.channel_masks import ChannelMasks
from secateur.graph.groups import frozen_components
from secateur.graph.labels import Factor, Marks
from secateur.graph.propagation import FAILED, Tracer, step
from secateur.graph.rules import RULES, find
from secateur.graph.trace.recorder import Recorder, record
from secateur.graph.trace.tape import Ref, Tape
from secateur.proof.rounding import WIDE, grouped_product

HEADS = 2
GRID = torch.rand(2, 3, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 2 - 1
PICK = "index by a mask of its own"
IMAGE = (2, 4, 6, 6)
IMAGES = (5, 4, 1, 1)
TARGETS = torch.tensor([1, 0, 2, 2, 1])
ROWS = TARGETS[:, None]
LINKS = torch.sparse_coo_tensor(
    torch.stack([TARGETS, TARGETS.flip(0)]), torch.rand(5).double(), (3, 5), check_invariants=True
)
BOXES = torch.tensor([[0, 1, 1, 3, 4], [1, 0, 0, 5, 5], [1, 2, 0, 4, 4]]).double()
ENDS = torch.tensor([2, 2, 5], dtype=torch.int32)
FIRST = torch.tensor([[1], [0]])
PLACES = torch.tensor([[True, False], [False, True], [True, True]])


LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
if not hasattr(torch.ops.torchvision, "roi_align"):
    # torchvision's operator, where it is not installed: here every region is its whole image.
    LIBRARY.define(
        "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
        "SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor"
    )
    LIBRARY.impl(
        "roi_align",
        lambda x, rois, scale, high, wide, ratio, aligned: F.adaptive_avg_pool2d(
            x[rois[:, 0].long()], (high, wide)
        ),
        "CPU",
    )


@dataclass(frozen=True)
class Case:
    """A function of tensors of these shapes; its sizes follow from those of its arguments."""

    name: str
    function: Callable[..., Tensor | tuple[Tensor, ...]]
    shapes: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        return self.name


def case(name, function, *shapes):
    return Case(name, function, shapes)


def put(x, where, values):
    x = x.clone()
    x[where] = values
    return x


def apart_in_batches(x, y):
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def by_channels(x, scale):
    scale = scale.abs().float() + 0.1
    return torch.fake_quantize_per_channel_affine(x, scale, torch.zeros_like(scale).int(), 1, -9, 9)


def by_experts(x, weight):
    product = getattr(torch.ops.aten, "_grouped_mm", grouped_product)
    return product(x, weight.transpose(1, 2), ENDS)


def heads(x):
    return x.reshape(x.shape[0], HEADS, -1).transpose(1, 2)


CASES = [
    case("relu", torch.relu, (3, 4)),
    case("exp", torch.exp, (3, 4)),
    case("add", torch.add, (3, 4, 5), (4, 1)),
    case("mul by a number", lambda x: x * 3, (3, 4)),
    case("fill", lambda x: torch.ones_like(x) + x.new_full((1, x.shape[1]), 2.0), (3, 4)),
    case("sequence", lambda x: x + torch.arange(x.shape[1]), (3, 4)),
    case("copy", lambda x: torch.empty_like(x).copy_(x), (3, 4)),
    case("sum", lambda x: x.sum(1), (3, 4, 5)),
    case("norm", lambda x: torch.linalg.vector_norm(x, 2, (0, 2), keepdim=True), (3, 4, 5)),
    case("mean", lambda x: x.mean(), (3, 4, 5)),
    case("two results", lambda x: torch.var_mean(x, 2), (3, 4, 5)),
    case("maximum of two", lambda x, y: torch.max(x, y), (3, 4), (3, 4)),
    case("maximum with its position", lambda x: x.max(1), (3, 4, 5)),
    case("position of the smallest", lambda x: x.argmin(1, keepdim=True), (3, 4, 5)),
    case("median with its position", lambda x: x.median(2), (3, 4, 5)),
    case("mean squared difference", F.mse_loss, (3, 4), (3, 4)),
    case("squared differences", lambda x, y: F.mse_loss(x, y, reduction="none"), (3, 4), (3, 4)),
    case("smooth differences", lambda x, y: F.smooth_l1_loss(x, y, reduction="sum"), (3, 4), (3, 4)),
    case("cross-entropy of flags", F.binary_cross_entropy_with_logits, (3, 4), (3, 4)),
    case("upper triangle", torch.triu, (2, 4, 4)),
    case("lower triangle without the diagonal", lambda x: x.tril(-1), (4, 4)),
    case("band", lambda x: x.triu(-1), (5, 4, 4)),
    case("wide triangle", torch.tril, (4, 3, 5)),
    case("softmax", lambda x: x.softmax(-1), (3, 4)),
    case("cumsum", lambda x: x.cumsum(0), (3, 4)),
    case("sort", lambda x: x.sort(1)[0], (3, 4)),
    case("mm", torch.mm, (3, 4), (4, 5)),
    case("addmm", torch.addmm, (5,), (3, 4), (4, 5)),
    case("bmm", torch.bmm, (2, 3, 4), (2, 4, 5)),
    case("products of experts", by_experts, (5, 4), (3, 6, 4)),
    case("baddbmm", torch.baddbmm, (2, 3, 5), (2, 3, 4), (2, 4, 5)),
    case("mv", torch.mv, (3, 4), (4,)),
    case("addmv", torch.addmv, (3,), (3, 4), (4,)),
    case("dot", torch.dot, (4,), (4,)),
    case("vdot", torch.vdot, (4,), (4,)),
    case("distances", torch.cdist, (3, 4), (5, 4)),
    case("distances in another norm", lambda x, y: torch.cdist(x, y, 1.0), (2, 3, 4), (2, 5, 4)),
    case("bilinear", F.bilinear, (3, 4), (3, 5), (2, 4, 5), (2,)),
    case("convolution", lambda x, w, b: F.conv2d(x, w, b, padding=1), IMAGE, (6, 4, 3, 3), (6,)),
    case("grouped convolution", lambda x, w: F.conv2d(x, w, groups=2), IMAGE, (6, 2, 3, 3)),
    case("depthwise convolution", lambda x, w: F.conv2d(x, w, groups=x.shape[1]), IMAGE, (4, 1, 3, 3)),
    case("transposed convolution", lambda x, w: F.conv_transpose2d(x, w), IMAGE, (4, 5, 2, 2)),
    case(
        "batch norm",
        lambda x, w, b, m, v: F.batch_norm(x, m, v.abs() + 1, w, b),
        *(IMAGE, (4,), (4,), (4,), (4,)),
    ),
    case("layer norm", lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b), (3, 4, 5), (5,), (5,)),
    case("group norm", lambda x, w, b: F.group_norm(x, 2, w, b), IMAGE, (4,), (4,)),
    case("weight norm", lambda v, g: torch._weight_norm_interface(v, g, 0)[0], (4, 5), (4, 1)),
    case("fake quantisation", lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 3, -9, 9), (3, 4)),
    case("fake quantisation by channels", by_channels, (3, 4), (4,)),
    case("reshape", lambda x: x.reshape(x.shape[0], -1), (3, 4, 5)),
    case("heads", heads, (3, 8)),
    case(
        "features to an image", lambda x, w: F.conv2d(x.view(-1, x.shape[1] // 4, 2, 2), w), (3, 16), IMAGES
    ),
    case(
        "features to an image, channels last",
        lambda x, w: F.conv2d(x.view(-1, 2, 2, x.shape[1] // 4).permute(0, 3, 1, 2), w),
        *((3, 16), IMAGES),
    ),
    case("attention", lambda q, k, v: (heads(q) @ heads(k).mT).softmax(-1) @ heads(v), *((2, 8),) * 3),
    case("permute", lambda x: x.permute(2, 0, 1).transpose(0, 1), (3, 4, 5)),
    case("t", lambda x: x.t(), (3, 4)),
    case("squeeze", lambda x: x.unsqueeze(1).squeeze(1), (3, 4)),
    case("expand", lambda x: x.unsqueeze(1).expand(-1, 3, -1), (3, 4)),
    case("restride", lambda x: x.as_strided((4, 3), (1, 4)), (3, 4)),
    case("complex", lambda x: torch.view_as_real(torch.view_as_complex(x)), (3, 4, 2)),
    case("fourier", lambda x: torch.view_as_real(torch.fft.rfft(x)), (3, 4)),
    case("slice", lambda x: x[:, : x.shape[1] // 2] * 2, (3, 4)),
    case("every second", lambda x: x[:, ::2] * 2, (3, 4)),
    case("empty slice", lambda x, y: torch.cat([x[:, :0], y], 1), (3, 4), (3, 5)),
    case("distances in batches", apart_in_batches, (2, 5, 4), (6, 4)),
    case("embedding of one", lambda w: F.embedding(torch.tensor(1), w), (3, 4)),
    case("select", lambda x: x[:, 0], (3, 4)),
    case("unbind", lambda x: x.unbind(1), (3, 4)),
    case("split", lambda x: x.split(x.shape[1] // 2, 1), (3, 4)),
    case("glu", lambda x: F.glu(x, 1), (3, 4)),
    case("cat", lambda x, y: torch.cat([x, y], 1), (3, 4), (3, 5)),
    case("stack", lambda x, y: torch.stack([x, y], 1), (3, 4), (3, 4)),
    case("pad", lambda x: F.pad(x, (1, 2, 0, 1)), (3, 4)),
    case("repeat", lambda x: x.repeat(2, 1, 3), (3, 4)),
    case("flip", lambda x: x.flip(1).roll(1, 0), (3, 4, 5)),
    case("channel shuffle", lambda x: F.channel_shuffle(x, 2), (2, 8, 2, 2)),
    case("pixel shuffle", lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2), (2, 16, 2, 2)),
    case("embedding", lambda w: F.embedding(torch.tensor([[0, 2], [1, 1]]), w), (3, 4)),
    case("gather", lambda x: x.gather(1, x.new_zeros(x.shape[0], 1, dtype=torch.long)), (3, 4)),
    case("index_select", lambda x: x.index_select(1, torch.tensor([2, 0])), (3, 4, 5)),
    case("pack", lambda x: pack_padded_sequence(x, [3, 2, 2], True).data, (3, 4, 5)),
    case("gather of the first", lambda x: x.gather(1, FIRST.expand(2, 2, x.shape[2])), (3, 4, 5)),
    case("index by a mask", lambda x: x[torch.tensor([True, False, True])], (3, 4)),
    case(PICK, lambda x: x[x > 0] * 2, (3, 4, 5)),
    case("index by a mask of rows", lambda x: x[x.sum(2) > 0].sum(1), (3, 4, 5)),
    case("index inside by a mask", lambda x, y: x[:, y > 0], (3, 4), (4,)),
    case("masked_select", lambda x, y: x.masked_select(y < 0).exp(), (3, 4), (3, 4)),
    case("nonzero", lambda x: (x > 0).nonzero(), (3, 4)),
    case("masked_scatter", lambda x, y: x.masked_scatter(x < 0, y[x < 0]), (3, 4), (3, 4)),
    case("masked_scatter of rows", lambda x, y: x.masked_scatter(ROWS > 1, y), (5, 4), (2, 4)),
    case("index by a wide mask", lambda x: x[:, PLACES], (4, 3, 2)),
    case("index_add", lambda x: x.new_zeros(3, x.shape[1]).index_add_(0, TARGETS, x), (5, 4)),
    case("index_copy", lambda x, y: x.index_copy(-2, TARGETS[:2], y), (4, 3, 5), (4, 2, 5)),
    case("index_fill", lambda x: x.index_fill(0, TARGETS, 2.0) * 2, (3, 4)),
    case("segment_reduce", lambda x: torch.segment_reduce(x, "mean", lengths=TARGETS[2:4]), (4, 3)),
    case("sparse matrix", lambda x: torch.sparse.mm(LINKS, x), (5, 4)),
    case("sparse matrix, other entry", lambda x: LINKS @ x, (5, 4)),
    case("scatter", lambda x, y: x.scatter(0, ROWS.expand(-1, x.shape[1]), y), (3, 4), (5, 4)),
    case("scatter a number", lambda x: x.scatter(1, FIRST.expand(2, 2, x.shape[2]), 2.0), (2, 4, 5)),
    case("scatter_add", lambda x, y: x.scatter_add(0, ROWS.expand(-1, x.shape[1]), y), (3, 4), (5, 4)),
    case(
        "scatter part of a row",
        lambda x, y: x.scatter_add(1, FIRST.expand(2, 2, y.shape[2]), y),
        *((3, 4, 5), (2, 2, 5)),
    ),
    case(
        "scatter_reduce",
        lambda x, y: x.scatter_reduce(0, ROWS.expand(-1, x.shape[1]), y, "mean", include_self=False),
        *((3, 4), (5, 4)),
    ),
    case("write by a mask", lambda x: put(x, x < 0, 1.0), (3, 4, 2)),
    case("write what a mask picks", lambda x: put(x, x < 0, x[x < 0] * 2), (3, 4, 2)),
    case("write rows by a mask", lambda x, y: put(x, PLACES, y), (3, 2, 4), (4,)),
    case("write inside by a mask", lambda x, y: put(x, (slice(None), PLACES), y), (4, 3, 2), (4, 1)),
    case("write at positions", lambda x, y: put(x, TARGETS[:2], y), (3, 4), (2, 4)),
    case("add at pairs", lambda x, y: put(x, (TARGETS, slice(None), TARGETS), y), (3, 4, 3), (5, 4)),
    case("repeat_interleave", lambda x: x.repeat_interleave(2, 1), (3, 4)),
    case("repeat_interleave by counts", lambda x: x.repeat_interleave(TARGETS[:3], 0), (3, 4)),
    case("index", lambda x: x[:, torch.tensor([2, 0])], (3, 4, 5)),
    case("regions", lambda x: torch.ops.torchvision.roi_align(x, BOXES, 1.0, 2, 2, 2, False), IMAGE),
    case("pooling", lambda x: F.avg_pool2d(F.max_pool2d(x, 2), 2), IMAGE),
    case("resizing", lambda x: F.interpolate(x, scale_factor=2), IMAGE),
    case("grid", lambda x: F.grid_sample(x, GRID, align_corners=False), IMAGE),
    case("windows", lambda x: x.unfold(1, 2, 1), (3, 4)),
    case("patches", lambda x: F.fold(F.unfold(x, 3), (6, 6), 3), IMAGE),
]
FREEZES_ALL = {"restride", "nonzero"}


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


class Keeping(Recorder):
    """A recorder that keeps every value, as it was when it was made."""

    def __init__(self, model):
        super().__init__(model)
        self.results = []

    def compute(self, func, args, kwargs):
        result = super().compute(WIDE.get(func, func), args, kwargs)
        flat = result if isinstance(result, (list, tuple)) else (result,)
        self.results.append([item.clone() if isinstance(item, Tensor) else None for item in flat])
        return result

    def values(self, inputs):
        found = dict(zip(self.tape.inputs, inputs, strict=True)) | self.tape.constants
        for call, results in zip(self.tape.calls, self.results, strict=True):
            found |= {n: item for n, item in zip(call.outputs, results, strict=True) if n is not None}
        return found


def run(function, tensors):
    model = Apply(function)
    recorder = Keeping(model)
    tape, _ = record(model, tuple(tensors), recorder)
    return tape, recorder.values(tensors)


def labelled(tape, rng):
    """A tracer whose inputs carry labels along some of their dimensions, after all rules have run."""
    tracer = Tracer(tape)
    for number, value in enumerate(tape.values):
        if value.kind in {"input", "constant"}:
            tracer.marks[number] = Marks(value.shape)
    for number in tape.inputs:
        factors = []
        for dim, size in enumerate(tape.values[number].shape):
            if size > 1 and rng.random() < 0.7:
                shape = [1] * len(tape.values[number].shape)
                shape[dim] = size
                factors.append(Factor(tracer.atoms.axis(f"x{number}", dim, size).reshape(shape), dim))
        tracer.marks[number] = Marks(tape.values[number].shape, tuple(factors))
    for position, call in enumerate(tape.calls):
        tracer.position = position
        step(tracer, call)
    # A rule that fails freezes what reaches it; none of torch's operations may need that.
    assert not [why for _, why in tracer.atoms.frozen if FAILED in str(why)]
    return tracer


def selection(atoms, rng):
    """Which atoms stay: about a third of the components that may go are removed, rows stay equally long."""
    count, component = atoms.components()
    may_go = np.ones(count, dtype=bool)
    may_go[list(frozen_components(atoms, component))] = False
    kept = ~may_go | (rng.random(count) < 0.67)
    rows = [np.where(found >= 0, component[found], -1) for found, _ in atoms.rows.values()]
    for _ in range(50):
        uneven = False
        for ids in rows:
            flat = ids.reshape(-1, ids.shape[-1])
            counts = [int((kept[row] | (row < 0)).sum()) for row in flat]
            for row, own in zip(flat, counts, strict=True):
                open_ids = [number for number in row if number >= 0 and kept[number] and may_go[number]]
                if own > min(counts):
                    uneven = True
                    if open_ids:
                        kept[rng.choice(open_ids)] = False
        if not uneven:
            # Sizes of 1 and 0 would broadcast, or leave nothing to compute.
            return np.append(kept[component], True)
    return np.ones(atoms.size + 1, dtype=bool)


def enough(tape, masks):
    """Whether every value keeps two positions where it had them."""
    return all(
        new >= 2 or new == old
        for number, value in enumerate(tape.values)
        if number in masks.marks
        for old, new in zip(value.shape, masks.expected_shape(number), strict=True)
    )


def filled(thing, values):
    if isinstance(thing, Ref):
        return values[thing.id].clone()
    return type(thing)(filled(x, values) for x in thing) if isinstance(thing, (list, tuple)) else thing


def outputs(call, values):
    kwargs = {name: filled(item, values) for name, item in call.kwargs.items()}
    result = WIDE.get(call.op, call.op)(*filled(call.args, values), **kwargs)
    return result if isinstance(result, (list, tuple)) else (result,)


def holds(one, seed):
    """Assert the law for every call of a case; returns how many atoms were removed."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in one.shapes]
    tape, dense = run(one.function, tensors)
    tracer = labelled(tape, rng)
    masks = ChannelMasks(selection(tracer.atoms, rng), tracer.marks, frozenset(tracer.statistics), Tape(), {})
    if masks.keep.all() or not enough(tape, masks):
        return 0
    small = [masks.compact(number, dense[number]) for number in tape.inputs]
    pruned, actual = run(one.function, small)
    assert [call.name for call in pruned.calls] == [call.name for call in tape.calls]
    masked = {number: masks.apply(number, value) for number, value in dense.items()}
    compact = {number: masks.compact(number, value) for number, value in dense.items()}
    # What is the same at every position may have any size, and is made in the right one.
    compact |= {n: value for n, value in actual.items() if n in compact and compact[n].shape != value.shape}
    for position, (call, twin) in enumerate(zip(tape.calls, pruned.calls, strict=True)):
        for number, big, less in zip(
            call.outputs, outputs(call, masked), outputs(twin, compact), strict=True
        ):
            if number is None:
                continue
            assert masks.fits(number, tuple(less.shape)), call.name
            if position not in tracer.statistics:
                expected = masks.compact(number, big)
                if expected.shape == less.shape:
                    torch.testing.assert_close(less, expected, msg=call.name)
    return int((~masks.keep).sum())


@pytest.mark.slow
@pytest.mark.parametrize("one", CASES, ids=str)
def test_masking_equals_computing_on_smaller_tensors(one):
    removed = sum(holds(one, seed) for seed in range(12))
    assert (removed == 0) == (one.name in FREEZES_ALL)


def test_every_rule_has_a_case():
    reached = set()
    for one in CASES:
        tape, _ = run(one.function, [torch.ones(shape, dtype=torch.float64) for shape in one.shapes])
        reached |= {find(call.name) for call in tape.calls}
    missing = {n: rule for n, rule in RULES.items() if n.startswith("aten::") and rule not in reached}
    assert not missing


def swapped(context, call):
    """Concatenation with its operands in the wrong order."""
    marks = RULES["aten::concat"](context, call)
    return marks.with_factors(tuple(Factor(f.atoms[:, ::-1], f.column) for f in marks.factors))


def passing(context, call):
    """A sort that takes channels to be where they were."""
    return context.of(call.tensor("self")), None


def unmoved(context, call):
    """Packing that leaves the channels at the dimension where they were, and picks no steps."""
    marks = context.of(call.tensor("input"))
    shape = context.shape(call.outputs[0])
    kept = tuple(Factor(f.atoms[0][: shape[0]], 0) for f in marks.factors if f.column == 1)
    return Marks(shape, kept), None


INDEX = RULES["aten::index"]


def reordered(context, call):
    """What a mask picks, taken to stand the other way round."""
    marks = INDEX(context, call)
    return marks.with_factors(tuple(Factor(f.atoms[::-1], f.column) for f in marks.factors))


def apart(context, call):
    """A matrix product that does not join what it sums over."""
    left, right = context.of(call.tensor("self")), context.of(call.tensor("mat2"))
    return Marks(context.shape(call.outputs[0]), (*left.along(0), *right.along(1)))


BROKEN = {
    "cat": swapped,
    "sort": passing,
    "mm": apart,
    "pack": unmoved,
    PICK: reordered,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_caught(name, monkeypatch):
    one = next(one for one in CASES if one.name == name)
    operation = {"pack": "_pack_padded_sequence", PICK: "index"}.get(name, name)
    monkeypatch.setitem(RULES, f"aten::{operation}", BROKEN[name])
    with pytest.raises((AssertionError, RuntimeError)):
        sum(holds(one, seed) for seed in range(50))
