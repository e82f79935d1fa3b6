"""Verbs on studies take a file of one's own, and the documented one runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from secateur.store import Store

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("verb", ["validate", "plan", "run", "worker", "schema"])
def test_a_verb_on_studies_refuses_a_file_that_is_not_there(verb, capsys):
    from secateur.cli import main

    with pytest.raises(SystemExit) as end:
        main([verb, *([] if verb == "schema" else ["study.yaml"]), "--plugin", "absent.py"])
    assert end.value.code == 2
    assert "there is no file 'absent.py'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_documented_file_runs_in_a_study_from_the_command_line(tmp_path):
    page = (ROOT / "docs" / "attacking.md").read_text(encoding="utf-8")
    (code,) = [text for text in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "halfway" in text]
    (tmp_path / "halfway.py").write_text(code)
    (tmp_path / "study.yaml").write_text(
        "name: mine\ndata: {spec: digits, sizes: [200, 40, 100]}\n"
        "models: {net: {arch: tiny, recipe: {epochs: 20, batch_size: 20, learning_rate: 0.02}}}\n"
        "criteria: [linf]\nsparsities: [0, 0.5]\nattacks: {towards-grey: {steps: 5}}\nimages: 20\n"
    )

    def call(*arguments):
        command = [sys.executable, "-m", "secateur", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env=os.environ, check=False
        )

    plugged = ("--plugin", "halfway.py")
    ran = call("run", "study.yaml", "--jobs", "2", *plugged)
    assert ran.returncode == 0, ran.stderr
    records = [record.to_json() for record in Store.open(tmp_path / "runs" / "mine").records()]
    attacks = [record for record in records if record["stage"] == "attack"]
    assert len(attacks) == 2
    assert any("found" in record["science"]["outcome"] for record in attacks)
    assert call("worker", "runs/mine").returncode == 2
    assert call("worker", "runs/mine", *plugged).returncode == 0
    assert call("report", "runs/mine").returncode == 0
