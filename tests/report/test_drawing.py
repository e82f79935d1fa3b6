"""Figures that several processes draw are those that one draws, to the byte."""

import subprocess
import sys

import pytest

from report.synthetic import Grid, write

# A process of its own: the tests' has threads and torch, and is never forked.
REPORT = """
import os, sys
from secateur.report import build, drawing
drawing._cores = lambda: 2
if sys.argv[3] == "alone":
    drawing._may_fork = lambda: False
seen = set()
drawn = drawing._drawn
drawing._drawn = lambda *each: (os.write(1, b"%d\\n" % os.getpid()), drawn(*each))[1]
build.report(sys.argv[1], out=sys.argv[2], figures=("pdf", "png", "svg"))
print(os.getpid())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks")
def test_figures_drawn_by_two_processes_are_those_of_one(tmp_path):
    grid = Grid(models={"m": False}, criteria=("l1",), seeds=(0,), sparsities=(0, 0.5), attacks={"ddn": 2.0})
    folder = write(tmp_path / "run", grid)
    drawers, made = {}, {}
    for how in ("alone", "shared"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", REPORT, folder, tmp_path / how, how],
            capture_output=True,
            text=True,
            check=True,
        )
        *painters, main = done.stdout.split()
        drawers[how] = {painter == main for painter in painters}
        files = (path for path in (tmp_path / how).rglob("*") if path.is_file())
        made[how] = {str(path.relative_to(tmp_path / how)): path.read_bytes() for path in files}
    assert drawers == {"alone": {True}, "shared": {False}}
    assert made["alone"] == made["shared"]


FAILING = """
import os, sys, time
from secateur.errors import UserError
from secateur.report import build, drawing
drawing._cores = lambda: 2
drawn = drawing._drawn
drawing._drawn = lambda *each: (os.write(1, b"drawn\\n"), drawn(*each), time.sleep(0.3))[1]
def full(*_):
    raise OSError(28, "No space left on device")
build._write_tables = full
try:
    build.report(sys.argv[1], out=sys.argv[2])
except UserError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks")
def test_nothing_more_is_drawn_when_the_disk_is_full(tmp_path):
    """Figures are drawn while the tables are written: an error there is told, and most are left undrawn."""
    few = {"criteria": ("l1",), "seeds": (0,), "sparsities": (0, 0.5), "failed": (), "grade_c": ()}
    folder = write(tmp_path / "run", Grid(attacks={"ddn": 2.0, "fmn": 2.0}, **few))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FAILING, folder, tmp_path / "report"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    *drawn, said = done.stdout.splitlines()
    assert "No space left on device" in said
    # Two are being drawn, and a few are on their way to the processes.
    assert len(drawn) <= 5
