"""What results print: at most twelve lines, in a console and in a notebook, and columns for pandas."""

import sys

import pytest
import torch
from torch import nn

import secateur
from secateur.data import Dataset, load, load_splits
from secateur.display import LONGEST, MOST, Shown
from secateur.errors import ExitCode, UserError


class Wide(nn.Module):
    """Many groups with long names."""

    def __init__(self):
        super().__init__()
        self.a_part_with_quite_a_long_name = nn.Sequential(*(nn.Linear(6, 6) for _ in range(30)))

    def forward(self, x):
        return self.a_part_with_quite_a_long_name(x)


@pytest.fixture(scope="module")
def results():
    model = secateur.models.resolve("shipped:digits-plain")
    images = load("digits:split").take(range(12))
    graph = secateur.trace(Wide().eval(), torch.rand(1, 6))
    plan = secateur.plan(graph, sparsity=0.5)
    evaluated = secateur.attack(model, images, "ddn", steps=5)
    return {
        "graph": graph,
        "plan": plan,
        "report": secateur.apply(graph.model, plan),
        "dataset": images,
        "splits": load_splits("digits", generator=torch.Generator().manual_seed(0)),
        "evaluated": evaluated,
        "result": evaluated.result,
        "grade": evaluated.grade,
    }


NAMES = ("graph", "plan", "report", "dataset", "splits", "evaluated", "result", "grade")


@pytest.mark.parametrize("name", NAMES)
def test_a_result_fits_a_screen(results, name):
    lines = repr(results[name]).splitlines()
    assert 1 <= len(lines) <= 12
    assert max(map(len, lines)) <= LONGEST
    html = results[name]._repr_html_()
    assert html.count("<tr>") <= MOST
    assert len(html) < 5_000


def test_what_is_said_is_what_is_there(results):
    assert "30 groups" not in repr(results["plan"]).splitlines()[0]
    assert repr(results["dataset"]).startswith("Dataset digits: 12 images of 1×8×8, 17 grey levels in [0, 1]")
    assert len(results["dataset"]) == 12
    assert "grade C" in repr(results["evaluated"])
    assert repr(results["graph"]).splitlines()[-1].strip().startswith("… ")


def test_names_from_elsewhere_are_escaped_in_a_notebook():
    images = Dataset("<script>", torch.zeros(1, 1, 2, 2), torch.tensor([0]), ("<b>", "dog"), None)
    assert "<script>" not in images._repr_html_()
    assert "<b>&lt;b&gt;" not in images._repr_html_()


def test_rows_beyond_the_tenth_are_counted():
    class Long(Shown):
        def _shown(self):
            return "Long", [(str(i), "x" * 500) for i in range(25)]

    lines = repr(Long()).splitlines()
    assert len(lines) == 12
    assert lines[-1].strip() == "… 15 more"


def test_a_result_becomes_a_frame_with_a_row_per_image(results):
    pandas = pytest.importorskip("pandas")
    table = results["evaluated"].to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == 12
    assert table["label"].tolist() == results["dataset"].y.tolist()
    assert set(table["outcome"]) <= {"found", "already_wrong", "not_found"}
    assert (table.loc[table["outcome"] == "already_wrong", "distance_l2"] == 0).all()


def test_without_pandas_one_sentence_says_what_to_install(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"pip install secateur\[pandas\]") as error:
        results["result"].to_pandas()
    assert error.value.code == ExitCode.ENVIRONMENT
