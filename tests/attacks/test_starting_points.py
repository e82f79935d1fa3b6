"""An attack begins where it is told, or several times: the nearest example counts, all passes are counted."""

import json
import math
import sys
from itertools import pairwise

import pytest
import torch
from safetensors.torch import save_file

import secateur
from secateur.attacks import Outcome, another_class, fmn, run
from secateur.attacks.runner.starting_points import found_before
from secateur.data import Dataset
from secateur.errors import UserError
from secateur.evaluate import save_examples
from secateur.models import predict

INF = math.inf


@pytest.fixture
def mixed(net, images):
    """The network, made to see all three classes among the images, and the images as it sees them."""
    with torch.no_grad():
        net.head.bias -= net(images.x).mean(0)
        y = net(images.x).argmax(1)
    assert len(y.unique()) == 3
    y[::6] = (y[::6] + 1) % 3
    return net, Dataset("mixed", images.x, y, images.classes, 17)


@pytest.fixture
def far(net, images):
    """Examples of every image, well beyond the boundary."""
    found = fmn(net, images.x, images.y, norm=2, steps=60).adv
    return (images.x + 3 * (found - images.x)).clamp(0, 1)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, INF])
@pytest.mark.parametrize("batch_size", [48, 7])
def test_each_image_begins_at_its_own_point(net, images, far, p, batch_size):
    result = run(net, images, "fmn", norm=p, steps=20, start=far, batch_size=batch_size)
    alone = fmn(net, images.x, images.y, norm=p, steps=20, start=far)
    right = result.correct
    assert torch.equal(result.adv_success[right], alone.mask[right])
    assert torch.allclose(result.distance[right], alone.distance[right].double(), rtol=1e-4, atol=1e-6)
    assert (result.forwards[right] == 20 + 1 + 12).all()


def check_nearest_of_both(net, images):
    near, other = another_class(net, images, count=6)[[0, 5]]
    settings = {"norm": 2.0, "steps": 12}
    one, two = (run(net, images, "fmn", start=start, **settings) for start in (near, other))
    both = run(net, images, "fmn", start=torch.stack([near, other]), **settings)
    assert torch.equal(both.distance, torch.minimum(one.distance, two.distance))
    assert torch.equal(both.forwards, one.forwards + two.forwards)
    assert torch.equal(both.backwards, one.backwards + two.backwards)
    assert torch.equal(both.late, torch.minimum(one.late, two.late))
    assert (one.distance < two.distance).any()
    assert (two.distance < one.distance).any()


def test_of_several_points_the_nearest_example_counts(mixed):
    check_nearest_of_both(*mixed)


def test_an_attack_that_keeps_its_last_attempt_is_seen(mixed, monkeypatch):
    monkeypatch.setattr(
        sys.modules["secateur.attacks.runner.attempts"], "minimum", lambda before, again: again
    )
    with pytest.raises(AssertionError):
        check_nearest_of_both(*mixed)


def test_restarts_help_only_images_that_are_not_fooled_yet(mixed):
    net, images = mixed
    once, more = (run(net, images, "pgd", norm=INF, eps=0.05, steps=3, restarts=r, seed=5) for r in (1, 5))
    fooled = once.where(Outcome.FOUND)
    assert fooled.any()
    assert once.where(Outcome.NOT_FOUND).any()
    assert torch.equal(more.distance[fooled], once.distance[fooled])
    assert torch.equal(more.forwards[fooled], once.forwards[fooled])
    left = ~more.distance.isfinite()
    assert (more.forwards[left] == 5 * once.forwards[left]).all()
    assert more.adv_success.sum() >= once.adv_success.sum()


def test_every_restart_draws_other_numbers(net, images, monkeypatch):
    drawn = []
    module = sys.modules["secateur.attacks.pgd"]
    begin = module.random_start_in_ball

    def watched(*args, **settings):
        made = begin(*args, **settings)
        drawn.append(made[0])
        return made

    monkeypatch.setattr(module, "random_start_in_ball", watched)
    run(net, images, "pgd", norm=INF, eps=1e-4, steps=2, restarts=3)
    assert len(drawn) == 3
    assert not any(torch.equal(a, b) for a, b in pairwise(drawn))


@pytest.mark.parametrize("at_once", [64, 11])
def test_points_of_another_class_are_the_nearest_that_the_model_sees_so(mixed, monkeypatch, at_once):
    monkeypatch.setattr(sys.modules["secateur.attacks.runner.starting_points"], "AT_ONCE", at_once)
    net, images = mixed
    told = []
    points = another_class(net, images, count=2, on_progress=lambda *done: told.append(done))
    assert told == sorted(told)
    assert told[-1] == (96, 96)
    classes = predict(net, images.x)
    for k in range(images.n):
        gap = (images.x - images.x[k]).flatten(1).norm(dim=1)
        gap[classes == images.y[k]] = torch.inf
        first, second = gap.sort().values[:2]
        assert torch.isclose((points[0, k] - images.x[k]).norm(), first, atol=1e-4)
        assert torch.isclose((points[1, k] - images.x[k]).norm(), second, atol=1e-4)


