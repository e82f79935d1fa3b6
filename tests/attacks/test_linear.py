"""DDN and FMN against the exact minimum distance of linear classifiers inside the box.

With ten classes the minimum over classes is not convex, and no gradient attack promises to choose the best
one: there the distance is compared with the exact one to the class that was reached.
"""

import sys
from functools import partial

import numpy as np
import pytest
import torch

from attacks.oracles import INF, linear_case
from secateur.attacks import ddn, every_class, fmn
from secateur.attacks.core import batch, norms
from secateur.budgets import counts

FAST = [(2, 2), (2, 10), (64, 2), (64, 10)]
WIDE = [(d, k, n, 1) for d in (1, 2, 64, 3072) for k in (2, 10) for n in (1, 64)]
FMN = sys.modules["secateur.attacks.fmn"]
NEAREST = sys.modules["secateur.attacks.core.best"]
EVERY = [("ddn", 2.0, 1.005), ("fmn", 2.0, 1.01), ("fmn", INF, 1.01), ("fmn", 1.0, 1.01), ("fmn", 0.0, 1.0)]
GATE = {1.0: 1.01, 2.0: 1.01, INF: 1.01}


def case(d, classes, n, seed):
    # Sharp logits: cross-entropy, which DDN follows, mixes all classes where they are close.
    made = linear_case(d, classes, n, seed=seed, scale=1.0 if classes == 2 else 300.0)
    if classes > 2:
        made.model.double()
        made.x = made.x.double()
    return made


def check(made, found, p, gate, *, extra=0.0):
    """Found wherever feasible and only there, in the box, fooling, and at most ``gate`` times the optimum."""
    planes = made.planes(p)
    optimum = planes.min(1)
    feasible = np.isfinite(optimum)
    assert found.mask.tolist() == feasible.tolist(), "found wherever the box allows it, and nowhere else"
    assert torch.isinf(found.distance[~found.mask]).all()
    assert torch.equal(found.adv[~found.mask], made.x[~found.mask])
    assert found.adv.min() >= 0
    assert found.adv.max() <= 1
    with torch.no_grad():
        assert torch.equal(made.model(found.adv).argmax(1) != made.y, found.mask)
    measured = norms.distance(found.adv - made.x, p).double().numpy()[feasible]
    np.testing.assert_allclose(found.distance.double().numpy()[feasible], measured, rtol=1e-5)
    assert (measured >= optimum[feasible] * (1 - 1e-5) - 1e-7).all(), "nothing beats the exact optimum"
    best = made.reached(found.adv, planes)[feasible]
    if counts(p):
        assert (measured > best + gate).sum() <= 0.05 * len(best)
    else:
        slack = extra + 2 * made.rounding(found.adv, p)[feasible]
        assert (measured <= best * gate + slack).all(), (measured / best).max()


def attack(made, p, **settings):
    return fmn(made.model, made.x, made.y, norm=p, **settings)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("d", "classes"), FAST)
def test_ddn_reaches_the_exact_distance(d, classes):
    made = case(d, classes, 32, seed=0)
    check(made, ddn(made.model, made.x, made.y, steps=500), 2.0, 1.005)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("d", "classes"), FAST[1:])
@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, INF])
def test_fmn_reaches_the_exact_distance(d, classes, p):
    made = case(d, classes, 32, seed=0)
    check(made, attack(made, p, steps=300), p, GATE.get(p, 1))


@pytest.mark.slow
@pytest.mark.parametrize(("d", "classes", "n", "seed"), WIDE)
def test_ddn_reaches_the_exact_distance_everywhere(d, classes, n, seed):
    made = case(d, classes, n, seed)
    check(made, ddn(made.model, made.x, made.y), 2.0, 1.005)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "classes", "n", "seed"), WIDE)
@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, INF])
def test_fmn_reaches_the_exact_distance_everywhere(d, classes, n, seed, p):
    made = case(d, classes, n, seed)
    check(made, attack(made, p), p, GATE.get(p, 1))


def nearest(made, p, name, classes=10, steps=1000):
    """The attack on every class, with the logit difference: what many classes ask for."""
    # A region may be a sliver next to the image: the first sphere must not lie beyond it,
    # nor the last step be longer than it is wide.
    bound = {
        "ddn": partial(ddn, loss="difference", init_eps=0.01, steps=steps),
        "fmn": partial(fmn, norm=p, alpha_final=0.001, steps=steps),
    }[name]
    return every_class(bound, made.model, made.x, made.y, classes=classes)


