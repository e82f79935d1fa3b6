"""One run folder, many accidents in a row; at the end it holds what an undisturbed run holds."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from secateur.store import Store
from secateur.store.faults import POINTS
from toy.study import SMALL, run_toy, science

STUDY = SMALL.replace("images: 20", "images: 20\nseeds: [0, 1]")
RUNNER = f"""
import sys, toy.stages
from toy.study import run_toy
sys.exit(run_toy(sys.argv[1], text={STUDY!r}, jobs=2).exit_code)
"""


def start(out, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stderr=subprocess.DEVNULL,
    )


def kill_a_runner(out, draw):
    process = start(out, TOY_SLEEP="0.01")
    time.sleep(draw.uniform(0.4, 2.0))
    process.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
    process.wait()


def kill_at_a_fault_point(out, draw):
    start(out, TOY_FAULT=f"{draw.choice(sorted(POINTS))}:{draw.randint(1, 3)}").wait()


def two_runners_one_killed(out, draw):
    first, second = start(out, TOY_SLEEP="0.01"), start(out, TOY_SLEEP="0.01")
    time.sleep(draw.uniform(0.4, 2.0))
    first.send_signal(signal.SIGKILL)
    first.wait()
    second.wait()


def damage_a_file(out, draw):
    files = sorted(path for path in out.glob("cells/*/*/*") if path.is_file())
    if files:
        path = draw.choice(files)
        content = path.read_bytes()
        match draw.choice(["truncate", "flip", "remove"]):
            case "truncate":
                path.write_bytes(content[: draw.randint(0, len(content))])
            case "flip":
                position = draw.randrange(len(content))
                path.write_bytes(
                    content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :]
                )
            case "remove":
                path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_no_series_of_accidents_changes_a_number(tmp_path, seed):
    draw = random.Random(seed)
    out = tmp_path / "run"
    for _ in range(6):
        accident = draw.choice([kill_a_runner, kill_at_a_fault_point, two_runners_one_killed, damage_a_file])
        accident(out, draw)
    outcome = run_toy(out, text=STUDY)
    assert outcome.exit_code == 0
    run_toy(tmp_path / "whole", text=STUDY, jobs=2)
    assert science(out) == science(tmp_path / "whole")
    store = Store.open(out)
    store.gc()
    assert not any(store.damage(cell.id) for cell in store.cells)
    assert not list((out / "tmp").iterdir())
    assert not list((out / "leases").iterdir())
    assert not list((out / "scratch").iterdir())
