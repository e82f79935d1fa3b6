"""Pictures of one attack, from its record and the images: a grid of examples, and the security curve."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from secateur.report.panels import Drawing, percent_axis
from secateur.report.theme import PALETTE, SOFT, WIDTH, label, themed
from secateur.report.words import NORM_LABELS, attack_label, number
from secateur.stats import wilson

Images = npt.NDArray[np.floating[Any]]
COLUMNS = 8
"""Examples in the grid."""
POINTS = 241


def draw_attack(
    record: Mapping[str, Any], clean: Images, adv: Images, labels: Sequence[int], classes: Sequence[str]
) -> list[Drawing]:
    """The pictures of an attack: the grid of examples, if there are any, and the security curve.

    Args:
        record: what ``Evaluated.to_json`` says.
        clean: the attacked images [N, C, H, W] in [0, 1], C = 1 or 3.
        adv: what the attack made of them.
        labels: true classes [N].
        classes: their names.
    """
    with themed():
        drawn = [_curve(record)]
        chosen = _spread(record)
        if len(chosen) and clean.shape[1] in (1, 3):
            drawn.insert(
                0, _grid(record, clean[chosen], adv[chosen], [labels[i] for i in chosen], chosen, classes)
            )
        for drawing in drawn:
            drawing.figure.draw_without_rendering()
    return drawn


def save_attack(drawings: Sequence[Drawing], folder: Path) -> list[Path]:
    """Write every drawing as PNG and SVG into ``folder``, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with themed():
        for drawing in drawings:
            for kind, facts in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
                written.append(folder / f"{drawing.stem}.{kind}")
                drawing.figure.savefig(written[-1], metadata=facts)
    return written


def _spread(record: Mapping[str, Any]) -> list[int]:
    """Found images from the nearest to the farthest example, evenly over their ranks."""
    distances = record["distances"][record["norm"]]
    found = [i for i, outcome in enumerate(record["outcome"]) if outcome == "found"]
    found.sort(key=lambda i: distances[i])
    places = np.linspace(0, len(found) - 1, min(COLUMNS, len(found))).round().astype(int)
    return [found[place] for place in places]


def _grid(
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
        panels[2, column].set_xlabel(f"×{2 * gain:.3g}", color=SOFT, fontsize=6)
    for axes, word in zip(panels[:, 0], ("clean", "adversarial", "perturbation"), strict=True):
        axes.set_ylabel(word)
    name = attack_label(record["attack"], norm)
    return Drawing(
        "examples",
        f"{label(name)}: adversarial examples",
        f"{n} of the {sum(o == 'found' for o in record['outcome'])} examples found, from the nearest to the "
        "farthest. Perturbations are magnified by the factor below them; middle grey is no change.",
        f"A grid of {n} images: clean, adversarial, and the magnified perturbation.",
        figure,
    )


def _show(axes: Axes, image: Images) -> None:
    pixels = np.clip(np.moveaxis(image, 0, -1), 0, 1)
    if pixels.shape[-1] == 1:
        axes.imshow(pixels[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(pixels, interpolation="nearest")


def _curve(record: Mapping[str, Any]) -> Drawing:
    norm, n = record["norm"], len(record["outcome"])
    stored = record["distances"][norm]
    distances = np.array([math.inf if value is None else value for value in stored], dtype=float)
    finite = distances[np.isfinite(distances)]
    top = (float(np.quantile(finite, 0.97)) if finite.size else 0.0) or 1.0
    eps = np.linspace(0, 1.03 * top, POINTS)
    robust = (distances[None, :] > eps[:, None]).sum(1)
    bounds = np.array([wilson(int(k), n) for k in robust])
    figure = Figure(figsize=(0.55 * WIDTH, 2.5))
    axes = figure.subplots()
    unreliable = record["grade"] in "CX"
    axes.fill_between(eps, bounds[:, 0], bounds[:, 1], color=PALETTE[0], alpha=0.15, lw=0, step="post")
    axes.step(
        eps, robust / n, where="post", color=PALETTE[0], lw=1.4, ls=(0, (1, 1.5)) if unreliable else "-"
    )
    axes.set_xlim(0, eps[-1])
    axes.set_ylim(-0.02, 1.02)
    percent_axis(axes.yaxis)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(f"perturbation budget ε ({NORM_LABELS[norm]})")
    axes.set_ylabel("robust accuracy")
    name = attack_label(record["attack"], norm)
    doubt = ": unreliable" if unreliable else ""
    axes.set_title(f"{label(name)}, {n} images, grade {record['grade']}{doubt}")
    return Drawing(
        "curve",
        f"{label(name)}: security curve",
        f"Robust accuracy of {n} images: the share for which no example within ε was found, an upper bound. "
        "Band: 95 % Wilson interval.",
        f"Robust accuracy falls from {robust[0] / n:.0%} as the budget grows.",
        figure,
    )
