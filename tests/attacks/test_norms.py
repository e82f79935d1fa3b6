"""Projections against scipy and closed forms, and the laws that any nearest point obeys."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from secateur.attacks.core import norms
from secateur.attacks.core.norms import INF, distance, dual, project
from secateur.errors import UserError

P = (0.0, 1.0, 2.0, INF)


def sample(n, d, seed, scale=1.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def by_scipy(v, eps, p):
    """The nearest point of the p-ball by a general solver, on the positive side where it is smooth."""
    a = np.abs(v)
    ball = {1.0: lambda z: eps - z.sum(), 2.0: lambda z: eps**2 - (z**2).sum()}[p]
    solved = minimize(
        lambda z: ((z - a) ** 2).sum(),
        np.full_like(a, eps / (2 * len(a))),
        jac=lambda z: 2 * (z - a),
        bounds=[(0, None)] * len(a),
        constraints={"type": "ineq", "fun": ball},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return np.sign(v) * solved.x


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize("seed", range(20))
def test_l1_and_l2_projections_are_those_of_a_general_solver(p, seed):
    v = sample(1, 6, seed)
    eps = 0.1 + 0.25 * (seed % 8)
    ours = project(v, torch.tensor([eps], dtype=torch.float64), p)[0].numpy()
    theirs = v[0].numpy() if np.linalg.norm(v[0].numpy(), p) <= eps else by_scipy(v[0].numpy(), eps, p)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_linf_projection_clips():
    v = torch.tensor([[-2.0, 0.3, 0.5, 9.0]])
    assert project(v, torch.tensor([0.5]), INF).tolist() == [[-0.5, pytest.approx(0.3), 0.5, 0.5]]


def test_l2_projection_leaves_a_point_inside_the_ball_alone():
    v = torch.tensor([[0.3, 0.4]])
    assert torch.equal(project(v, torch.tensor([2.0]), 2.0), v)


@pytest.mark.parametrize("k", [0, 1, 2, 3, 4, 9])
def test_l0_projection_keeps_exactly_that_many_of_tied_pixels(k):
    v = torch.tensor([[1.0, -1.0, 1.0, 1.0]])
    kept = project(v, torch.tensor([float(k)]), 0.0)
    assert int(kept.count_nonzero()) == min(k, 4)
    assert torch.equal(kept[:, : min(k, 4)], v[:, : min(k, 4)])


def test_l0_projection_keeps_the_largest():
    v = torch.tensor([[0.1, -3.0, 0.2, 2.0]])
    assert project(v, torch.tensor([2.0]), 0.0).tolist() == [[0.0, -3.0, 0.0, 2.0]]


@pytest.mark.parametrize("p", P)
def test_a_radius_of_zero_gives_zero_and_an_infinite_one_changes_nothing(p):
    v = sample(3, 5, 0)
    assert torch.equal(project(v, torch.zeros(3, dtype=v.dtype), p), torch.zeros_like(v))
    assert torch.equal(project(v, torch.full((3,), INF, dtype=v.dtype), p), v)


@pytest.mark.parametrize("p", P)
def test_a_perturbation_of_zero_stays_zero(p):
    assert torch.equal(project(torch.zeros(2, 4), torch.tensor([0.0, 1.0]), p), torch.zeros(2, 4))


@pytest.mark.parametrize("p", P)
def test_every_sample_has_its_own_radius(p):
    v = sample(4, 7, 1, scale=3.0)
    eps = torch.tensor([0.0, 1.0, 2.5, 100.0], dtype=v.dtype)
    alone = torch.cat([project(v[i : i + 1], eps[i : i + 1], p) for i in range(4)])
    assert torch.equal(project(v, eps, p), alone)


@pytest.mark.parametrize("p", P)
def test_memory_format_changes_nothing(p):
    v = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(2))
    eps = torch.tensor([0.2, 1.0, 3.0])
    strided = v.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(project(strided, eps, p), project(v, eps, p))
    torch.testing.assert_close(distance(strided, p), distance(v, p))


@pytest.mark.slow
@pytest.mark.kernels
@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    p=st.sampled_from(P),
    values=st.lists(st.floats(-4, 4, width=32), min_size=2, max_size=9),
    other=st.lists(st.floats(-4, 4, width=32), min_size=9, max_size=9),
    eps=st.sampled_from([0.0, 1e-6, 0.3, 1.0, 2.0, 7.0, 50.0]),
)
def test_projections_obey_their_laws(p, values, other, eps):
    check_laws(project, p, values, other, eps)


def check_laws(projection, p, values, other, eps):
    v = torch.tensor([values], dtype=torch.float64)
    radius = torch.tensor([eps], dtype=torch.float64)
    inside = projection(v, radius, p)
    tolerance = 1e-9 * (1 + eps)
    assert distance(inside, p).item() <= eps + tolerance, "feasible"
    torch.testing.assert_close(projection(inside, radius, p), inside, rtol=0, atol=tolerance)
    if distance(v, p).item() <= eps:
        assert torch.equal(inside, v), "identity inside"
    torch.testing.assert_close(projection(-v, radius, p), -inside, rtol=0, atol=0)
    z = projection(torch.tensor([other[: len(values)]], dtype=torch.float64), radius, p)
    assert distance(v - inside, 2.0) <= distance(v - z, 2.0) + tolerance, "no feasible point is nearer"


def identity(delta, eps, p):
    return delta


def onto_the_sphere(delta, eps, p):
    return delta * (eps / distance(delta, 2.0).clamp_min(1e-12)).view(-1, 1)


def keeps_ties(delta, eps, p):
    threshold = delta.abs().sort(dim=1, descending=True).values[:, int(eps) - 1]
    return torch.where(delta.abs() >= threshold, delta, 0.0)


@pytest.mark.parametrize(
    ("broken", "p", "eps"), [(identity, 2.0, 1.0), (onto_the_sphere, 2.0, 7.0), (keeps_ties, 0.0, 2.0)]
)
def test_the_laws_catch_a_broken_projection(broken, p, eps):
    with pytest.raises(AssertionError):
        check_laws(broken, p, [2.0, 2.0, 2.0], [0.5] * 9, eps)


@pytest.mark.parametrize("p", [1.0, 2.0, INF])
def test_the_dual_norm_bounds_a_linear_function(p):
    w, delta = sample(1, 8, 3), sample(1, 8, 4)
    bound = distance(w, dual(p)) * distance(delta, p)
    assert (w * delta).sum().abs() <= bound + 1e-12
    assert 1 / p + 1 / dual(p) == 1


def test_an_unknown_norm_is_refused():
    with pytest.raises(UserError, match="no norm '3'"):
        norms.check_norm(3)


@pytest.mark.parametrize("seed", range(20))
def test_selecting_keeps_the_same_entries_as_sorting(seed):
    """The CPU selects, devices sort; also with ties, nothing or everything to keep, scores without order."""
    drawn = torch.Generator().manual_seed(seed)
    score = torch.randint(0, 6, (8, 30), generator=drawn).float() - 1
    if seed % 2:
        score = torch.randn(8, 30, generator=drawn)
    score[0, 3:9], score[1, 5], score[2] = torch.nan, torch.inf, 0.0
    count = torch.randint(0, 32, (8,), generator=drawn).float()
    count[3], count[4], count[5], count[6] = 0.0, 30.0, 45.0, -1.0
    assert torch.equal(norms._highest(score, count), norms._first(score, count))


def test_the_tie_that_is_selected_is_the_first(monkeypatch):
    score, count = torch.tensor([[1.0, 2.0, 2.0, 2.0]]), torch.tensor([2.0])
    assert norms._highest(score, count).tolist() == [[False, True, True, False]]
    # What a selection by threshold alone would do.
    assert (score >= 2.0).sum() == 3


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_threshold_of_the_l1_ball_is_that_of_sorting(seed, dtype):
    drawn = torch.Generator().manual_seed(seed)
    size = torch.rand(16, 50, generator=drawn, dtype=dtype)
    size[0], size[1], size[2, 10:] = 0.0, 0.5, 0.0
    eps = torch.rand(16, generator=drawn, dtype=dtype) * 30
    eps[3], eps[4], eps[5] = 0.0, 1e-6, 1e6
    ordered = size.sort(dim=1, descending=True).values
    excess = ordered.cumsum(1) - eps.unsqueeze(1)
    active = (ordered * torch.arange(1, 51, dtype=dtype) > excess).sum(1, keepdim=True).clamp_min(1)
    wanted = (excess.gather(1, active - 1) / active).clamp_min(0.0).squeeze(1)
    torch.testing.assert_close(norms._threshold(size, eps), wanted, rtol=1e-5, atol=1e-6)
    left = (size - norms._threshold(size, eps).unsqueeze(1)).clamp_min(0.0).sum(1)
    torch.testing.assert_close(left, torch.minimum(eps, size.sum(1)), rtol=1e-4, atol=1e-4)


def test_the_threshold_of_what_is_no_number_is_found_in_finite_time():
    assert norms._threshold(torch.full((1, 4), torch.nan), torch.ones(1)).isnan().all()
