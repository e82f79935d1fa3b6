"""The study file in docs/running.md is read, not only written."""

import re
from pathlib import Path

from secateur.config import parse_study
from secateur.config.study import Study
from secateur.errors import ExitCode
from secateur.study import grid
from toy.study import FACTS

PAGE = (Path(__file__).parents[2] / "docs" / "running.md").read_text()
EXAMPLE = next(text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "models:" in text)


def test_the_example_is_a_study():
    study = parse_study(EXAMPLE)
    assert study.recipe("robust").adversary.epsilon == 8 / 255
    assert study.arms("robust")["same"].adversary is not None
    assert {cell.role for cell in grid(study, FACTS)} == {"dense", "dense_tuned", "untuned", "pruned"}


def test_the_example_shows_every_setting():
    assert [name for name in Study.model_fields if f"\n{name}:" not in f"\n{EXAMPLE}"] == []


def test_every_exit_code_is_explained():
    rows = re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE)
    told = {int(code) for row in rows for code in row.split(", ")}
    assert told == {int(code) for code in ExitCode}
