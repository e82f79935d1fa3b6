"""A loss of one's own, in place of the attack's."""

import json
from functools import partial

import pytest
import torch
from torch.nn import functional as F

import secateur
from secateur.attacks import apgd, ddn, pgd
from secateur.errors import UserError

each = partial(F.cross_entropy, reduction="none")
ATTACKS = [
    (pgd, {"eps": 0.3, "steps": 10, "norm": 2.0}, "ce"),
    (apgd, {"eps": 0.3, "steps": 10, "norm": 2.0}, "ce"),
    (ddn, {"steps": 30}, "cross_entropy"),
]


def difference(logits, y):
    own = logits.gather(1, y[:, None]).squeeze(1)
    return logits.scatter(1, y[:, None], -torch.inf).amax(1) - own


@pytest.mark.parametrize(
    ("attack", "settings", "named"), ATTACKS, ids=lambda value: getattr(value, "__name__", "")
)
def test_cross_entropy_handed_over_is_the_attack_s_own(net, images, attack, settings, named):
    x, y = images.x[:8], images.y[:8]
    own, usual = attack(net, x, y, loss=each, **settings), attack(net, x, y, loss=named, **settings)
    assert torch.equal(own.mask, usual.mask)
    torch.testing.assert_close(own.distance[own.mask], usual.distance[own.mask], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("attack", [pgd, apgd, ddn])
def test_a_loss_that_points_the_other_way_finds_less(net, images, attack):
    settings = {"eps": 1.0, "steps": 20, "norm": 2.0} if attack is not ddn else {"steps": 20}
    x, y = images.x[:12], images.y[:12]
    found = [
        int(attack(net, x, y, loss=loss, **settings).mask.sum())
        for loss in (difference, lambda *a: -difference(*a))
    ]
    assert found[0] > found[1]


@pytest.mark.parametrize("attack", [pgd, apgd, ddn])
def test_a_targeted_attack_asks_about_the_targets_and_lowers_the_loss(net, images, attack):
    settings = {"eps": 2.0, "steps": 20, "norm": 2.0} if attack is not ddn else {"steps": 40}
    x, y = images.x[1:6], images.y[1:6]
    targets, asked = (y + 1) % 3, []

    def loss(logits, y):
        asked.append(y)
        return each(logits, y)

    found = attack(net, x, y, targets=targets, loss=loss, **settings)
    assert all(torch.equal(seen, targets) for seen in asked)
    assert found.mask.any()
    assert (net(found.adv).argmax(1) == targets)[found.mask].all()


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (F.cross_entropy, r"the loss returned shape \(\)"),
        (lambda logits, y: 1.0, "the loss returned a float"),
        (lambda logits, y: each(logits.detach(), y), "carries no gradient"),
        ("crossentropy", "unknown loss 'crossentropy'"),
        (3, "loss is 3"),
    ],
)
@pytest.mark.parametrize("name", ["pgd", "ddn"])
def test_a_loss_that_is_none_is_one_sentence(net, images, name, loss, said):
    with pytest.raises(UserError, match=said):
        secateur.attack(net, images, name, loss=loss, steps=3)


def test_an_attack_without_a_loss_says_so_and_a_record_names_the_function(net, images):
    with pytest.raises(UserError, match="attack 'fmn' has no setting 'loss'"):
        secateur.attack(net, images, "fmn", loss=difference, steps=3)
    record = secateur.attack(net, images, "ddn", loss=difference, steps=3).to_json()
    assert json.loads(json.dumps(record))["settings"]["loss"].endswith("difference")
