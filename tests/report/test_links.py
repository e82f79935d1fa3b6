"""A folder of somebody else's may hold links where a report is written: nothing is written through them."""

import os

import pytest

from report.synthetic import Grid, write
from report.test_build import SMALL
from secateur.errors import UserError
from secateur.report import report


@pytest.fixture
def folder(tmp_path, undrawn):
    return write(tmp_path / "run", Grid(**SMALL))


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine"
    path.write_text("mine")
    return path


def test_a_link_in_the_place_of_a_file_is_replaced(folder, mine):
    for name in ("index.html", "CITATION.bib", "tables/per_seed.csv"):
        (folder / "report" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "report" / name).symlink_to(mine)
    paths = report(folder)
    assert mine.read_text() == "mine"
    assert not any(path.is_symlink() for path in (paths.index, paths.citations, *paths.tables))


def test_a_pipe_or_a_second_name_in_the_place_of_a_file_is_replaced(folder, mine):
    (folder / "report").mkdir()
    os.mkfifo(folder / "report" / "index.html")
    (folder / "report" / "CITATION.bib").hardlink_to(mine)
    report(folder)
    assert mine.read_text() == "mine"
    assert (folder / "report" / "index.html").is_file()


@pytest.mark.parametrize("name", ["report", "report/tables", "report/figures", "report/cards"])
def test_a_link_in_the_place_of_a_folder_is_refused(tmp_path, folder, name):
    (tmp_path / "elsewhere").mkdir()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"is a link, through which nothing is written"):
        report(folder)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_folder_that_the_user_names_may_be_a_link(tmp_path, folder):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    assert report(folder, out=tmp_path / "out").index.read_text().startswith("<!doctype")
