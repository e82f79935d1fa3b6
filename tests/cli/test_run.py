from report.synthetic import Grid, write
from secateur import study
from secateur.report import figures
from secateur.store import Store
from secateur.study import RunResult

SMALL = Grid(name="seen", models={"plain": False}, sparsities=(0.0, 0.4), criteria=("l1",), failed=())
CONFIG = "name: seen\ndata: digits\nmodels: {plain: {arch: resnet-tiny}}\n"


def test_a_run_ends_with_its_report_in_the_report_folder_whether_out_is_named_or_not(
    secateur, tmp_path, monkeypatch
):
    """The cells are made up; where the run puts its report is not."""

    def finished(laid, folder, **_):
        write(folder, SMALL)
        return RunResult(Store.open(folder), exit_code=0, ok=8, failed={}, seconds=1.0)

    monkeypatch.setattr(study, "run_plan", finished)
    # Drawing is what a report takes its time for.
    monkeypatch.setattr(figures, "plans", lambda grid, change: [])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(CONFIG)
    for options, folder in (((), "runs/seen"), (("--out", "elsewhere"), "elsewhere")):
        said = secateur("run", "study.yaml", *options, "--progress", "none")
        assert said.code == 0
        assert (tmp_path / folder / "report" / "index.html").exists()
        assert not (tmp_path / folder / "index.html").exists()
        assert f"{folder}/report/index.html" in said.out.replace("\n", "")
