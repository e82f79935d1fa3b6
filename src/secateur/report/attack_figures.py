"""Figures of one attack, from its record and the images: adversarial examples, and robust accuracy."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from secateur.budgets import written
from secateur.errors import UserError
from secateur.kinds import is_number
from secateur.report.axes import percent_axis
from secateur.report.formatting import NORM_LABELS, attack_label, number
from secateur.report.plots import Drawing
from secateur.report.theme import PALETTE, SOFT, WIDTH, label, themed
from secateur.stats import ENOUGH_IMAGES, wilson
from secateur.untrusted import cleared

Images = npt.NDArray[np.floating[Any]]
COLUMNS = 8
"""Examples in the figure."""
POINTS = 241
"""Budgets of the curve."""


def draw_attack(
    record: Mapping[str, Any], clean: Images, adv: Images, labels: Sequence[int], classes: Sequence[str]
) -> list[Drawing]:
    """The figures of an attack: adversarial examples, if there are any, and robust accuracy by budget.

    A minimum-norm attack has a security curve. A fixed-size attack has a point with its interval at every
    size that it tried, joined by a line if there are several.

    Args:
        record: the output of ``Evaluated.to_json``. Without ``sizes`` (older versions), the record of a
            fixed-size attack must have its size in ``settings``.
        clean: the attacked images [N, C, H, W] in the ``bounds`` of the record, C = 1 or 3; where the record
            says that only some examples were ``kept``, those images.
        adv: the adversarial images, of the same shape.
        labels: true classes [N].
        classes: their names.

    Raises:
        UserError: the record of a fixed-size attack does not hold the size.
    """
    with themed():
        drawn = [_draw_sizes(record) if record.get("kind") == "fixed-eps" else _draw_curve(record)]
        chosen = _examples_by_distance(record)
        if len(chosen) and clean.shape[1] in (1, 3):
            kept = {image: row for row, image in enumerate(_kept(record))}
            rows = [kept[image] for image in chosen]
            pixels = (_unit(record, clean[rows]), _unit(record, adv[rows]))
            drawn.insert(0, _draw_examples(record, *pixels, [labels[i] for i in chosen], chosen, classes))
        for drawing in drawn:
            drawing.figure.draw_without_rendering()
    return drawn


def save_attack(drawings: Sequence[Drawing], folder: Path) -> list[Path]:
    """Write every drawing as PNG and SVG into ``folder``, which is created if it does not exist."""
    return save_figures({drawing.stem: drawing.figure for drawing in drawings}, folder)


def save_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write figures as PNG and SVG under their names into ``folder``, which is created if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with themed():
        for stem, figure in figures.items():
            for kind, facts in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
                written.append(cleared(folder / f"{stem}.{kind}"))
                figure.savefig(written[-1], metadata=facts)
    return written


def _examples_by_distance(record: Mapping[str, Any]) -> list[int]:
    """Indices of found images from the smallest to the largest distance, evenly over their ranks."""
    distances = record["distances"][record["norm"]]
    found = [i for i in _kept(record) if record["outcome"][i] == "found"]
    found.sort(key=lambda i: distances[i])
    ranks = np.linspace(0, len(found) - 1, min(COLUMNS, len(found))).round().astype(int)
    return [found[rank] for rank in ranks]


def _kept(record: Mapping[str, Any]) -> Sequence[int]:
    """The images whose examples are there, in the order of the examples."""
    kept: Sequence[int] | None = record.get("kept")
    return range(len(record["outcome"])) if kept is None else kept


def _draw_examples(
    record: Mapping[str, Any],
    clean: Images,
    adv: Images,
    labels: Sequence[int],
    chosen: Sequence[int],
    classes: Sequence[str],
) -> Drawing:
    norm, n = record["norm"], len(chosen)
    figure = Figure(figsize=(WIDTH, 3.1))
    panels = figure.subplots(3, COLUMNS, squeeze=False)
    for column in range(COLUMNS):
        for axes in panels[:, column]:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.set_axis_off() if column >= n else axes.grid(visible=False)
    for column, index in enumerate(chosen):
        delta = adv[column] - clean[column]
        # The largest change of a pixel becomes black or white; 1e-12 avoids a division by zero.
        gain = 0.5 / max(float(np.abs(delta).max()), 1e-12)
        for axes, image in zip(
            panels[:, column], (clean[column], adv[column], 0.5 + gain * delta), strict=True
        ):
            _show(axes, image)
        become = classes[record["adv_preds"][index]]
        panels[0, column].set_title(label(classes[labels[column]], longest=11), fontweight="normal")
        panels[1, column].set_title(f"→ {label(become, longest=9)}", color=PALETTE[1])
        size = number(record["distances"][norm][index])
        panels[2, column].set_title(f"{NORM_LABELS[norm]} {size}", color=SOFT, fontweight="normal")
        panels[2, column].set_xlabel(f"×{number(2 * gain)}", color=SOFT, fontsize=6)
    for axes, word in zip(panels[:, 0], ("clean", "adversarial", "perturbation"), strict=True):
        axes.set_ylabel(word)
    name = attack_label(record["attack"], norm)
    return Drawing(
        "examples",
        f"{label(name)}: adversarial examples",
        f"{n} of the {sum(o == 'found' for o in record['outcome'])} examples found, from the smallest to the "
        "largest distance. Perturbations are magnified by the factor below them; middle grey is no change.",
        f"{n} images: clean, adversarial, and the magnified perturbation.",
        figure,
    )


def _show(axes: Axes, image: Images) -> None:
    pixels = np.clip(np.moveaxis(image, 0, -1), 0, 1)
    if pixels.shape[-1] == 1:
        axes.imshow(pixels[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(pixels, interpolation="nearest")


def _unit(record: Mapping[str, Any], images: Images) -> Images:
    """Images scaled from the record's bounds to [0, 1]."""
    low, high = record.get("bounds", (0.0, 1.0))
    return np.asarray((images - low) / (high - low), dtype=images.dtype)


