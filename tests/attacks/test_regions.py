"""Bounds of single pixels: what may not change does not, and inside of them attacks find what is there."""

import numpy as np
import pytest
import torch

import secateur
from attacks.every import CASES, INF
from secateur.attacks import RunOptions, run
from secateur.attacks.core.box import box_of
from secateur.budgets import L0_PIXELS
from secateur.data import Dataset
from secateur.errors import UserError
from secateur.registry import ATTACKS, takes_steps


@pytest.fixture
def linear():
    """A linear network of two classes, and 8 images of 16 values for it."""
    g = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(16, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(2, 16, generator=g))
    x = torch.rand(8, 1, 4, 4, generator=g) * 0.6 + 0.2
    with torch.no_grad():
        layer.bias.sub_(layer(x.flatten(1)).mean(0))  # both classes occur
    model = torch.nn.Sequential(torch.nn.Flatten(), layer).eval()
    return model, Dataset("toy", x, model(x).argmax(1), ("a", "b"), None)


def settings_of(name, norm):
    facts = ATTACKS.entry(name).facts
    chosen = {"norm": norm} if len(facts["norms"]) > 1 else {}
    chosen |= (
        {"eps": {L0_PIXELS: 6, 0.0: 6, 1.0: 2.0, 2.0: 1.0, INF: 0.4}[norm]}
        if facts["kind"] == "fixed-eps"
        else {}
    )
    return chosen | ({"steps": 60} if takes_steps(name) else {})


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_only_the_region_changes_and_no_pixel_leaves_its_bounds(linear, name, norm):
    model, data = linear
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:, 1:] = True
    low, high = (
        data.x - 0.3,
        data.x + torch.rand(data.x.shape, generator=torch.Generator().manual_seed(1)) / 2,
    )
    asked = []

    class Asked(torch.nn.Module):
        def forward(self, x):
            asked.append(x.detach())
            return model(x)

    options = RunOptions.original()
    result = run(
        Asked(), data, name, mask=mask, pixel_bounds=(low, high), options=options, batch_size=8,
        **settings_of(name, norm),
    )  # fmt: skip
    assert torch.equal(result.adv[..., 0], data.x[..., 0])
    whole = [x for x in asked if x.shape == data.x.shape]
    assert len(whole) > 2
    for x in [result.adv, *whole]:
        assert torch.equal(x[..., 0], data.x[..., 0])
        assert ((x >= low) & (x <= high) & (x >= 0) & (x <= 1)).all()
    assert not result.box_failures.any()


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("name", ["ddn", "fmn", "steep", "alma"])
def test_the_nearest_example_of_the_region_is_found(linear, name):
    model, data = linear
    mask = torch.zeros(8, 1, 4, 4, dtype=torch.bool)
    mask[:4, :, :2], mask[4:, :, 2:] = True, True  # a region for each image
    w = (model[1].weight[1] - model[1].weight[0]).detach().view(1, 1, 4, 4) * mask
    margin = (model(data.x)[:, 1] - model(data.x)[:, 0]).detach().abs()
    wide = Dataset("toy", data.x, data.y, ("a", "b"), None, bounds=(-50.0, 50.0))
    steps = {"steps": 400, **({"norm": 2.0} if name in ("fmn", "steep") else {})}
    steps |= {"init_eps": 1.0, "alpha": 1.0, "alpha_final": 0.01} if name == "ddn" else {}
    steps |= {"alpha": 1.0, "alpha_final": 0.01} if name == "fmn" else {}
    result = run(model, wide, name, mask=mask, **steps)
    optimum = margin / w.flatten(1).norm(dim=1)
    assert result.adv_success.all()
    assert (result.distance >= optimum.double() * 0.999).all()
    assert ((result.distance / optimum).median() < 1.05).all()


@pytest.mark.slow
@pytest.mark.kernels
def test_the_record_says_what_might_change_and_the_checks_keep_to_it(linear):
    model, data = linear
    mask = np.zeros((4, 4), dtype=bool)
    mask[0] = True
    record = secateur.attack(model, data, "fmn", norm=2.0, steps=30, mask=mask, audit=True).to_json()
    assert record["free"] == [4] * 8
    assert len(set(record["pixel_bounds"])) == 8
    assert "free" not in secateur.attack(model, data, "fmn", norm=2.0, steps=30).to_json()


def test_images_left_out_by_a_target_take_their_regions_with_them(linear):
    model, data = linear
    low = (data.x - 0.1).clamp_min(0)
    seen = secateur.attack(model, data, "fmn", norm=INF, steps=20, targets=1, pixel_bounds=(low, 1.0))
    rows = torch.tensor(seen.facts["index"])
    assert 0 < len(rows) < 8
    assert (seen.result.adv >= low[rows]).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mask": torch.ones(4, 4)}, "float32, not bool"),
        ({"mask": torch.ones(3, 3, dtype=torch.bool)}, r"shape \(3, 3\), which does not fit"),
        ({"mask": "left"}, "a str"),
        ({"mask": torch.zeros(4, 4, dtype=torch.bool)}, "no pixel of image 0 may change"),
        ({"pixel_bounds": (0.5, 0.6)}, "outside its own bounds"),
        ({"pixel_bounds": (float("nan"), 1.0)}, "outside its own bounds"),
        ({"pixel_bounds": 0.3}, "a float"),
        ({"pixel_bounds": (0.0, torch.ones(5))}, r"shape \(5,\)"),
    ],
)
def test_a_region_that_fits_no_image_is_one_sentence(linear, given, said):
    model, data = linear
    with pytest.raises(UserError, match=said):
        secateur.attack(model, data, "ddn", steps=3, **given)


def test_an_attack_of_another_library_refuses_a_region(linear):
    model, data = linear
    pytest.importorskip("foolbox")
    with pytest.raises(UserError, match="knows no bounds of single pixels"):
        run(model, data, "foolbox:L2DeepFoolAttack", norm=2, mask=torch.ones(4, 4, dtype=torch.bool))


def test_the_whole_image_as_a_region_changes_nothing(linear):
    model, data = linear
    free = run(model, data, "steep", norm=2.0, steps=40)
    masked = run(model, data, "steep", norm=2.0, steps=40, mask=torch.ones(1, dtype=torch.bool))
    assert torch.equal(free.adv, masked.adv)
    box = box_of(data.x, (0.0, 1.0), pixel_bounds=(-5, 5))
    assert (box.low == 0).all()
    assert (box.high == 1).all()
