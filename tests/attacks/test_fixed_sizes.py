"""Attacks of fixed size: what counts as found at a size, and several sizes in one run."""

import math
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from secateur.attacks import Found, Outcome, run
from secateur.attacks.pgd import pgd
from secateur.attacks.runner.verification import largest_distance
from secateur.data import Dataset
from secateur.errors import UserError
from secateur.registry import ATTACKS

INF = math.inf
SIZES = [0.05, 0.1, 0.3]


@pytest.fixture
def net():
    """A linear network, which even a coarse attack fools."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()


@pytest.fixture
def images(net):
    """48 images; every sixth has a wrong label."""
    x = torch.rand(48, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = net(x).argmax(1)
    y[::6] = (y[::6] + 1) % 3
    return Dataset("linear", x, y, ("a", "b", "c"), None)


def fell(result):
    return {size["eps"]: torch.tensor(size["found"]) for size in result.to_json()["sizes"]}


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("pgd", {"steps": 5}),
        ("pgd", {"steps": 5, "norm": 2.0}),
        ("apgd", {"steps": 5}),
        ("fgsm", {}),
        ("fgsm", {"norm": 2.0}),
        ("fgsm", {"norm": 1.0}),
        ("noise", {"steps": 20}),
        ("square", {"steps": 20}),
    ],
)
def test_what_falls_at_a_size_of_a_list_is_what_falls_at_it_or_below_alone(net, images, name, settings):
    several = fell(run(net, images, name, eps=SIZES, **settings))
    before = torch.zeros(images.n, dtype=torch.bool)
    for eps in SIZES:
        before |= run(net, images, name, eps=eps, **settings).where(Outcome.FOUND)
        assert torch.equal(several[eps], before)
    assert before.any()


def test_the_smallest_example_of_an_image_is_kept_and_lies_within_its_size(net, images):
    result = run(net, images, "pgd", eps=SIZES, steps=5)
    found = result.where(Outcome.FOUND)
    assert found.any()
    for size, at in fell(result).items():
        first = at & (result.fell == size)
        assert (result.distance[first] <= size + 1e-6).all()
    assert torch.isinf(result.distance[result.where(Outcome.NOT_FOUND)]).all()
    assert torch.equal(result.found_at(0.3), found)


def test_images_that_fell_are_not_attacked_again_and_passes_add_up(net, images):
    one = run(net, images, "pgd", eps=0.05, steps=5)
    two = run(net, images, "pgd", eps=[0.05, 0.1], steps=5)
    at_first = one.where(Outcome.FOUND)
    again = one.where(Outcome.NOT_FOUND)
    assert at_first.any()
    assert torch.equal(two.forwards[at_first], one.forwards[at_first])
    assert torch.equal(two.forwards[again], 2 * one.forwards[again])
    assert torch.equal(two.adv[at_first], one.adv[at_first])


@pytest.mark.parametrize(
    "sizes", [(0.3, 0.05), np.array([0.3, 0.05]), torch.tensor([0.3, 0.05], dtype=torch.float64)]
)
def test_sizes_come_in_any_order_and_as_any_list(net, images, sizes):
    assert run(net, images, "fgsm", eps=sizes).sizes == (0.05, 0.3)


def test_at_size_zero_nothing_is_attacked_and_nothing_falls(net, images):
    with_zero = run(net, images, "pgd", eps=[0, 0.05], steps=5)
    without = run(net, images, "pgd", eps=0.05, steps=5)
    assert torch.equal(with_zero.forwards, without.forwards)
    assert not fell(with_zero)[0.0].any()
    assert torch.equal(with_zero.adv, without.adv)


def test_a_list_is_recorded_as_a_list_and_batching_changes_nothing(net, images):
    whole = run(net, images, "pgd", eps=SIZES, steps=5)
    parts = run(net, images, "pgd", eps=SIZES, steps=5, batch_size=7)
    assert whole.to_json()["settings"]["eps"] == SIZES
    assert whole.outcome == parts.outcome
    assert torch.equal(whole.fell, parts.fell)
    assert run(net, images, "pgd", eps=0.1, steps=5).to_json()["settings"]["eps"] == 0.1


def test_progress_over_several_sizes_rises_to_the_total(net, images):
    seen = []
    run(net, images, "pgd", eps=SIZES, steps=5, on_progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (40 * 5 * 3, 40 * 5 * 3)


@pytest.mark.parametrize(
    ("eps", "said"),
    [
        ([], "eps is"),
        ([0.1, -0.1], "lists -0.1"),
        ([0.1, math.nan], "lists nan"),
        ([0.1, INF], "lists inf"),
        ([0.1, 0.1], "lists 0.1 twice"),
        ([0], "eps lists only 0"),
        ([0.1, "8/255"], "lists '8/255'"),
        ([0.1, True], "lists True"),
        ([[0.1], [0.2]], "lists"),
        (0, "eps is 0"),
        ("8/255", "eps is '8/255'"),
    ],
)
def test_sizes_that_are_none_are_refused_in_words(net, images, eps, said):
    with pytest.raises(UserError, match=said):
        run(net, images, "pgd", eps=eps, steps=2)


@pytest.mark.parametrize("eps", [0.1, [0.1, 0.2]])
def test_an_attack_that_looks_for_the_smallest_size_names_budgets_instead(net, images, eps):
    with pytest.raises(UserError) as refused:
        run(net, images, "fmn", eps=eps, steps=2)
    assert "budgets" in refused.value.hint


@pytest.mark.parametrize("name", ["fgsm", "noise"])
def test_in_l0_a_size_counts_values(net, images, name):
    for settings in ({}, {"eps": 0.5}):
        with pytest.raises(UserError, match="in L0"):
            run(net, images, name, norm=0, **settings)
    assert run(net, images, name, norm=0, eps=1).n == images.n


# Attacks of others, which do not keep to the size they are given.


def negative(model, x, y, *, eps=8 / 255):
    return 1 - x


def barely(model, x, y, *, eps=8 / 255):
    """Farther by four units in the last place of float32: no rounding of one addition does that."""
    found = pgd(model, x, y, eps=eps)
    return Found(x + (found.adv - x) * (1 + 2e-5), found.mask, found.already_wrong, found.distance)


def sizeless(model, x, y, *, radius=0.1):
    return x


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setattr(ATTACKS, "_entries", dict(ATTACKS._entries))
    monkeypatch.setattr(ATTACKS, "_objects", dict(ATTACKS._objects))
    for attack in (negative, barely, sizeless):
        ATTACKS.register(attack.__name__, attack, norms=(INF,), kind="fixed-eps")


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(("name", "eps"), [("negative", 8 / 255), ("barely", 0.3)])
def test_an_example_beyond_its_size_is_not_found(net, images, name, eps):
    result = run(net, images, name, eps=eps)
    assert result.oversized.any()
    assert not (result.oversized & result.where(Outcome.FOUND)).any()
    assert torch.equal(result.adv[result.oversized], images.x[result.oversized])
    assert result.to_json()["sizes"][0]["found"] == result.where(Outcome.FOUND).tolist()


@pytest.mark.usefixtures("planted")
def test_the_same_attack_finds_within_a_size_that_is_large_enough(net, images):
    result = run(net, images, "negative", eps=[0.1, 1])
    assert result.where(Outcome.FOUND).any()
    assert (result.fell[result.where(Outcome.FOUND)] == 1).all()


@pytest.mark.usefixtures("planted")
def test_an_attack_of_fixed_size_without_a_size_is_refused(net, images):
    with pytest.raises(UserError, match="no setting eps"):
        run(net, images, "sizeless")


@pytest.mark.parametrize("norm", [1.0, 2.0, INF])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("eps", [0.031, 8 / 255, 0.3])
def test_the_rounding_of_pixels_is_allowed_and_little_more(norm, bounds, eps):
    low, high = bounds
    size = eps * (high - low)
    x = torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * (high - low) + low
    delta = torch.where(x < (low + high) / 2, 1.0, -1.0)
    delta = delta / (1 if norm == INF else torch.linalg.vector_norm(delta[0], ord=norm))
    reached = ((x + size * delta).double() - x.double()).flatten(1)
    largest = torch.linalg.vector_norm(reached, ord=norm, dim=1).max()
    limit = largest_distance(size, norm, (3, 8, 8), bounds)
    assert largest <= limit
    assert limit <= size * (1 + 1e-6) + {1.0: 192, 2.0: 192**0.5, INF: 1}[norm] * 1.2e-7 * max(-low, high)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd", "square", "noise"])
@pytest.mark.parametrize("eps", [8 / 255, 0.031, 0.1])
def test_our_own_attacks_keep_to_their_size(name, eps):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10)).eval()
        x = (torch.rand(40, 3, 8, 8) * 255).round() / 255
    data = Dataset("grid", x, linear(x).argmax(1), tuple("0123456789"), 256)
    settings = {} if name == "fgsm" else {"steps": 10}
    result = run(linear, data, name, eps=eps, **settings)
    assert not result.oversized.any()
    assert result.where(Outcome.FOUND).any()


def test_a_size_with_a_greek_name_is_a_size_and_other_libraries_eps_may_be_none(net, images, monkeypatch):
    def pgd_linf(model, inputs, labels, ε, targeted=False, steps=5):
        return pgd(model, inputs, labels, eps=ε, steps=steps).adv

    def tr(model, inputs, labels, eps=0.001, targeted=False):
        return pgd(model, inputs, labels, eps=0.9, steps=20).adv

    home = ModuleType("adv_lib.attacks")
    home.pgd_linf, home.tr = pgd_linf, tr
    monkeypatch.setitem(sys.modules, "adv_lib.attacks", home)
    result = run(net, images, "adv-lib:pgd_linf", norm=INF, eps=[0.1, 0.3])
    assert (result.kind, result.sizes) == ("fixed-eps", (0.1, 0.3))
    assert not result.oversized.any()
    assert result.where(Outcome.FOUND).any()
    step = run(net, images, "adv-lib:tr", norm=2.0, eps=0.01)
    assert step.kind == "minimum-norm"
    assert step.where(Outcome.FOUND).any()
