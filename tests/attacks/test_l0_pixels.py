"""L0 by pixel: a place of an image counts once, however many of its channels changed."""

import json
import math
import pickle
import sys

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from secateur.attacks import fmn, pdpgd, run, sigma_zero, steep, strongest
from secateur.attacks.core import norms
from secateur.budgets import L0_PIXELS, norm_of
from secateur.config import parse_study, study_from_json
from secateur.data import Dataset
from secateur.errors import UserError
from secateur.hashing import canonical_json
from secateur.registry import ATTACKS
from secateur.report.formatting import attack_label
from secateur.store import AttackScience
from toy.study import small_plan

CHANNELS, SIDE = 3, 5
PLACES = SIDE**2
BY_PIXEL = [name for name in ATTACKS.names() if L0_PIXELS in ATTACKS.entry(name).facts["norms"]]


def linear(channels=CHANNELS, n=12, seed=0):
    """A linear network of two classes, far from images of ``channels``: a third of the box is needed."""
    draw = torch.Generator().manual_seed(seed)
    size = channels * PLACES
    x = torch.rand(n, channels, SIDE, SIDE, generator=draw)
    x = torch.where(torch.rand(x.shape, generator=draw) < 0.3, x.round(), x)
    layer = nn.Linear(size, 2)
    slope = torch.randn(size, generator=draw)
    room = torch.where(slope > 0, x.flatten(1), 1 - x.flatten(1)) @ slope.abs()
    with torch.no_grad():
        layer.weight.copy_(torch.stack([slope, -slope]) / 2)
        layer.bias.copy_(torch.tensor([1.0, -1.0]) * (room.mean() / 3 - (x.flatten(1) @ slope).mean()) / 2)
    model = nn.Sequential(nn.Flatten(), layer).eval()
    return model, x, model(x).argmax(1).detach()


def fewest(model, x, y):
    """The least number of pixels: all channels of one move to an edge, and the most gaining ones go first."""
    weight = model[-1].weight.detach().double().numpy()
    logits = model(x).detach().double().numpy()
    found = []
    for image, label, z in zip(x.double().numpy(), y.tolist(), logits, strict=True):
        slope = (weight[label] - weight[1 - label]).reshape(CHANNELS, PLACES)
        image = image.reshape(CHANNELS, PLACES)
        gain = (np.abs(slope) * np.where(slope > 0, image, 1 - image)).sum(0)
        total = np.cumsum(np.sort(gain)[::-1])
        found.append(np.searchsorted(total, (z[label] - z[1 - label]) * (1 - 1e-12)) + 1)
    return np.array(found)


def places(adv, x):
    """How many places changed, counted by NumPy."""
    return np.array([(one != other).any(0).sum() for one, other in zip(adv.numpy(), x.numpy(), strict=True)])


def check(attack, *, most, often, steps=150):
    """Never fewer pixels than the least number; at most ``most`` more, and none more in a share ``often``."""
    model, x, y = linear()
    found = attack(model, x, y, norm="L0-pixels", steps=steps)
    least, counted = fewest(model, x, y), places(found.adv, x)
    assert found.mask.all()
    assert (model(found.adv).argmax(1) != y).all()
    assert np.array_equal(counted, found.distance.numpy())
    assert (counted >= least).all()
    assert (counted <= least + most).all()
    assert (counted == least).mean() >= often


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(
    ("attack", "most", "often", "steps"),
    [
        (steep, 1, 0.9, 150),
        (strongest, 1, 0.9, 100),
        (fmn, 1, 0.5, 150),
        (sigma_zero, 1, 0.7, 150),
        (pdpgd, 3, 0.5, 400),
    ],
)
def test_attacks_need_hardly_more_pixels_than_the_least_number(attack, most, often, steps):
    check(attack, most=most, often=often, steps=steps)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("attack", [steep, fmn, sigma_zero])
