"""The tutorial is run as it stands, and the notebook beside it is the same page."""

import json
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_WORDS = 1200


@pytest.fixture(scope="module")
def tutorial():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield import_module("tutorial")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture
def page(tutorial):
    return tutorial.PAGE.read_text(encoding="utf-8")


def test_the_notebook_is_the_page(tutorial, page):
    assert json.loads(tutorial.NOTEBOOK.read_text(encoding="utf-8")) == tutorial.notebook(page)


def test_the_notebook_is_whole(tutorial):
    cells = json.loads(tutorial.NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert all(set(cell) >= {"cell_type", "id", "metadata", "source"} for cell in cells)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", "".join("".join(cell["source"]) for cell in cells)):
        assert target.startswith("http") or (ROOT / "examples" / target).exists(), target


def test_the_page_is_short(page):
    prose = re.sub(r"^```.*?^```", "", page, flags=re.M | re.S)
    assert len(prose.split()) <= MOST_WORDS


@pytest.mark.slow
def test_every_cell_runs_and_prints_what_is_shown(tutorial, page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = tutorial.BLOCK.findall(page)
    printed = tutorial.run([code for code, _ in blocks])
    assert [labels(text) for text in printed] == [labels(text) for _, text in blocks]
    assert (tmp_path / "checked" / "check.html").exists()
    assert (tmp_path / "changes.png").stat().st_size > 1000


def labels(text):
    """What does not depend on the processor: the first column of tables, and the beginning of sentences."""
    first = [re.split(r"  +|[0-9]", line.strip())[0].strip() for line in text.splitlines()]
    # Whether a difference is clear may change with a point of accuracy, and a search may warn or not.
    return [
        line
        for line in first
        if line and not re.match(r"Robust|Accuracy|Hardly|These|It has|reason|Against", line)
    ]


def test_another_line_is_noticed():
    shown = "accuracy, 540 images  98.1 %  98.0 %\nparameters  20k  10k\n"
    assert labels(shown) == labels(shown.replace("98.1", "97.9"))
    assert labels(shown) != labels(shown.replace("parameters", "memory"))
