"""The Python of the how-to page runs, and what it names exists."""

import re
from pathlib import Path

import pytest
import torch

import secateur
from secateur.registry import ATTACKS, CRITERIA

PAGE = (Path(__file__).parent.parent / "docs" / "howto.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_of_the_page_runs(capsys):
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S):
        exec(compile(block, "howto", "exec"), names)
    told = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"[\d,]+ parameters, largest error \d+e-\d+", told[0])
    assert [line.split(":")[0] for line in told[1:]] == ["ε = 0.05", "ε = 0.1"]


def test_names_in_the_tables_are_registered():
    for name in ("fmn", "ddn", "pgd", "fgsm", "apgd", "steep"):
        assert f"{name}" in PAGE
        assert name in ATTACKS.names()
    for name in ("l1", "group_norm", "taylor", "lamp", "fpgm"):
        assert f'"{name}"' in PAGE
        assert name in CRITERIA.names()


def test_a_failed_attack_is_not_found_as_the_page_says():
    images = secateur.data.load("digits:split").take(range(4))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.copy_(torch.eye(10)[int(images.y[0])])
    result = secateur.attack(network.eval(), images.take([0]), "fmn", steps=3).result
    assert [str(outcome.value) for outcome in result.outcome] == ["not_found"]
    assert result.distances["l2"].isinf().all()