def _draw_sizes(record: Mapping[str, Any]) -> Drawing:
    n = len(record["outcome"])
    eps, robust = _at_sizes(record)
    bounds = np.array([wilson(count, n) for count in robust])
    shares = np.array(robust) / n
    unreliable = record["grade"] in "CX"
    figure, axes = _share_panel(record)
    axes.errorbar(
        eps, shares, yerr=np.abs(bounds.T - shares), fmt="o", ms=4, lw=1, capsize=2, color=PALETTE[0],
        ls=("" if len(eps) == 1 else ":" if unreliable else "-"),
    )  # fmt: skip
    _budget_range(axes, record, 1.15 * eps[-1])
    written = ", ".join(_written(record, size) for size in eps)
    share = _share(record)
    return Drawing(
        "curve",
        f"{_name(record)}: {share} at the sizes that were tried",
        f"{share.capitalize()} of {n} images at ε = {written}, an upper bound at these sizes; no other size "
        f"was tried. Bars: 95 % Wilson intervals.{_explained(record)}",
        f"{share.capitalize()} at ε = {written}: {', '.join(f'{value:.0%}' for value in shares)}.",
        figure,
    )


def _at_sizes(record: Mapping[str, Any]) -> tuple[list[float], list[int]]:
    """The sizes ε of a fixed-size attack, and the number of robust images at each."""
    wrong = [outcome == "already_wrong" for outcome in record["outcome"]]
    sizes = record.get("sizes")
    if sizes is None:
        eps = record.get("settings", {}).get("eps")
        if not is_number(eps):
            raise UserError(
                f"the record of '{record['attack']}' does not hold the size ε of the attack",
                hint="run the attack again: records of this version hold it",
            )
        sizes = [{"eps": eps, "found": [outcome == "found" for outcome in record["outcome"]]}]
    counts = [
        sum(not (bad or fell) for bad, fell in zip(wrong, each["found"], strict=True)) for each in sizes
    ]
    return [float(each["eps"]) for each in sizes], counts


