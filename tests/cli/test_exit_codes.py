"""One table says what an exit code means; code 1 is a defect and nothing else."""

import ast
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from secateur.cli import app as application
from secateur.errors import MEANINGS, ExitCode, UserError

ROOT = Path(__file__).parent.parent.parent
SRC = ROOT / "src" / "secateur"


def table(page):
    text = (
        (ROOT / page).read_text(encoding="utf-8").partition("| exit code | means |")[2].partition("\n\n")[0]
    )
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", text, flags=re.M)
    return {int(code): meaning for code, meaning in rows}


@pytest.mark.parametrize("page", ["README.md", "docs/running.md"])
def test_the_pages_have_the_table_of_the_code(page):
    assert table(page) == {int(code): meaning for code, meaning in MEANINGS.items()}


def test_every_code_has_a_meaning():
    assert list(MEANINGS) == list(ExitCode)
    assert all(code.meaning for code in ExitCode)


@pytest.mark.slow
def test_no_line_of_ours_ends_with_the_code_of_a_defect():
    """A traceback has code 1 by itself: naming it would mean to give it to something else."""
    named, bare = [], []
    for path in sorted(SRC.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "INTERNAL":
                named.append((path.name, ast.unparse(node)))
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "sys.exit",
                "typer.Exit",
                "SystemExit",
            ):
                bare += [path.name for argument in node.args if isinstance(argument, ast.Constant)]
    assert bare == []
    # Where it is said what it means, and where what typer gives it to gets another one.
    assert [place for place in named if place[0] != "errors.py"] == [("app.py", "ExitCode.INTERNAL")]


def ends(monkeypatch, error):
    def raises(**_):
        raise error

    monkeypatch.setattr(application, "app", raises)
    with pytest.raises(SystemExit) as end:
        application.main([])
    return end.value.code


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("wrong"), ExitCode.BAD_INPUT, "error: wrong"),
        (MemoryError(), ExitCode.ENVIRONMENT, "memory ran out"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 TB"),
            5,
            "memory ran out",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 5, "memory ran out"),
        (OSError(errno.ENOSPC, "No space left on device", "w.pt"), 5, "w.pt: No space left on device"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 5, "No space left on device"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 5, "the package torch is missing"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, ""),
    ],
)
def test_what_is_no_defect_has_its_own_code(monkeypatch, capsys, error, code, said):
    assert ends(monkeypatch, error) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), RuntimeError("shapes differ"), EOFError(), ModuleNotFoundError(name="secateur.gone")],
)
def test_a_defect_keeps_its_traceback(monkeypatch, error):
    def raises(**_):
        raise error

    monkeypatch.setattr(application, "app", raises)
    with pytest.raises(type(error)):
        application.main([])


def secateur(*arguments, **streams):
    return subprocess.run(
        [sys.executable, "-m", "secateur", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **streams,
    )


@pytest.mark.slow
def test_a_reader_that_closes_early_is_no_defect():
    read, write = os.pipe()
    os.close(read)
    done = secateur("schema", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (ExitCode.READER_GONE, "")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without /dev/full")
def test_output_that_finds_no_space_is_the_machines_fault():
    with Path("/dev/full").open("w") as full:
        done = secateur("schema", stdout=full)
    assert done.returncode == ExitCode.ENVIRONMENT
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


STUDY = """name: s
data: digits
models: {net: resnet-tiny}
attacks: {ddn: {steps: 5}}
"""


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (
            (": resnet-tiny", ": {arch: resnet-tiny, settings: {widths: 4}}"),
            (),
            "models.net.settings: resnet-tiny",
        ),
        (("name: s", "name: s\nx-a: &a {<<: *a}"), (), "aliases without end"),
        (("name: s", "name: s\nthreads: 10000000000"), (), "threads: "),
        (("", ""), ("--set", "sparsities=[0]", "--set", "sparsities.²=0.5"), "entries 0 to 0"),
    ],
)
def test_a_study_that_cannot_be_is_one_sentence(secateur_here, tmp_path, change, options, said):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace(*change, 1) if change[0] else STUDY, encoding="utf-8")
    assert secateur_here("validate", path, *options) == 2
    assert said in secateur_here.err()


@pytest.fixture
def secateur_here(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            application.main([str(argument) for argument in arguments])
        return end.value.code

    call.err = lambda: capsys.readouterr().err
    return call
