"""Networks trained for quantisation: scales of single channels go with them, and rounding stays the same."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.ao import quantization

import secateur

pytestmark = pytest.mark.filterwarnings("ignore")


def body(fused: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
    ]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)]
    return nn.Sequential(quantization.QuantStub(), *layers, *tail, quantization.DeQuantStub())


def plainly() -> quantization.QConfig:
    """Fake quantisation without fused kernels, by channel."""
    weight = quantization.FakeQuantize.with_args(
        observer=quantization.MovingAveragePerChannelMinMaxObserver,
        quant_min=-128,
        quant_max=127,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
    )
    return quantization.QConfig(activation=quantization.FakeQuantize.with_args(), weight=weight)


def prepared(config: str, *, steps: int = 3) -> nn.Module:
    model = body().train()
    model.qconfig = plainly() if config == "plain" else quantization.get_default_qat_qconfig(config)
    if config == "x86":
        quantization.fuse_modules_qat(model, [["1", "2", "3"], ["4", "5", "6"]], inplace=True)
    quantization.prepare_qat(model, inplace=True)
    for _ in range(steps):
        model(images())
    return model.eval()


def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


CONFIGS = ["fbgemm", "qnnpack", "plain", "x86"]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("config", CONFIGS)
def test_networks_that_train_for_quantisation_are_pruned(config, steps):
    model = prepared(config, steps=steps)
    report = secateur.prune(model, images(), sparsity=0.5)
    assert (report.verified, report.groups_pruned, report.notes) == (True, 2, ())
    assert model[1].weight_fake_quant.scale.shape in {(1,), (4,)}
    model.train()(images()).sum().backward()
    quantization.convert(model.eval(), inplace=True)
    assert model(images()).shape == (4, 5)


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_rounding_is_that_of_the_masked_network(config):
    model = prepared(config).apply(quantization.disable_observer)
    plan = secateur.plan(secateur.trace(model, images()), sparsity=0.5)
    masked = copy.deepcopy(model)
    for cut, number in zip(plan.cuts, (1, 4), strict=True):
        gone = next(
            part.removed for part in cut.slices if part.tensor == f"{number}.weight" and part.dim == 0
        )
        keep = torch.ones(masked[number].out_channels).index_fill(0, torch.tensor(gone), 0)
        masked[number + 2].register_forward_hook(lambda m, i, out, k=keep: out * k.view(1, -1, 1, 1))
    secateur.apply(model, plan)
    assert torch.allclose(model(images()), masked(images()), atol=1e-6)


class Stepped(nn.Module):
    """Rounding by functions of torch, with scales and zero points of the module's own."""

    def __init__(self, trained: bool) -> None:
        super().__init__()
        self.first, self.last, self.trained = nn.Linear(5, 8), nn.Linear(8, 3), trained
        scale = torch.rand(8) * 0.1 + 0.01
        if trained:
            self.scale, self.zero = nn.Parameter(scale), nn.Parameter(torch.zeros(8))
        else:
            self.register_buffer("scale", scale)
            self.register_buffer("zero", torch.arange(8).int() - 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if self.trained:
            h = torch._fake_quantize_learnable_per_channel_affine(h, self.scale, self.zero, 1, -128, 127, 1.0)
        else:
            h = torch.fake_quantize_per_channel_affine(h, self.scale, self.zero, 1, -128, 127)
        return self.last(torch.fake_quantize_per_tensor_affine(h.relu(), 0.1, 0, 0, 255))


@pytest.mark.parametrize("trained", [False, True])
def test_scales_given_to_a_function_go_with_their_channels(trained):
    model = Stepped(trained).eval()
    report = secateur.prune(model, torch.rand(4, 5), sparsity=0.5)
    assert (report.verified, report.notes) == (True, ())
    assert model.scale.shape == model.zero.shape == (4,)
    assert model(torch.rand(2, 5)).shape == (2, 3)