def test_an_attack_that_looks_at_single_values_is_caught(attack, monkeypatch):
    """What the channels of a pixel amount to together decides; one channel alone needs more pixels."""
    for name in ("norms", "prox", "steepest"):
        module = sys.modules[f"secateur.attacks.core.{name}"]
        if hasattr(module, "by_place"):
            monkeypatch.setattr(module, "by_place", lambda values, p: False)
    monkeypatch.setattr(sys.modules["secateur.attacks.steep.l0_removal"], "by_place", lambda values, p: False)
    with pytest.raises(AssertionError):
        check(attack, most=2, often=0.5)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("name", BY_PIXEL)
def test_the_runner_counts_pixels_itself_and_says_so_everywhere(name):
    model, x, y = linear()
    images = Dataset("colours", x, y, ("a", "b"), None)
    kind = ATTACKS.entry(name).facts["kind"]
    settings = {"eps": 6} if kind == "fixed-eps" else {"steps": 20}
    done = secateur.attack(model, images, name, norm="L0-pixels", **settings)
    found = torch.tensor([str(outcome) == "found" for outcome in done.result.outcome])
    assert found.any()
    by_place = places(done.result.adv, x)[found]
    assert np.array_equal(by_place, done.result.distances["l0_pixels"][found].numpy())
    by_value = (done.result.adv != x).flatten(1).sum(1)[found]
    assert np.array_equal(by_value.numpy(), done.result.distances["l0"][found].numpy())
    assert (by_value.numpy() >= by_place).all()
    assert (by_value.numpy() > by_place).any()
    if kind == "fixed-eps":
        assert by_place.max() <= 6
    plain = json.loads(json.dumps(done.to_json()))
    assert (plain["norm"], plain["settings"]["norm"]) == ("l0_pixels", "L0-pixels")
    assert plain["summary"]["norm"] == "l0_pixels"
    assert not [each for each in done.grade.checks if not each.ran]
    assert AttackScience.from_json(plain).norm == "l0_pixels"
    assert "l0_pixels" in str(done.result)


def test_an_example_of_too_many_pixels_does_not_count(monkeypatch):
    model, x, y = linear()
    monkeypatch.setattr(ATTACKS, "_entries", dict(ATTACKS._entries))
    monkeypatch.setattr(ATTACKS, "_objects", dict(ATTACKS._objects))

    def everything(model, x, y, *, eps=1.0):
        slope = model.model[-1].weight[0] - model.model[-1].weight[1]
        return (slope < 0).float().view(1, CHANNELS, SIDE, SIDE).expand_as(x)

    ATTACKS.register("everything", everything, "", norms=(L0_PIXELS,), kind="fixed-eps", bibtex=())
    result = run(model, Dataset("colours", x, y, ("a", "b"), None), "everything", eps=3)
    assert result.oversized.any()
    assert not result.adv_success.any()


def test_values_are_counted_by_default_and_nothing_of_that_has_changed():
    model, x, y = linear()
    images = Dataset("colours", x, y, ("a", "b"), None)
    result = run(model, images, "sigma-zero", steps=10)
    assert (result.norm_key, set(result.distances)) == ("l0", {"l0", "l1", "l2", "linf"})
    assert torch.equal(result.adv, run(model, images, "sigma-zero", norm="L0", steps=10).adv)
    assert norm_of("L0") == 0.0 != L0_PIXELS


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("name", [name for name in BY_PIXEL if name != "pdpgd"])
def test_without_channels_a_pixel_is_a_value(name):
    """Grey images, and the rows of a table. PDPGD takes the root of a square, which may round."""
    model, x, y = linear(channels=1)
    for each in (x, x.flatten(1)):
        images = Dataset("grey", each, y, ("a", "b"), None)
        settings = {"eps": 5} if ATTACKS.entry(name).facts["kind"] == "fixed-eps" else {"steps": 20}
        value, pixel = (run(model, images, name, norm=norm, **settings) for norm in ("L0", "L0-pixels"))
        assert torch.equal(value.adv, pixel.adv)
        assert torch.equal(value.distance, pixel.distance)


def test_of_a_table_the_values_count_for_pdpgd_too():
    model, x, y = linear(channels=1)
    value, pixel = (pdpgd(model, x.flatten(1), y, norm=norm, steps=20) for norm in ("L0", "L0-pixels"))
    assert torch.equal(value.adv, pixel.adv)


