"""Starting points, vanishing gradients, odd images: no NaN, no crash, no clean image sold as a success."""

import math

import pytest
import torch
from torch import nn

from secateur.attacks import ddn, fmn
from secateur.errors import UserError

NORMS = [0.0, 1.0, 2.0, math.inf]
BOTH = [ddn, *(lambda *a, p=p, **k: fmn(*a, norm=p, **k) for p in NORMS)]


def flat(images):
    return images.x, images.y


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", NORMS)
def test_a_starting_point_is_pulled_to_the_boundary_before_the_first_step(net, images, p):
    x, y = flat(images)
    far = fmn(net, x, y, norm=2, steps=60).adv
    far = (x + 3 * (far - x)).clamp(0, 1)
    with torch.no_grad():
        usable = net(far).argmax(1) != y
    pulled = fmn(net, x, y, norm=p, steps=1, start=far)
    fresh = fmn(net, x, y, norm=p, steps=1)
    right = ~pulled.already_wrong
    whole = torch.linalg.vector_norm((far - x).flatten(1), ord=p, dim=1)
    assert pulled.mask[usable & right].all()
    assert (pulled.distance[usable & right] <= whole[usable & right] + 1e-6).all()
    assert pulled.mask.sum() > fresh.mask.sum()
    assert torch.equal(pulled.already_wrong, fresh.already_wrong)


def test_ten_halvings_place_the_start_within_a_thousandth_of_the_boundary():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
    x = torch.tensor([[[[0.8, 0.2], [0.5, 0.5]]]], dtype=torch.float64)
    start = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]], dtype=torch.float64)
    found = fmn(
        model, x, torch.tensor([0]), norm=math.inf, steps=1, gamma=1e-9, gamma_final=1e-9, start=start
    )
    assert 0.3 <= found.distance.item() <= 0.3 + 0.8 / 2**10


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", NORMS)
def test_a_start_that_does_not_fool_begins_at_the_clean_image(net, images, p):
    x, y = flat(images)
    found = fmn(net, x, y, norm=p, steps=30, start=x)
    expected = fmn(net, x, y, norm=p, steps=30)
    assert torch.equal(found.adv, expected.adv)


def test_starting_points_of_another_shape_are_refused(net, images):
    x, y = flat(images)
    with pytest.raises(UserError, match="starting points have shape"):
        fmn(net, x, y, steps=1, start=x[:1])


class Steps(nn.Module):
    """Quantised activations: right answers, and a gradient that is zero everywhere."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner((x * 4).round() / 4 + 0 * x)


@pytest.mark.parametrize("attack", BOTH)
def test_a_gradient_of_zero_is_no_nan_and_no_success_by_itself(net, images, attack):
    x, y = flat(images)
    model = Steps(net)
    with torch.no_grad():
        y = model(x).argmax(1)
    found = attack(model, x, y, steps=20)
    assert torch.isfinite(found.adv).all()
    assert torch.isinf(found.distance[~found.mask]).all()
    with torch.no_grad():
        assert torch.equal(model(found.adv).argmax(1) != y, found.mask)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("attack", BOTH)
def test_logits_that_saturate_the_softmax_change_nothing(net, images, attack):
    class Loud(nn.Module):
        def forward(self, x):
            return 1e4 * net.double()(x)

    x, y = images.x.double(), images.y
    quiet, loud = attack(net.double(), x, y, steps=40), attack(Loud(), x, y, steps=40)
    assert torch.equal(loud.mask, quiet.mask)
    if attack is not ddn:
        torch.testing.assert_close(loud.distance, quiet.distance)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("attack", BOTH)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_constant_images_and_batches_of_one_are_attacked_like_others(net, attack, value):
    x = torch.full((1, 1, 4, 4), value)
    with torch.no_grad():
        y = net(x).argmax(1)
    found = attack(net, x, y, steps=100)
    assert found.mask.all()
    assert found.adv.min() >= 0
    assert found.adv.max() <= 1


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("attack", BOTH)
def test_other_bounds_scale_with_the_images(net, images, attack):
    class Shifted(nn.Module):
        def forward(self, x):
            return net((x + 1) / 4)

    x, y = flat(images)
    found = attack(Shifted(), 4 * x - 1, y, steps=100, bounds=(-1.0, 3.0))
    assert torch.equal(found.mask, ~found.already_wrong)
    assert found.adv.min() >= -1
    assert found.adv.max() <= 3


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("attack", BOTH)
def test_more_classes_of_input_rank_are_welcome(attack):
    model = nn.Linear(6, 3)
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, 6, generator=torch.Generator().manual_seed(1)))
    x = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = model(x).argmax(1)
    assert attack(model, x, y, steps=200).adv.shape == (5, 6)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), "not a batch"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), "not a batch"),
        (torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "images are uint8"),
        (torch.zeros(2, 3, dtype=torch.float16), torch.zeros(2, dtype=torch.int64), "images are float16"),
        (torch.full((2, 3), 255.0), torch.zeros(2, dtype=torch.int64), "image 0 has pixels outside"),
        (torch.full((2, 3), math.nan), torch.zeros(2, dtype=torch.int64), "not finite"),
        (torch.zeros(2, 3), torch.tensor([0, -100]), r"labels\[1\] is -100"),
        (torch.zeros(2, 3), torch.zeros(2), "labels of shape"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), "labels of shape"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), "label 3 is beyond"),
    ],
)
def test_images_and_labels_that_make_no_sense_are_one_sentence(x, y, said):
    with pytest.raises(UserError, match=said):
        ddn(nn.Linear(3, 3), x, y, steps=1)


def test_bounds_that_enclose_nothing_are_refused():
    with pytest.raises(UserError, match="enclose nothing"):
        ddn(nn.Linear(3, 3), torch.zeros(1, 3), torch.tensor([0]), bounds=(1.0, 0.0))
