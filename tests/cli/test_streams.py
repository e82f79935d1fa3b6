"""The command in surroundings that lack something: a closed stream, an encoding, a working directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import secateur

SECATEUR = f"{sys.executable} -m secateur"


def shell(words, folder, **environment):
    package = str(Path(secateur.__file__).parent.parent)
    return subprocess.run(
        ["bash", "-c", words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": package, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", "--json >&-"])
def test_a_stream_that_is_closed_is_no_error(tmp_path, redirect):
    done = shell(f"{SECATEUR} ls data {redirect}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_what_the_encoding_lacks_is_escaped(tmp_path):
    (tmp_path / "näme.yaml").touch()
    done = shell(f"{SECATEUR} validate näme.yaml", tmp_path, PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 2
    assert "n\\xe4me.yaml" in done.stderr


@pytest.mark.slow
def test_a_working_directory_that_was_deleted_is_no_error(tmp_path):
    (tmp_path / "gone").mkdir()
    done = shell(f"cd gone && rmdir ../gone && {SECATEUR} ls data", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "digits" in done.stdout
