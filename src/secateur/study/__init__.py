"""Studies: the cells of one, what they cost, and the run that computes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secateur.config import load_study
from secateur.engine import EXECUTE
from secateur.registry import load_plugin
from secateur.study.cells import Facts as Facts
from secateur.study.cells import grid as grid
from secateur.study.dataset_facts import facts_to_price as facts_to_price
from secateur.study.dataset_facts import read_facts as read_facts
from secateur.study.forecast import Forecast as Forecast
from secateur.study.forecast import forecast as forecast
from secateur.study.loop import Listener as Listener
from secateur.study.planning import StudyPlan as StudyPlan
from secateur.study.planning import check as check
from secateur.study.planning import plan as plan
from secateur.study.planning import plan_of as plan_of
from secateur.study.running import RunResult as RunResult
from secateur.study.running import join as join
from secateur.study.running import run_plan as run_plan
from secateur.study.state import Status as Status
from secateur.study.state import status as status


def run(
    config: str | Path,
    *,
    out: str | Path | None = None,
    jobs: int = 1,
    limit: int | None = None,
    overrides: Sequence[str] = (),
    on_event: Listener | None = None,
    reuse: Sequence[str | Path] = (),
    execute: str = EXECUTE,
    plugins: Sequence[str | Path] = (),
) -> list[dict[str, Any]]:
    """Run a whole study and return its records in the order of the study, those of failed cells included.

    Finished cells of an earlier run are kept, so that an interrupted study resumes.

    Args:
        config: a study file.
        out: the run folder; by default ``runs/<name of the study>``.
        jobs: how many cells run at a time.
        limit: attack at most this many images, for a trial run.
        overrides: settings that replace those of the file, each ``path.to.key=value``.
        on_event: called with every :class:`~secateur.engine.Event`.
        reuse: other run folders; cells that they share with this study are copied instead of computed.
        execute: the function that computes a cell, ``module:function``.
        plugins: Python files that register what the study names; they are run here and in every worker.

    Raises:
        UserError: every problem of the study file, or a folder of another study.
        KeyboardInterrupt: the run was interrupted; call again to resume.

    >>> records = run("study.yaml", jobs=4)  # doctest: +SKIP
    """
    for path in plugins:
        load_plugin(Path(path))
    study = load_study(config, overrides=overrides)
    folder = Path(out or Path("runs") / study.name)
    outcome = run_plan(
        plan(study, out=folder, limit=limit),
        folder,
        jobs=jobs,
        on_event=on_event,
        execute=execute,
        reuse=reuse,
    )
    if outcome.exit_code >= 128:
        raise KeyboardInterrupt
    return outcome.records