def check_nearest(made, found, p, gate):
    """The exact minimum over all classes is reached, in float32 and with logits of any scale."""
    optimum = made.optimum(p)
    feasible = np.isfinite(optimum)
    assert found.mask.tolist() == feasible.tolist()
    measured = norms.distance(found.adv - made.x, p).double().numpy()[feasible]
    best = optimum[feasible]
    if counts(p):
        assert (measured > best + 1).sum() <= 0.05 * len(best)
    else:
        slack = 2 * made.rounding(found.adv, p)[feasible]
        assert (measured <= best * gate + slack).all(), (measured / best).max()


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "p", "gate"), EVERY[::2])
def test_over_every_class_the_exact_minimum_is_found(name, p, gate):
    made = linear_case(64, 4, 8, seed=0)
    check_nearest(made, nearest(made, p, name, classes=4, steps=500), p, gate)


@pytest.mark.slow
@pytest.mark.kernels
def test_over_every_class_ten_classes_have_their_exact_minimum():
    made = linear_case(64, 10, 8, seed=0)
    check_nearest(made, nearest(made, 2.0, "ddn", steps=500), 2.0, 1.005)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "p", "gate"), EVERY)
@pytest.mark.parametrize("d", [2, 64, 3072])
def test_over_every_class_ten_classes_have_their_exact_minimum_everywhere(d, name, p, gate):
    made = linear_case(d, 10, 32 if d < 3072 else 8, seed=1)
    check_nearest(made, nearest(made, p, name, steps=500), p, gate)


@pytest.mark.slow
@pytest.mark.kernels
def test_following_one_class_only_is_seen_where_ten_are_near():
    made = linear_case(64, 10, 8, seed=0)
    with pytest.raises(AssertionError):
        check_nearest(made, ddn(made.model, made.x, made.y, steps=500), 2.0, 1.005)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("levels", [17, 256])
def test_quantised_ddn_stays_on_the_grid_and_within_its_rounding(levels):
    made = case(64, 2, 32, seed=3)
    made.x = (made.x * (levels - 1)).round() / (levels - 1)
    made.y = made.model(made.x).argmax(1).detach()
    found = ddn(made.model, made.x, made.y, levels=levels, steps=500)
    grid = found.adv * (levels - 1)
    torch.testing.assert_close(grid, grid.round(), atol=1e-3, rtol=0)
    check(made, found, 2.0, 1.005, extra=8 / (2 * (levels - 1)))


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, INF])
def test_what_the_box_forbids_is_not_found(p):
    made = linear_case(8, 2, 32, seed=0, lift=1.5)
    assert np.isinf(made.optimum(p)).all()
    check(made, attack(made, p, steps=200), p, 2.0)
    if p == 2:
        check(made, ddn(made.model, made.x, made.y, steps=200), p, 2.0)


def test_the_paper_s_radius_alone_never_reaches_a_boundary_behind_the_box():
    made = case(64, 2, 32, seed=0)
    assert not attack(made, 2.0, escape=False, steps=300).mask.all()


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, INF])
def test_a_targeted_attack_reaches_its_target_at_the_exact_distance(p):
    made = case(64, 2, 16, seed=5)
    found = attack(made, p, targets=1 - made.y, steps=300)
    check(made, found, p, GATE.get(p, 1))


@pytest.mark.slow
@pytest.mark.kernels
def test_targeted_ddn_reaches_its_target_at_the_exact_distance():
    made = case(64, 2, 16, seed=5)
    check(made, ddn(made.model, made.x, made.y, targets=1 - made.y, steps=500), 2.0, 1.005)


# Deliberately broken variants: the gates above must see each of them.


def sphere(delta, eps, p):
    return delta * norms.per_sample(eps / norms.distance(delta, p).clamp_min(1e-12), delta)


def untouched(delta, eps, p):
    return delta


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("broken", "p"), [(untouched, 2.0), (untouched, INF), (sphere, INF), (sphere, 1.0)])
def test_the_gates_catch_a_broken_projection(monkeypatch, broken, p):
    monkeypatch.setattr(FMN, "project", broken)
    made = case(64, 2, 32, seed=0)
    with pytest.raises(AssertionError):
        check(made, attack(made, p, steps=300), p, GATE[p])


def clean_returned(posed, best, reached, already_wrong):
    return batch.Found(posed.x, torch.ones_like(already_wrong), already_wrong, torch.zeros_like(reached))


def last_instead_of_best(posed, best, reached, already_wrong):
    moved = posed.clip(posed.x + 1.05 * (best - posed.x))
    return batch.conclude(posed, moved, norms.distance(moved - posed.x, 2.0), already_wrong)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("broken", [clean_returned, last_instead_of_best])
def test_the_gates_catch_an_attack_that_returns_the_wrong_image(monkeypatch, broken):
    monkeypatch.setattr(NEAREST, "conclude", broken)
    made = linear_case(8, 2, 32, seed=0, lift=1.0)
    with pytest.raises(AssertionError):
        check(made, attack(made, 2.0, steps=200), 2.0, 1.01)
