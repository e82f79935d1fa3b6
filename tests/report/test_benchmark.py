"""benchmarks/report_speed.py: its folders are read as studies, its table replaces that of docs/reports.md."""

import importlib.util
from pathlib import Path

import pytest

from report.synthetic import Grid, write
from secateur.report.load import load

ROOT = Path(__file__).parents[2]
ROW = {"records": 10500, "figures": 38, "cpu": 40.04, "wall": 21.0, "page": 6_000_000, "mib": 1234.5}


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("report_benchmark", ROOT / "benchmarks" / "report_speed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_copies_are_further_models_and_seeds_of_the_study(benchmark, tmp_path):
    small = Grid(models={"plain": False}, criteria=("l1",), sparsities=(0.0, 0.5), images=40, failed=())
    source = write(tmp_path / "source", small)
    study = load(benchmark.grown(source, tmp_path / "grown", models=2, seeds=3))
    own = load(source)
    assert not study.holes
    # Two seeds became three, one model two.
    assert len(study.attacks) == 3 * len(own.attacks)
    assert {(attack.axes.model, attack.axes.seed) for attack in study.attacks} == {
        (model, seed) for model in ("plain", "plain-2") for seed in range(3)
    }
    assert len({attack.network.science.weights_hash for attack in study.attacks}) == len(study.networks)


def test_the_table_of_the_page_is_written_anew_and_nothing_else(benchmark):
    page = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
    written = benchmark.rewritten(page, [ROW])
    assert "| 10,500 | 38 | 40.0 s | 21.0 s | 6.00 MB | 1,234 MiB |\n<!-- end -->" in written
    before, after = page.index(benchmark.BEGIN), page.index(benchmark.END)
    assert written.startswith(page[:before])
    assert written.endswith(page[after:])
    assert benchmark.rewritten(written, [ROW]) == written
