"""Gradients with entries that are not finite: those entries alone are mended, and nothing else moves."""

import pytest
import torch

from attacks.every import CASES, INF, call
from secateur.attacks.core.gradients import mended
from secateur.recipes import Adversary
from secateur.train.adversary import perturb

BY_GRADIENT = [(name, norm) for name, norm in CASES if name not in ("noise", "square")]


@pytest.fixture(scope="module")
def linear():
    """Weights of four classes, biases, and images of which the first pixel is black in every other one."""
    g = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(8, 4, generator=g), torch.zeros(4)
    x = torch.rand(6, 8, generator=g) * 0.8 + 0.1
    x[::2, 0] = 0
    weight[0] = 0
    return weight, bias, x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_finite_gradient_is_returned_as_it_is(dtype):
    gradient = torch.randn(3, 2, 4, 4, dtype=dtype)
    assert mended(gradient) is gradient
    several = gradient.clone()
    several[1] *= torch.finfo(dtype).max ** 0.75
    assert torch.equal(mended(several)[::2], several[::2])  # beside one whose length overflows
    scaled = mended(several)[1]
    assert scaled.norm().isfinite()
    torch.testing.assert_close(scaled / scaled.norm(), gradient[1] / gradient[1].norm())


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("scale", [1e20, 1e30])
@pytest.mark.parametrize(("name", "norm"), BY_GRADIENT)
def test_logits_of_any_size_hide_no_example(name, norm, scale):
    g = torch.Generator().manual_seed(0)
    weight, x = torch.randn(16, 3, generator=g), torch.rand(8, 1, 4, 4, generator=g)

    def model(x, scale=scale):
        return scale * (x.flatten(1) @ weight)

    y = model(x).argmax(1)
    found, usual = (call(name, norm, asked, x, y, steps=40) for asked in (model, lambda x: model(x, 1.0)))
    assert found.mask.sum() >= usual.mask.sum() - 1


def test_infinity_counts_as_the_steepest_slope_of_its_image_and_nan_as_none():
    inf, nan = INF, torch.nan
    gradient = torch.tensor(
        [[inf, -3.0, nan], [-inf, 0.5, 0.0], [nan, nan, nan], [1e-30, inf, nan], [7.0, 0, 1]]
    )
    wanted = torch.tensor([[3.0, -3, 0], [-0.5, 0.5, 0], [0, 0, 0], [1e-30, 1e-30, 0], [7, 0, 1]])
    assert torch.equal(mended(gradient), wanted)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "norm"), BY_GRADIENT)
def test_a_pixel_whose_slope_is_nan_is_left_out_and_moves_no_other(linear, name, norm):
    weight, bias, x = linear

    def trap(x):
        return x @ weight + bias + 0 * x[:, :1].sqrt()  # zero times infinity where the pixel is black

    y = (x @ weight + bias).argmax(1)
    found, plain = (call(name, norm, model, x, y) for model in (trap, lambda x: x @ weight + bias))
    assert torch.equal(found.adv, plain.adv)
    assert torch.equal(found.distance, plain.distance)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "norm"), BY_GRADIENT)
def test_a_root_of_black_pixels_hides_no_example(name, norm):
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(16, 3, generator=g)
    x = torch.rand(8, 1, 4, 4, generator=g)
    x[:, :, :2] = 0

    def model(x):
        return x.flatten(1).sqrt() @ weight

    y = model(x).argmax(1)
    found = call(name, norm, model, x, y, steps=40)
    assert found.adv.isfinite().all()
    assert found.mask.float().mean() >= (0.2 if name == "fgsm" else 1)
    assert (model(found.adv).argmax(1) != y)[found.mask].all()


@pytest.mark.parametrize("norm", [2.0, INF])
def test_training_against_attacks_meets_no_nan(norm):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    adversary = Adversary(norm=norm, epsilon=0.1, step_size=0.05, steps=3, random_start=False)
    g = torch.Generator().manual_seed(0)

    class Root(torch.nn.Module):
        def forward(self, x):
            return model(x.sqrt())

    x = torch.zeros(3, 1, 2, 2)
    adv = perturb(Root(), x, torch.tensor([0, 1, 0]), adversary=adversary, generator=g)
    assert adv.isfinite().all()
    assert (adv != x).any()
