"""The command imports nothing from the folder in which it is called, which may be a stranger's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import secateur


@pytest.mark.slow
@pytest.mark.parametrize("start", ["-m", "-c"])
def test_files_called_like_modules_are_passed_over(tmp_path, start):
    for name in ("queue", "csv", "sklearn", "yaml", "torch"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'a').close(); raise ImportError('not this one')\n")
    # The console script is this program, with its own folder in the place of the working directory.
    script = "import sys; del sys.path[0]; from secateur.cli import main; main(['ls', 'data'])"
    arguments = ["-m", "secateur", "ls", "data"] if start == "-m" else ["-c", script]
    environment = {**os.environ, "PYTHONPATH": str(Path(secateur.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "digits" in done.stdout
    assert not (tmp_path / "ran").exists()


def test_another_program_keeps_its_path(tmp_path):
    (tmp_path / "program.py").write_text("import secateur, beside; print(beside.__name__)\n")
    (tmp_path / "beside.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(Path(secateur.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "program"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "beside\n"
