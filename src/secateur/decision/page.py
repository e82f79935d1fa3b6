"""The folder that a check leaves: the network, an export, a card, the page and the JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from secateur import pruning
from secateur.data import Dataset
from secateur.decision.figures import curves, front
from secateur.decision.folder import write
from secateur.decision.job import Job
from secateur.decision.lines import Line
from secateur.decision.network import Measured
from secateur.decision.trial import Trial
from secateur.decision.verdict import Verdict
from secateur.errors import ExitCode, UserError
from secateur.exports import export
from secateur.models import place_of
from secateur.registry import HUB
from secateur.report.examples import RULE, Attacked, Cards, example_cards, typical_places
from secateur.report.formatting import NORM_LABELS, attack_label
from secateur.report.hub_card import Metric, front_matter
from secateur.report.page import Picture
from secateur.report.plots import Drawing
from secateur.report.theme import WIDTH, svg, themed
from secateur.stats import wilson
from secateur.store import Examples
from secateur.text import listed
from secateur.untrusted import write_new

PAGE, JSON, NETWORK, ONNX = "check.html", "verdict.json", "network", "network.onnx"
PICTURES = 4
"""Images in a norm."""
_PIXELS = 96  # CSS pixels per inch
# Figures as wide as a paper's page fill the column; the others are enlarged as much: texts are alike.
_ENLARGED = 56 * 16 / (_PIXELS * WIDTH)


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
    front = front_matter(
        verdict.title.partition(";")[0],
        [*_metrics(verdict, job)],
        data=job.images.test.name,
        base=_base(str((origin or {}).get("model", ""))),
    )
    pruning.save(trial.model, folder / NETWORK, card=card, front=front, origin=origin, overwrite=True)
    if missing := _export(trial, job, folder / ONNX):
        verdict = replace(verdict, notes=(*verdict.notes, missing))
    write(folder / JSON, verdict.to_json())
    page = _render(verdict, job, [*_pictures(trial, job)], [*_examples(trial, job)], exported=not missing)
    write_new(folder / PAGE, page)
    return verdict


def _metrics(verdict: Verdict, job: Job) -> Iterator[Metric]:
    """Accuracy and robust accuracies of the pruned network, each with its images and its 95 % interval."""
    for line in verdict.lines:
        if line.kind != "share" or line.pruned is None or not line.n:
            continue
        low, high = wilson(round(line.pruned * line.n), line.n)
        facts: dict[str, Any] = {"n": line.n, "low": low, "high": high}
        kind = "accuracy"
        if line.key != kind:
            kind, norm, size = line.key.split(" ")
            kind = "robust_accuracy"
            facts |= {"attack": job.attacks.name, "norm": norm, "epsilon": float(size)}
        yield Metric(kind, f"{line.name[0].upper()}{line.name[1:]}", line.pruned, facts)


def _base(model: str) -> str:
    """The model of the hub that ``--model`` names; "" for others, folders among them."""
    name = model.removeprefix(HUB).partition("@")[0]
    return name if model.startswith(HUB) and not Path(name).expanduser().is_dir() else ""


def _export(trial: Trial, job: Job, path: Path) -> str:
    """Write the ONNX file; a sentence if that is not possible."""
    example = job.images.example.to(*place_of(trial.model, job.images.example))
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
            yield _picture(front(trial.verdict.points, _shares(trial, job)))


def _shares(trial: Trial, job: Job) -> list[Line]:
    """Accuracy, and the robust accuracy that says most: of a limit, else the closest to half of it."""
    accuracy = trial.verdict.line("accuracy")
    limited = {f"robust {limit.norm} {limit.eps:.4g}" for limit in job.limits.min_robust}
    lines = [line for line in trial.verdict.lines if line.key.startswith("robust ")]
    lines = [line for line in lines if line.key in limited] or lines
    half = (accuracy.dense or 0.0) / 2
    return [accuracy, *sorted(lines, key=lambda line: abs((line.dense or 0.0) - half))[:1]]


def _examples(trial: Trial, job: Job) -> Iterator[Cards]:
    """Adversarial pictures of both networks, by norm; nothing of data that are no pictures."""
    sample = job.sample
    if sample.x.ndim != 4 or sample.shape[0] not in (1, 3):
        return
    networks = {"dense": trial.dense, "pruned": trial.pruned}
    for norm in trial.pruned.attacks:
        records = {name: each.attacks[norm] for name, each in networks.items()}
        found = np.array([[o == "found" for o in record["outcome"]] for record in records.values()])
        distances = np.array(records["dense"]["distances"][norm], dtype=np.float64)
        # Only these are made into pictures: all of them may be many and large.
        places = typical_places(found, distances, range(sample.n))[:PICTURES]
        if places:
            shown = [
                Attacked.of_record(name, record, _kept(networks[name], norm, sample, places))
                for name, record in records.items()
            ]
            cards = tuple(example_cards(shown, most=PICTURES))
            yield Cards(attack_label(job.attacks.name, norm), job.attacks.name, "", cards)


def _kept(network: Measured, norm: str, sample: Dataset, places: list[int]) -> Examples:
    clean, adversarial = (
        each[places].cpu().numpy() for each in (sample.x, network.adversarial(norm, sample))
    )
    return Examples.of(clean, adversarial, places, sample.classes, bounds=sample.bounds)


def _picture(drawing: Drawing) -> Picture:
    width, height = (round(_PIXELS * float(side)) for side in drawing.figure.get_size_inches())
    return Picture(
        drawing.stem, drawing.title, drawing.caption, drawing.alt, svg(drawing.figure), width, height
    )


def _render(
    verdict: Verdict, job: Job, pictures: list[Picture], examples: list[Cards], *, exported: bool
) -> str:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("secateur.decision"), PackageLoader("secateur.report")]),
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
        enlarged=_ENLARGED,
        examples=examples,
        example_rule=RULE,
        files=named,
        attack=f"{job.attacks.name}, {job.attacks.settings.get('steps', 'its usual number of')} steps",
        grades=listed([f"{grade} ({NORM_LABELS[norm]})" for norm, grade in verdict.grades.items()]),
        version=version("secateur"),
    )
