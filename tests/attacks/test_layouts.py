"""However images lie in memory, and of whatever rank, every attack finds the same and leaves them alone."""

from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch import nn

from attacks.every import CASES, STEPS, call
from attacks.rounding import tolerance
from secateur.attacks import fmn
from secateur.attacks.core.norms import distance
from secateur.budgets import L0_PIXELS


@pytest.fixture(scope="module")
def colours():
    """A network of three channels, and images it tells apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)
        ).double()
        x = torch.rand(6, 3, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        model[3].bias -= model(x).mean(0)
        return model.eval(), x, model(x).argmax(1)


LAYOUTS = {
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "strided": lambda x: torch.stack([x, x], dim=-1)[..., 0],
    "backwards": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "wants a gradient": lambda x: x.clone().requires_grad_(True),
}


@pytest.fixture(scope="module")
def found_plainly(colours):
    """What an attack finds in images that lie as usual: computed once for all layouts and ranks."""
    return cache(lambda name, norm: call(name, norm, *colours))


def check_layout(attack, colours, norm, layout, expected=None):
    """``attack`` of model, images and labels finds the same in another ``layout``, and leaves it alone."""
    model, x, y = colours
    expected = expected or attack(model, x, y)
    laid = LAYOUTS[layout](x)
    found = attack(model, laid, y)
    assert torch.equal(found.mask, expected.mask)
    allowed = tolerance(x.dtype, STEPS)
    torch.testing.assert_close(found.distance, expected.distance, rtol=allowed, atol=allowed)
    # Two iterates may be equally near up to rounding: the example itself need not be the same.
    torch.testing.assert_close(distance(found.adv - x, norm), distance(expected.adv - x, norm))
    with torch.no_grad():
        assert torch.equal(model(found.adv).argmax(1) != y, found.mask)
    assert torch.equal(laid.detach(), x)
    assert laid.grad is None
    assert not found.adv.requires_grad


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_the_layout_of_the_images_changes_nothing(colours, found_plainly, name, norm, layout):
    check_layout(partial(call, name, norm), colours, norm, layout, found_plainly(name, norm))


def test_a_projection_that_works_in_place_on_a_copy_is_seen(colours):
    def skipped(model, x, y):
        found = fmn(model, x, y, norm=2.0, steps=12)
        adv = found.adv.clone()
        adv.flatten(1).copy_(x.detach().flatten(1) + 2 * (adv - x.detach()).flatten(1))
        return replace(found, adv=adv)

    check_layout(skipped, colours, 2.0, "wants a gradient")
    with pytest.raises(AssertionError):
        check_layout(skipped, colours, 2.0, "channels-last")


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "norm"), [case for case in CASES if case[0] != "square"])
@pytest.mark.parametrize("shape", [(108,), (12, 9), (3, 2, 3, 6)])
def test_rank_changes_nothing(colours, found_plainly, name, norm, shape):
    model, x, y = colours
    if norm == L0_PIXELS and shape[0] != x.shape[1]:
        pytest.skip("other channels: other pixels")
    other = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (3, 6, 6)), model)
    expected = found_plainly(name, norm)
    found = call(name, norm, other, x.view(6, *shape), y)
    assert torch.equal(found.mask, expected.mask)
    allowed = tolerance(x.dtype, STEPS)
    torch.testing.assert_close(found.distance, expected.distance, rtol=allowed, atol=allowed)
    assert found.adv.shape == (6, *shape)
