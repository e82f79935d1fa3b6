"""ALMA and PDPGD, the attacks with multipliers, against exact distances and a general solver."""

import math
import sys

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from attacks.rounding import tolerance
from attacks.test_linear import case, check
from secateur.attacks import run
from secateur.attacks.alma import alma, penalty_grad
from secateur.attacks.core.prox import shrink
from secateur.attacks.pdpgd import pdpgd
from secateur.errors import UserError

INF = math.inf
ALMA = sys.modules["secateur.attacks.alma"]
PDPGD = sys.modules["secateur.attacks.pdpgd"]
SIZES = [(2, 2), (64, 2), (64, 10)]
LAST_STEP = 1e-3
"""Of ALMA, whose steps do not scale with the distance: what is nearer is not resolved."""
GATE = {0.0: 2, 1.0: 1.05, 2.0: 1.05, INF: 1.05}
# In L2 and L∞ each step bisects; of these norms the targets below and one case here are enough for a desk.
QUICK = [(64, 10, 0.0), (64, 10, 1.0), (64, 2, INF)]
CASES = [
    pytest.param(*size, p, marks=() if (*size, p) in QUICK else pytest.mark.slow)
    for size in SIZES
    for p in GATE
]


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("d", "classes"), SIZES)
def test_alma_reaches_the_exact_distance(d, classes):
    made = case(d, classes, 16, seed=0)
    check(made, alma(made.model, made.x, made.y), 2.0, 1.01, extra=LAST_STEP)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("d", "classes", "p"), CASES)
def test_pdpgd_reaches_the_exact_distance(d, classes, p):
    made = case(d, classes, 16, seed=0)
    check(made, pdpgd(made.model, made.x, made.y, norm=p, steps=1000), p, GATE[p])


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", [0.0, 1.0, 2.0])
def test_pdpgd_lets_go_of_the_norm_where_it_is_late(monkeypatch, p):
    made = case(64, 2, 16, seed=0)

    def found():
        return pdpgd(made.model, made.x, made.y, norm=p, steps=40, dual_ratio_init=1e4).mask

    assert found().any()
    monkeypatch.setattr(PDPGD, "LATE", 2.0)
    assert not found().any()


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_pdpgd_reaches_its_targets_at_their_exact_distance(p):
    made = case(64, 2, 16, seed=5)
    check(made, pdpgd(made.model, made.x, made.y, norm=p, targets=1 - made.y), p, 1.05)


@pytest.mark.slow
@pytest.mark.kernels
def test_alma_reaches_its_targets_at_their_exact_distance():
    made = case(64, 2, 16, seed=5)
    check(made, alma(made.model, made.x, made.y, steps=500, targets=1 - made.y), 2.0, 1.01, extra=LAST_STEP)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("name", ["alma", "pdpgd"])
def test_other_bounds_scale_with_the_images(net, images, name):
    # In float32, what shifting the images rounds away decides after sixty steps which minimum ALMA ends in.
    net, x = net.double(), images.x.double()

    class Shifted(torch.nn.Module):
        def forward(self, x):
            return net((x + 1) / 4)

    attack = {"alma": alma, "pdpgd": lambda *a, **k: pdpgd(*a, norm=2.0, **k)}[name]
    narrow = attack(net, x, images.y, steps=60)
    wide = attack(Shifted(), 4 * x - 1, images.y, steps=60, bounds=(-1.0, 3.0))
    assert torch.equal(wide.mask, narrow.mask)
    torch.testing.assert_close(wide.distance, 4 * narrow.distance, rtol=tolerance(x.dtype, 60), atol=1e-12)


def cost(z, delta, metric, weight, p):
    size = np.sqrt(np.abs(z)).sum() if p == 0 else np.linalg.norm(z, ord=p)
    return float((metric * (z - delta) ** 2).sum() / 2 + weight * size)


