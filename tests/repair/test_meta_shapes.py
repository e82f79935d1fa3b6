"""Shapes by arithmetic are torch's own."""

import contextlib
import subprocess
import sys

import pytest
import torch
from torch import nn

import secateur
from secateur.graph.trace.recorder import record
from secateur.repair import meta_shapes
from secateur.repair.meta_shapes import ShapeRecorder, TapeFollower

aten = torch.ops.aten


def agree(op, *args):
    """Whether arithmetic gives what the operation itself gives for real tensors: shapes, type and layout."""
    recorder = ShapeRecorder(nn.Identity())
    hollow = [item.to("meta") if isinstance(item, torch.Tensor) else item for item in args]
    found, wanted = recorder.compute(op, hollow, {}), op(*args)
    found, wanted = (item if isinstance(item, tuple) else (item,) for item in (found, wanted))
    return [(a.shape, a.dtype, a.stride()) for a in found] == [(b.shape, b.dtype, b.stride()) for b in wanted]


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "extra"), [(1, 0, 1, 0), (2, 1, 1, 1), (3, 2, 2, 1)]
)
def test_convolutions(spatial, transposed, groups, stride, padding, dilation, extra):
    image, weight = torch.rand(2, 4, *[9] * spatial), torch.rand(4, 4 // groups, *[3] * spatial)
    settings = [[stride], [padding] * spatial, [dilation], transposed, [extra if transposed else 0], groups]
    settings[0], settings[2], settings[4] = (settings[place] * spatial for place in (0, 2, 4))
    assert agree(aten.convolution.default, image, weight, torch.rand(4), *settings)
    if spatial == 2:
        last = image.to(memory_format=torch.channels_last)
        assert agree(aten.convolution.default, last, weight, None, *settings)


def test_normalisations():
    image, vector = torch.rand(2, 4, 5, 5), torch.rand(4)
    norm = (vector, vector, vector, vector, False, 0.1, 1e-5)
    recorder = ShapeRecorder(nn.Identity())
    out, *_ = recorder.compute(aten.native_batch_norm.default, [image.to("meta"), *norm], {})
    assert out.shape == image.shape
    assert agree(aten.native_layer_norm.default, torch.rand(2, 3, 4), [4], vector, None, 1e-5)
    assert agree(aten.native_layer_norm.default, torch.rand(2, 3, 4), [3, 4], None, None, 1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_elementwise_operations_products_and_means(layout):
    image = torch.rand(2, 4, 5, 6).to(memory_format=layout)
    for name in meta_shapes._ALONE:
        assert agree(getattr(aten, name).default, image), name
    assert agree(aten._softmax.default, image, 1, False)
    for name in ("clamp", "clamp_min", "clamp_max"):
        assert agree(getattr(aten, name).default, image, 0.1), name
    for name in meta_shapes._PAIRED:
        assert agree(getattr(aten, name).Tensor, image, image), name
        for other in (torch.rand(4, 1, 1), torch.rand(2, 4, 1, 1), torch.rand(3, 1, 1, 1, 1)):
            assert agree(getattr(aten, name).Tensor, image, other), name
            assert agree(getattr(aten, name).Tensor, other, image), name
        written = image.clone(memory_format=torch.preserve_format)
        assert agree(getattr(aten, f"{name}_").Tensor, written, torch.rand(4, 1, 1)), name
        assert agree(getattr(aten, name).Scalar, image, 2), name
    assert agree(aten.relu_.default, image.clone(memory_format=torch.preserve_format))
    assert agree(aten.mean.dim, torch.rand(2, 4, 5, 6), [-1, -2], True)
    assert agree(aten.mean.dim, torch.rand(2, 4, 5, 6), [1])
    assert agree(aten.addmm.default, torch.rand(3), torch.rand(2, 4), torch.rand(4, 3))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_concatenations_and_matrix_products(layout):
    one, two = (torch.rand(2, size, 5, 6).to(memory_format=layout) for size in (3, 4))
    recorder = ShapeRecorder(nn.Identity())
    strided = torch.rand(2, 2, 10, 12).to(memory_format=layout)[:, :, ::2, ::2]
    mixed = [torch.zeros(2, 1, 5, 6), strided, torch.zeros(2, 1, 5, 6)]
    same = [strided, one, strided]
    cases = ([one, two], 1), ([one, one], -1), ([one, torch.rand(2, 1, 5, 6)], 1), (mixed, 1), (same, 1)
    for tensors, dim in cases:
        found = recorder.compute(aten.cat.default, ([_on_meta(item) for item in tensors], dim), {})
        wanted = torch.cat(tensors, dim)
        assert (found.shape, found.stride()) == (wanted.shape, wanted.stride())
    with pytest.raises(RuntimeError):
        recorder.compute(aten.cat.default, ([one.to("meta"), two.to("meta")], 0), {})
    assert agree(aten.mm.default, torch.rand(2, 3), torch.rand(3, 4))
    assert agree(aten.bmm.default, torch.rand(5, 2, 3), torch.rand(5, 3, 4))
    with pytest.raises(RuntimeError):
        recorder.compute(
            aten.mm.default, (torch.rand(2, 3, device="meta"), torch.rand(2, 4, device="meta")), {}
        )


def _on_meta(item):
    """The same sizes and strides; ``to("meta")`` closes the gaps of a slice."""
    return torch.empty_strided(item.shape, item.stride(), device="meta")


def test_a_run_that_leaves_the_tape_does_not_arrive():
    def followed(net, other, fits=None):
        tape, _ = record(net, torch.rand(2, 3))
        follower = TapeFollower(tape, fits or (lambda number, shape: shape == tape.values[number].shape))
        inputs, other = torch.rand(2, 3, device="meta"), other.to("meta")
        with contextlib.suppress(Exception), torch.no_grad(), follower:
            other(inputs)
        return follower.arrived

    def net(*more):
        return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), *more)

    assert followed(net(), net())
    assert not followed(net(), net(nn.Tanh())), "goes on"
    assert not followed(net(nn.Tanh()), net()), "ends early"
    assert not followed(net(), nn.Sequential(nn.Linear(3, 4), nn.Tanh())), "does something else"
    assert not followed(net(), nn.Sequential(nn.Linear(3, 5), nn.ReLU())), "has other shapes"
    assert not followed(net(), net(), lambda number, shape: False), "nothing fits"
    assert not followed(net(), _Catches(net(nn.Tanh()))), "hides that it was stopped"


