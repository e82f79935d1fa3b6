"""Bad inputs on the command line: no exit code 1, no hang, nothing written outside, one sentence."""

import contextlib
import io
import os
import random
import signal
import tempfile
from itertools import cycle
from pathlib import Path

import reliability_bad_files as bad
from reliability_study import Tally

from secateur.cli import main

HANG_SECONDS = 120
SENTINEL = "written before"


class Hangs(BaseException):
    """Raised by an alarm in a command that does not end."""


def inputs(n, seed, folder):
    """Give every kind of file with odd or damaged content to the commands that read it, in turn."""
    draw, tally = random.Random(seed), Tally()
    outside, inside = folder / "outside", folder / "inside"
    for each in (outside, inside):
        each.mkdir()
    (outside / "kept").write_text(SENTINEL)
    with sandbox(outside, folder / "tmp"):
        makers = {kind: make(inside / kind.replace(" ", "-")) for kind, make in bad.KINDS.items()}
        for _, (kind, made) in zip(range(n), cycle(makers.items()), strict=False):
            argv, what = made(draw)
            tally.add(kind, refused(argv, what, outside))
    return tally


@contextlib.contextmanager
def sandbox(outside, temporary):
    """Work in a folder that must stay as it is, which is also home; temporary files have a place of their own."""
    temporary.mkdir()
    before, here, tempdir = dict(os.environ), Path.cwd(), tempfile.tempdir
    os.environ |= {"HOME": str(outside), "TMPDIR": str(temporary)}
    tempfile.tempdir = str(temporary)
    os.chdir(outside)
    try:
        yield
    finally:
        os.chdir(here)
        tempfile.tempdir = tempdir
        os.environ.clear()
        os.environ.update(before)


def refused(argv, what, outside):
    """Run a command; in words what is wrong with how it took its input."""
    code, said = command(argv)
    where = f"{' '.join(argv[:1])} with {what}"
    if code is None:
        return f"{where}: no end after {HANG_SECONDS} s"
    if code == 1:
        return f"{where}: {said}"
    if code and "Traceback" in said:
        return f"{where}: a traceback and exit code {code}"
    left = sorted(path.name for path in outside.rglob("*"))
    if left != ["kept"] or (outside / "kept").read_text() != SENTINEL:
        return f"{where}: it wrote {', '.join(left)} outside"
    return ""


def command(argv):
    """The exit code of a command of this process, or None if it hangs, and what it said on standard error."""
    out, errors = io.StringIO(), io.StringIO()

    def late(number, frame):
        raise Hangs

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(HANG_SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            main(argv)
    except SystemExit as end:
        return int(end.code or 0), errors.getvalue()
    except Hangs:
        return None, ""
    except Exception as error:
        return 1, f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return 0, errors.getvalue()