def _written(record: Mapping[str, Any], eps: float) -> str:
    low, high = record.get("bounds", (0.0, 1.0))
    return written(eps, record["norm"], levels=record.get("levels"), bounds=(low, high))


def _name(record: Mapping[str, Any]) -> str:
    return label(attack_label(record["attack"], record["norm"]))


def _share(record: Mapping[str, Any]) -> str:
    return "target not reached" if record.get("targeted") else "robust accuracy"


def _explained(record: Mapping[str, Any]) -> str:
    """For a targeted attack, a sentence on what its share means."""
    text = record.get("summary", {}).get("targeted", "")
    return f" {text[0].upper()}{text[1:]}." if text else ""


def _share_panel(record: Mapping[str, Any]) -> tuple[Figure, Axes]:
    """An empty panel for a share against the budget, with its title."""
    n, norm = len(record["outcome"]), record["norm"]
    attacked = sum(outcome != "already_wrong" for outcome in record["outcome"])
    figure = Figure(figsize=(0.55 * WIDTH, 2.5))
    axes = figure.subplots()
    axes.set_ylim(-0.02, 1.02)
    percent_axis(axes.yaxis)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _written(record, value)))
    axes.set_xlabel(f"perturbation budget ε ({NORM_LABELS[norm]})")
    axes.set_ylabel(_share(record))
    few = ": too few images" if attacked < ENOUGH_IMAGES else ""
    caveat = ": unreliable" if record["grade"] in "CX" else few
    axes.set_title(f"{_name(record)}, {n} images, grade {record['grade']}{caveat}")
    return figure, axes


def _budget_range(axes: Axes, record: Mapping[str, Any], top: float) -> None:
    """Set the range of budgets to [0, ``top``]; for 8-bit images and L∞ with ticks at round grey levels."""
    axes.set_xlim(0, top)
    # Matplotlib's own ticks would be at fractions of a grey level.
    if _written(record, top).endswith("/255"):
        levels = MaxNLocator(6, steps=[1, 2, 4, 5, 8, 10]).tick_values(0, 255 * top)
        axes.set_xticks([level / 255 for level in levels if level <= 255 * top])


def _draw_curve(record: Mapping[str, Any]) -> Drawing:
    norm, n = record["norm"], len(record["outcome"])
    stored = record["distances"][norm]
    distances = np.array([math.inf if value is None else value for value in stored], dtype=float)
    finite = distances[np.isfinite(distances)]
    # A few far outliers would compress the rest of the curve.
    top = (float(np.quantile(finite, 0.97)) if finite.size else 0.0) or 1.0
    eps = np.linspace(0, 1.03 * top, POINTS)
    robust = (distances[None, :] > eps[:, None]).sum(1)
    bounds = np.array([wilson(int(k), n) for k in robust])
    figure, axes = _share_panel(record)
    unreliable = record["grade"] in "CX"
    axes.fill_between(eps, bounds[:, 0], bounds[:, 1], color=PALETTE[0], alpha=0.15, lw=0, step="post")
    # The exact curve is a step function: it changes only at the distance of an image.
    axes.step(
        eps, robust / n, where="post", color=PALETTE[0], lw=1.4, ls=(0, (1, 1.5)) if unreliable else "-"
    )
    _budget_range(axes, record, float(eps[-1]))
    share = _share(record).capitalize()
    return Drawing(
        "curve",
        f"{_name(record)}: security curve",
        f"{share} of {n} images: the share for which no adversarial example within ε was found, an upper "
        f"bound. Band: 95 % Wilson interval.{_explained(record)}",
        f"{share} falls from {robust[0] / n:.0%} as the budget grows.",
        figure,
    )
