from contextlib import nullcontext

import pytest

from report.synthetic import Grid, write
from secateur.errors import ExitCode, UserError
from secateur.report import build, figures, report, terminal_table
from secateur.report.summary import summary

SMALL = {
    "models": {"m": False},
    "criteria": ("l1",),
    "seeds": (0,),
    "sparsities": (0, 0.5),
    "attacks": {"ddn": 2.0},
    "failed": (),
    "grade_c": (),
}


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes_in_the_run_folder_and_elsewhere(tmp_path, monkeypatch):
    # The first figure stands for all: that each is drawn the same again is stated beside the figures.
    planned = figures.plans
    monkeypatch.setattr(figures, "plans", lambda grid, change: planned(grid, change)[:1])
    folder = write(tmp_path / "run", Grid(**SMALL))
    made = []
    for out in (None, tmp_path / "out"):
        paths = report(folder, out=out, figures=("pdf", "png"))
        root = paths.index.parent
        assert root == (out or folder / "report")
        files = [paths.index, *paths.figures, *paths.tables, *paths.cards, paths.citations]
        assert sorted(files) == sorted(path for path in root.rglob("*") if path.is_file())
        made.append({str(path.relative_to(root)): path.read_bytes() for path in files})
    assert made[0] == made[1]
    assert len(made[0]) == 1 + 2 * 1 + 10 + 2 + 1


@pytest.mark.slow
def test_the_terminal_has_a_row_per_network_and_a_column_per_attack(run_folder):
    table = terminal_table(run_folder)
    assert table.columns[-2:] == ("DDN L₂≤0.5", "FMN L∞≤0.03137")
    rows = {row[:3]: row for row in table.rows}
    assert len(rows) == 2 * (2 + 2 * 4)
    assert rows["plain", "l1 0.6", "standard"][5].split()[-1] == "C"
    assert rows["plain", "dense", "–"][5] == "98→47 A"


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(tmp_path):
    folder = write(tmp_path / "run", Grid(**SMALL))
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="cannot be written") as refused:
        report(folder, out=tmp_path / "taken")
    assert refused.value.code is ExitCode.ENVIRONMENT


@pytest.fixture
def first_figure(monkeypatch):
    """Reports with their first figure alone."""
    planned = figures.plans
    monkeypatch.setattr(figures, "plans", lambda grid, change: planned(grid, change)[:1])


@pytest.mark.slow
def test_figures_are_on_the_page_and_files_on_request(tmp_path, first_figure):
    folder = write(tmp_path / "run", Grid(**SMALL))
    paths = report(folder)
    assert (paths.figures, list((folder / "report" / "figures").iterdir())) == ((), [])
    page = paths.index.read_bytes()
    assert b'<figure id="robust-ddn-standard">' in page
    asked = report(folder, figures=("svg", "pdf"))
    names = [f"robust-ddn-standard.{kind}" for kind in ("pdf", "svg")]
    assert [path.name for path in asked.figures] == names
    assert sorted(path.name for path in (folder / "report" / "figures").iterdir()) == names
    assert [path.read_bytes()[:5] for path in asked.figures] == [b"%PDF-", b"<?xml"]
    assert asked.index.read_bytes() == page


@pytest.mark.slow
def test_files_of_figures_are_never_older_than_the_page(tmp_path, first_figure):
    folder = write(tmp_path / "run", Grid(**SMALL))
    (pdf,) = report(folder, figures=("pdf",)).figures
    drawn = pdf.read_bytes()
    pdf.write_bytes(b"of an earlier state")
    assert report(folder).figures == (pdf,)
    assert pdf.read_bytes() == drawn


def test_a_kind_of_file_that_is_not_drawn_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match="cannot be written as 'pfd'") as refused:
        report(tmp_path / "nowhere", figures=("pfd",))
    assert refused.value.hint == "did you mean 'pdf'?"


def test_the_summary_is_worked_out_once(run_folder, tmp_path, monkeypatch):
    """The tables and the page show the same one."""
    asked = []
    monkeypatch.setattr(build, "_drawing", lambda *_: nullcontext(lambda folder: ([], [])))
    monkeypatch.setattr(build, "summary", lambda *given: asked.append(given) or summary(*given))
    paths = report(run_folder, out=tmp_path / "report")
    assert len(asked) == 1
    assert (tmp_path / "report" / "tables" / "summary.csv") in paths.tables
