import dataclasses

import pytest

from report import pictures
from report.clocked import SMALL, measure, slowly
from report.synthetic import Grid, write
from secateur.report import compare, figures, report, theme
from secateur.report.aggregate import aggregate
from secateur.report.load import load
from secateur.report.paired_changes import changes

COMPARED = {"models": {"robust": True}, "criteria": ("l1",), "attacks": {"ddn": 2.0}, "failed": ()}


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """The demo study: a failed cell, an unreliable one, images already wrong and images not found."""
    return write(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="session")
def study(run_folder):
    return load(run_folder)


@pytest.fixture(scope="session")
def grid(study):
    return aggregate(study)


@pytest.fixture(scope="session")
def change(grid):
    return changes(grid)


def first_for_all(svg):
    """Writes the first figure, and gives its drawing to all others."""
    made = []

    def write(figure):
        if not made:
            made.append(svg(figure))
        return made[0]

    return write


@pytest.fixture(scope="session")
def index(run_folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # What is looked at here stands around the figures; to write them all costs more than all the rest.
        patch.setattr(theme, "svg", first_for_all(theme.svg))
        return report(run_folder, out=tmp_path_factory.mktemp("report")).index


@pytest.fixture(scope="session")
def page(index):
    return index.read_text(encoding="utf-8")


@pytest.fixture
def undrawn(monkeypatch):
    """Reports without figures, for tests of everything else: drawing is what a report takes its time for."""
    monkeypatch.setattr(figures, "plans", lambda grid, change: [])


@pytest.fixture
def folder(tmp_path):
    """A small run whose networks were not measured yet."""
    return write(tmp_path / "run", Grid(**SMALL))


@pytest.fixture
def measured(folder):
    """The same after a clock that says what each network takes was read."""
    return measure(folder, slowly)


@pytest.fixture
def tiny(tmp_path):
    """Makes a study of one model and six images whose attack results are given by hand.

    ``results[(sparsity, arm, seed)]`` is a list of (outcome, l2) per image.
    """

    def make(results, *, seeds=(0,), **settings):
        def edit(cell, science):
            axes = cell["axes"]
            if cell["stage"] != "attack":
                return science
            images = results[(axes["sparsity"], axes["arm"], axes["seed"])]
            outcome = [o for o, _ in images]
            values = [value for _, value in images]
            science["outcome"], science["hashes"] = outcome, science["hashes"][: len(images)]
            science["distances"] = dict.fromkeys(("l0", "l1", "l2", "linf"), values)
            science["num_forwards"] = science["num_backwards"] = [1] * len(images)
            return science

        options = {
            "models": {"plain": False},
            "criteria": ("l1",),
            "sparsities": (0.0, 0.5),
            "attacks": {"ddn": 2.0},
            "failed": (),
            "grade_c": (),
            "images": 6,
        }
        grid = Grid(seeds=seeds, edit=edit, **(options | settings))
        return write(tmp_path / "tiny", grid)

    return make


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Three studies: the second is weaker, the third is the second with fewer cells."""
    root = tmp_path_factory.mktemp("compared")
    weaker = Grid(name="after", weakening=1.5, config={"pruning": {"scope": "global"}}, **COMPARED)
    fewer = dataclasses.replace(weaker, name="fewer", sparsities=(0.0, 0.4), seeds=(0,))
    return {
        "before": write(root / "before", Grid(name="before", **COMPARED)),
        "after": write(root / "after", weaker),
        "fewer": write(root / "fewer", fewer),
    }


@pytest.fixture(scope="session")
def comparison(folders):
    return compare(folders["before"], folders["after"])


@pytest.fixture(scope="session")
def pictured_folder(tmp_path_factory):
    """A study whose attacks kept pictures."""
    return pictures.write(tmp_path_factory.mktemp("pictured") / "run")


@pytest.fixture(scope="session")
def pictured(pictured_folder):
    """Its page, without figures."""
    return pictures.page_of(pictured_folder)