class _Catches(nn.Module):
    """Swallows whatever its body raises, as some models do around optional parts."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        with contextlib.suppress(Exception):
            return self.body(x)
        return x


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv2d(3, 4, 3), (1, 2, 8, 8)),
        (nn.Conv2d(4, 4, 3, groups=2), (1, 6, 8, 8)),
        (nn.ConvTranspose2d(3, 4, 3), (1, 2, 8, 8)),
        (nn.BatchNorm2d(3), (1, 2, 8, 8)),
        (nn.LayerNorm(3), (1, 2)),
        (nn.Linear(3, 2), (1, 2)),
    ],
)
def test_what_does_not_fit_is_refused_as_by_torch(layer, size):
    with pytest.raises(RuntimeError):
        layer.eval()(torch.rand(size))
    layer = layer.to("meta")
    with pytest.raises(RuntimeError):
        record(layer, torch.rand(size, device="meta"), ShapeRecorder(layer))


@pytest.mark.slow
def test_a_first_prune_does_not_load_torchs_compiler():
    code = (
        "import sys, torch, secateur, secateur.models\n"
        "from torch import nn\n"
        "net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), "
        "nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()\n"
        "secateur.prune(net, torch.rand(1, 3, 8, 8))\n"
        "net = secateur.models.build('resnet20', widths=(4, 8, 16)).eval()\n"
        "secateur.plan(secateur.trace(net, torch.rand(1, 3, 8, 8)))\n"
        "assert not {'torch._dynamo', 'sympy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_compiled_parts_are_traced_as_plain_code():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    net.compile(backend="eager")
    net(torch.rand(1, 3, 8, 8))
    report = secateur.prune(net, torch.rand(1, 3, 8, 8))
    assert report.verified
    assert net[0].out_channels == 4