def solved(delta, metric, weight, p):
    """By a general solver with the signs of ``delta`` fixed, so that every norm is smooth or linear."""
    a, n = np.abs(delta), len(delta)
    if p == 0:
        grid = np.linspace(0, 1, 20001)[:, None] * a
        each = metric * (grid - a) ** 2 / 2 + weight * np.sqrt(grid)
        return np.sign(delta) * np.take_along_axis(grid, each.argmin(0)[None], 0)[0]
    if p == INF:
        found = minimize(
            lambda v: (metric * (v[:n] - a) ** 2).sum() / 2 + weight * v[n],
            np.append(a, a.max()),
            bounds=[(0, None)] * (n + 1),
            constraints={"type": "ineq", "fun": lambda v: v[n] - v[:n]},
            method="SLSQP",
            options={"ftol": 1e-15, "maxiter": 1000},
        ).x[:n]
        return np.sign(delta) * found
    begin = a / 2 + 1e-3
    found = minimize(
        lambda z: cost(z, a, metric, weight, p),
        begin,
        bounds=[(0, None)] * n,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 5000},
    ).x
    return np.sign(delta) * found


def check_shrink(operator, p):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        delta, metric = rng.normal(size=6), rng.uniform(0.2, 3.0, 6)
        for weight in (0.05, 0.4, 20.0):
            ours = operator(
                torch.tensor(delta)[None], torch.tensor(metric)[None], torch.tensor([weight]).double(), p=p
            )[0].numpy()
            best = solved(delta, metric, weight, p)
            assert cost(ours, delta, metric, weight, p) <= cost(best, delta, metric, weight, p) + 1e-6
            assert (np.abs(ours) <= np.abs(delta) + 1e-12).all()


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, INF])
def test_the_proximal_operator_is_that_of_a_general_solver(p):
    check_shrink(shrink, p)


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, INF])
def test_an_operator_that_forgets_the_metric_is_seen(p):
    with pytest.raises(AssertionError):
        check_shrink(lambda delta, metric, weight, p: shrink(delta, torch.ones_like(metric), weight, p=p), p)


def test_the_slope_of_the_penalty_is_its_derivative_and_has_no_jump():
    value = torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True)
    rho, mu = torch.full((13,), 1.7, dtype=torch.float64), torch.full((13,), 0.6, dtype=torch.float64)
    above = mu * value + mu * rho * value**2 + rho**2 * value**3 / 6
    p2 = torch.where(value >= 0, above, mu * value / (1 - rho * value.clamp_max(0.0)))
    torch.testing.assert_close(penalty_grad(value.detach(), rho, mu), torch.autograd.grad(p2.sum(), value)[0])
    ends = penalty_grad(torch.tensor([-1e-9, 0.0], dtype=torch.float64), rho[:2], mu[:2])
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=0)


# Deliberately broken variants: the gates above must see each of them.


@pytest.mark.slow
@pytest.mark.kernels
def test_the_gate_catches_pdpgd_without_its_proximal_step(monkeypatch):
    monkeypatch.setattr(PDPGD, "shrink", lambda delta, metric, weight, *, p: delta)
    made = case(64, 2, 16, seed=0)
    with pytest.raises(AssertionError):
        check(made, pdpgd(made.model, made.x, made.y, norm=1.0, steps=1000), 1.0, GATE[1.0])


@pytest.mark.slow
@pytest.mark.kernels
def test_the_gate_catches_alma_with_a_multiplier_that_never_falls(monkeypatch):
    monkeypatch.setattr(ALMA, "penalty_grad", lambda value, rho, mu: mu * torch.ones_like(value))
    made = case(64, 2, 16, seed=0)
    with pytest.raises(AssertionError):
        check(made, alma(made.model, made.x, made.y, steps=500), 2.0, 1.01)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("alma", {"init_eps": 0.0}, "init_eps is 0.0"),
        ("alma", {"gamma": 0.5}, "gamma is 0.5"),
        ("alma", {"tau": 0.0}, "tau is 0.0"),
        ("alma", {"check_steps": 0}, "check_steps is 0"),
        ("alma", {"norm": 1}, "no norm 1"),
        ("pdpgd", {"primal_lr": -1.0}, "primal_lr is -1.0"),
        ("pdpgd", {"dual_lr": 0.0}, "dual_lr is 0.0"),
        ("pdpgd", {"dual_ratio_init": 0.0}, "dual_ratio_init is 0.0"),
    ],
)
def test_a_wrong_setting_is_one_sentence(net, images, name, settings, said):
    with pytest.raises(UserError, match=said):
        run(net, images, name, **settings)
