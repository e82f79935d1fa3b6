"""The tables of docs/attacking.md agree with the checks."""

import re
from pathlib import Path

import pytest
import torch

from secateur.data import Dataset
from secateur.evaluate import attack
from secateur.trust.check import MEANINGS
from trust.test_grading import Net

PAGE = (Path(__file__).parents[2] / "docs" / "attacking.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_check_that_runs_is_documented_and_no_other():
    net = Net().eval()
    x = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = Dataset("d", x, net(x).argmax(1), ("a", "b", "c", "d"), None)
    ran = {check.id for check in attack(net, images, "ddn", steps=10, audit=True).grade.checks}
    ran |= {check.id for check in attack(net, images, "fgsm", eps=0.1).grade.checks}
    assert ran == set(re.findall(r"^\| (F\d\d) \|", PAGE, re.M))


def test_every_grade_is_documented_in_its_own_words():
    assert dict(re.findall(r"^\| ([ABCX]) \| (.+) \|$", PAGE, re.M)) == MEANINGS