def test_points_for_a_target_are_of_that_class(mixed):
    net, images = mixed
    targets = (images.y + 1) % 3
    points = another_class(net, images, targets=targets)
    assert torch.equal(predict(net, points[0]), targets)


def test_an_image_stands_in_where_no_other_class_is_seen(mixed):
    net, images = mixed
    same = images.take((predict(net, images.x) == 2).nonzero().squeeze(1)[:5])
    points = another_class(net, same, count=3)
    alone = predict(net, same.x) == same.y
    assert torch.equal(points[:, alone], same.x[alone].expand(3, -1, -1, -1, -1))


def test_examples_of_one_network_are_where_another_begins(net, images, tmp_path):
    found = secateur.attack(net, images, "fmn", norm=2.0, steps=30)
    save_examples(found, tmp_path / "dense.safetensors", index=[10 + k for k in range(images.n)])
    some = images.take(range(20, 30))
    start = found_before(tmp_path / "dense.safetensors", some, list(range(30, 40)))
    assert torch.equal(start[0], found.result.adv[20:30])
    record = run(net, some, "fmn", norm=2.0, steps=5, start=start).to_json()
    assert record["attempts"] == 1
    assert [len(hashes) for hashes in record["start"]] == [10]
    assert json.dumps(record)


def test_what_began_once_at_the_images_says_nothing_of_starts(net, images):
    assert not {"attempts", "start"} & run(net, images, "fmn", norm=2.0, steps=2).to_json().keys()


@pytest.mark.slow
@pytest.mark.kernels
def test_other_seeds_of_the_audit_begin_where_the_attack_did(net, images, far, monkeypatch):
    audit = sys.modules["secateur.trust.audit"]
    asked = []
    monkeypatch.setattr(audit, "run", lambda *a, **k: asked.append(k) or run(*a, **k))
    secateur.attack(net, images, "fmn", norm=2.0, steps=5, start=torch.stack([far, far]), audit=True)
    begun = [k for k in asked if k.get("start") is not None]
    assert len(begun) == audit.SEEDS - 1
    assert all(k["start"].shape[0] == k["restarts"] == 2 for k in begun)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("ddn", {"start": "far"}, "does not begin at given points"),
        ("ddn", {"restarts": 2}, "draws no random numbers"),
        ("sigma-zero", {"restarts": 2}, "draws no random numbers"),
        ("pgd", {"restarts": 2, "random_start": False}, "when random_start is false"),
        ("pgd", {"restarts": 0}, "restarts is 0"),
        ("pgd", {"restarts": True}, "restarts is True"),
        ("fmn", {"start": "far", "restarts": 3}, "3 restarts, but 1 starting points"),
        ("fmn", {"start": torch.zeros(48, 1, 4, 5)}, r"starting points are \(48, 1, 4, 5\)"),
        ("fmn", {"start": [0.0]}, "starting points are a list"),
        ("fmn", {"start": torch.zeros(0, 48, 1, 4, 4)}, "starting points are"),
        (
            "fmn",
            {"start": torch.full((48, 1, 4, 4), 2.0)},
            "of the starting points, image 0 has pixels outside",
        ),
        ("fmn", {"start": torch.full((48, 1, 4, 4), torch.nan)}, "image 0"),
    ],
)
def test_what_is_no_place_to_begin_is_refused(net, images, far, name, asked, said):
    asked = {key: far if isinstance(value, str) else value for key, value in asked.items()}
    with pytest.raises(UserError, match=said):
        run(net, images, name, steps=3, **asked)


@pytest.mark.parametrize("count", [0, 49, True, 1.5])
def test_counts_of_points_are_checked(net, images, count):
    with pytest.raises(UserError, match="starting points for each of 48 images"):
        another_class(net, images, count=count)


def test_a_file_of_other_things_is_named(net, images, tmp_path):
    (tmp_path / "no.safetensors").write_bytes(b"nothing of the kind")
    secateur.attack(net, images, "fmn", norm=2.0, steps=5)
    for path, said in (
        (tmp_path / "no.safetensors", "holds no adversarial"),
        (tmp_path / "a", "does not exist"),
    ):
        with pytest.raises(UserError, match=said):
            found_before(path, images, list(range(48)))
    found = secateur.attack(net, images, "fmn", norm=2.0, steps=5)
    save_examples(found, tmp_path / "e.safetensors")
    with pytest.raises(UserError, match="none of these 48 images"):
        found_before(tmp_path / "e.safetensors", images, list(range(100, 148)))
    wide = Dataset("wide", torch.zeros(48, 1, 4, 5), images.y, images.classes, 17)
    with pytest.raises(UserError, match="have shape"):
        found_before(tmp_path / "e.safetensors", wide, list(range(48)))


@pytest.mark.parametrize(
    ("adv", "index"),
    [((), (1,)), ((2,), (2,)), ((2, 1, 4, 4), (2, 1)), ((2, 1, 4, 4), (3,)), ((2, 1, 4, 4), ())],
)
def test_a_file_of_odd_shapes_is_refused(images, tmp_path, adv, index):
    tensors = {"adv": torch.zeros(adv), "index": torch.zeros(index, dtype=torch.int64)}
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(UserError, match="have shape"):
        found_before(tmp_path / "odd.safetensors", images, list(range(48)))
