"""One switch turns every CPU optimisation off, and the results stay the same within rounding."""

import pytest
import torch
from torch import nn

from secateur import cpu
from secateur.attacks import run
from secateur.cpu import malloc
from secateur.cpu.batchnorm_folding import fold_candidates
from secateur.cpu.channels_last import prefers_channels_last
from secateur.cpu.depthwise import applies
from secateur.cpu.single_channel_conv import is_single_channel
from secateur.data import Dataset


def network():
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 10, 3, padding=1), nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 10, 3, groups=1)]
    return nn.Sequential(*body, nn.ReLU(), nn.Flatten(), nn.Linear(40, 3)).eval()


def used():
    """Which optimisations would be used now."""
    net, calls = network(), []
    depthwise = (torch.rand(1, 9, 4, 4), torch.rand(9, 1, 3, 3), None, [1], [0], [1], False, [0], 9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(malloc, "_glibc", lambda: (lambda *told: calls.append(told), calls.append))
        with malloc.kept_heap():
            pass
    return [
        bool(fold_candidates(net, torch.rand(2, 1, 4, 4))),
        is_single_channel(net[0]),
        prefers_channels_last(net),
        applies(depthwise),
        bool(calls),
    ]


def test_one_switch_is_for_all(monkeypatch):
    assert all(used())
    with cpu.switched(False):
        assert not any(used())
        with cpu.switched(True):
            assert all(used())
    monkeypatch.setenv("SECATEUR_CPU_FAST", "0")
    assert not any(used())
    with cpu.switched(True):
        assert all(used())


def test_the_switch_is_as_before_after_an_error():
    with pytest.raises(ZeroDivisionError), cpu.switched(False):
        raise ZeroDivisionError
    assert cpu.enabled()


def test_an_attack_finds_the_same_with_the_switch_off():
    net, x = network(), torch.rand(12, 1, 4, 4)
    images = Dataset(x=x, y=net(x).argmax(1), levels=None, name="drawn", classes=("a", "b", "c"))
    fast = run(net, images, "ddn", steps=30)
    with cpu.switched(False):
        plain = run(net, images, "ddn", steps=30)
    assert (fast.search["folded"], fast.search["grey"], fast.search["channels_last"]) == (1, True, True)
    assert (plain.search["folded"], plain.search["grey"], plain.search["channels_last"]) == (0, False, False)
    assert fast.outcome == plain.outcome
    torch.testing.assert_close(fast.distance, plain.distance, rtol=1e-3, atol=1e-5)
