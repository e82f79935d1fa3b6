"""The folder that a check leaves: the network, an export, a card, the page and the JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from secateur import pruning
from secateur.decision.figures import curves, front
from secateur.decision.folder import write
from secateur.decision.job import Job
from secateur.decision.trial import Trial
from secateur.decision.verdict import Verdict
from secateur.errors import ExitCode, UserError
from secateur.exports import export
from secateur.models import device_of
from secateur.report.attack_figures import draw_attack
from secateur.report.page import Picture
from secateur.report.plots import Drawing
from secateur.report.theme import svg, themed
from secateur.text import listed
from secateur.untrusted import write_new

PAGE, JSON, NETWORK, ONNX = "check.html", "verdict.json", "network", "network.onnx"
_PIXELS = 96  # CSS pixels per inch


def write_results(
    trial: Trial, job: Job, folder: Path, *, origin: Mapping[str, Any] | None = None
) -> Verdict:
    """Write everything that a check leaves into ``folder``, and return the verdict with its folder.

    Args:
        trial: the network that was chosen.
        job: what was asked.
        folder: of the check.
        origin: how the command line named the network, for later commands.
    """
    verdict = replace(trial.verdict, folder=folder)
    card = "\n".join(["## What was measured", "", *(f"- {sentence}" for sentence in verdict.sentences)])
    pruning.save(trial.model, folder / NETWORK, card=card, origin=origin, overwrite=True)
    if missing := _export(trial, job, folder / ONNX):
        verdict = replace(verdict, notes=(*verdict.notes, missing))
    write(folder / JSON, verdict.to_json())
    page = _render(verdict, job, [*_pictures(trial, job)], exported=not missing)
    write_new(folder / PAGE, page)
    return verdict


def _export(trial: Trial, job: Job, path: Path) -> str:
    """Write the ONNX file; a sentence if that is not possible."""
    example = job.splits.test.x[:1].to(device_of(trial.model))
    try:
        export(trial.model, path, example, before=job.dense, batch_sizes=(), overwrite=True)
    except UserError as error:
        # The check is finished: a missing extra or an operator without ONNX must not lose it.
        if error.code is ExitCode.ENVIRONMENT or "export" in error.message:
            return f"no ONNX file: {error}"
        raise
    return ""


def _pictures(trial: Trial, job: Job) -> Iterator[Picture]:
    with themed():
        yield _picture(curves(trial.dense.attacks, trial.pruned.attacks))
        if trial.verdict.points:
            shown = next((line.key for line in trial.verdict.lines if line.key.startswith("robust")), None)
            yield _picture(front(trial.verdict.points, shown))
        sample = job.sample
        if sample.shape[0] in (1, 3):
            for norm, record in trial.pruned.attacks.items():
                clean, adv = sample.x.numpy(), trial.pruned.adversarial(norm, sample).numpy()
                drawn = draw_attack(record, clean, adv, sample.y.tolist(), sample.classes)
                for drawing in drawn:
                    if drawing.stem == "examples":
                        yield _picture(replace(drawing, title=f"{drawing.title} on the pruned network"))


def _picture(drawing: Drawing) -> Picture:
    width, height = (round(_PIXELS * float(side)) for side in drawing.figure.get_size_inches())
    return Picture(
        drawing.stem, drawing.title, drawing.caption, drawing.alt, svg(drawing.figure), width, height
    )


def _render(verdict: Verdict, job: Job, pictures: list[Picture], *, exported: bool) -> str:
    environment = Environment(
        loader=PackageLoader("secateur.decision"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    style = files("secateur.report").joinpath("templates", "report.css").read_text(encoding="utf-8")
    named = [
        (f"{NETWORK}/", "the pruned network: plan, weights and card; read it with secateur.load"),
        (JSON, "this page as data"),
    ]
    if exported:
        named.append((ONNX, "the pruned network for other runtimes, checked against it"))
    return environment.get_template("check.html.j2").render(
        css=style,
        verdict=verdict,
        pictures=pictures,
        files=named,
        attack=f"{job.attacks.name}, {job.attacks.settings.get('steps', 'its usual number of')} steps",
        grades=listed([f"{grade} ({norm})" for norm, grade in verdict.grades.items()]),
        version=version("secateur"),
    )