@pytest.mark.parametrize("shape", [(5, 3, 8), (5, 2, 4, 4), (5, 2, 3, 3, 3), (5, 7)])
def test_the_nearest_point_of_few_pixels_keeps_the_longest_ones(shape):
    delta = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept = norms.project(delta, torch.full((5,), 2.5), L0_PIXELS)
    flat = delta.flatten(2) if len(shape) > 2 else delta.unsqueeze(1)
    left = kept.view_as(delta).flatten(2) if len(shape) > 2 else kept.unsqueeze(1)
    length = flat.square().sum(1)
    for row in range(5):
        longest = set(length[row].topk(2).indices.tolist())
        assert set((left[row] != 0).any(0).nonzero().flatten().tolist()) == longest
        assert all(torch.equal(left[row, :, place], flat[row, :, place]) for place in longest)
    assert norms.distance(kept, L0_PIXELS).tolist() == [2.0] * 5


@pytest.mark.parametrize("name", sorted(set(ATTACKS.names()) - set(BY_PIXEL)))
def test_attacks_that_count_no_pixels_say_so(name):
    model, x, y = linear()
    settings = {"eps": 0.1} if ATTACKS.entry(name).facts["kind"] == "fixed-eps" else {}
    with pytest.raises(UserError, match=f"attack '{name}' has no norm L0-pixels"):
        run(model, Dataset("colours", x, y, ("a", "b"), None), name, norm="L0-pixels", **settings)


@pytest.mark.parametrize(
    "word", ["L0-pixels", "l0_pixels", "L0 (pixels)", "l0-pixel", "pixels", "L0 by pixel"]
)
def test_it_is_written_in_words(word):
    assert norm_of(word) == L0_PIXELS
    assert norm_of(pickle.loads(pickle.dumps(L0_PIXELS))) == L0_PIXELS


@pytest.mark.parametrize("number", [-1, -1.0, "-1"])
def test_no_number_stands_for_it(number):
    with pytest.raises(UserError, match="there is no norm '-1'"):
        norm_of(number)


def test_a_study_counts_pixels_where_it_says_so():
    base = "name: a\ndata: digits\nmodels: {p: {arch: resnet18}}\n"
    text = (
        base
        + "attacks: {f: {attack: fmn, norm: L0-pixels}, g: {attack: fmn, norm: 0}, s: {attack: sigma-zero}}\n"
    )
    study = parse_study(text + "epsilons: {l0_pixels: [1, 5], l0: [9]}\n")
    assert [study.attacks[name].norm for name in "fg"] == ["L0-pixels", 0.0]
    assert study_from_json(json.loads(canonical_json(study.model_dump()))).attacks == study.attacks
    cells = {cell.axes["attack"]: cell for cell in small_plan(text).cells if cell.stage == "attack"}
    assert cells["f"].settings["norm"] == "L0-pixels"
    assert cells["f"].id != cells["g"].id
    assert cells["s"].settings["norm"] == 0
    with pytest.raises(UserError, match="ddn has no norm L0-pixels; it has 2"):
        parse_study(base + "attacks: {ddn: {norm: L0-pixels}}")
    with pytest.raises(UserError, match="a norm is 0, 1, 2, inf or L0-pixels"):
        parse_study(base + "attacks: {fmn: {norm: -1}}")


def test_reports_never_call_it_by_the_name_of_the_other():
    assert attack_label("fmn", "l0") != attack_label("fmn", "l0_pixels") == "FMN (L₀ by pixel)"


@pytest.mark.slow
@pytest.mark.kernels
def test_the_audit_compares_what_counts_pixels_too():
    model, x, y = linear(n=8)
    done = secateur.attack(
        model, Dataset("colours", x, y, ("a", "b"), None), "fmn", norm="L0-pixels", steps=20, audit=True
    )
    assert not [each for each in done.grade.checks if not each.ran]
    assert done.grade.joint.rivals == ("sigma-zero",)
    assert all(best <= own for best, own in zip(done.grade.joint.best, done.grade.joint.own, strict=True))
    assert all(math.isfinite(best) for best in done.grade.joint.best)
