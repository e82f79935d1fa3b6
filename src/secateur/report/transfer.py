"""The transfer matrix as a figure and a table, from its record."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from secateur.report.formatting import Column, Table, named_columns, to_csv
from secateur.report.plots import Drawing
from secateur.report.theme import INK, PAPER, SOFT, WIDTH, label, save, themed
from secateur.untrusted import write_new

SQUARE = 0.24  # inches
# With more networks the numbers inside the squares would be too small to read.
NUMBERED = 24


def write_transfer(record: Mapping[str, Any], folder: Path | str) -> tuple[Path, ...]:
    """Write ``transfer-ATTACK-NORM`` as ``.json``, ``.csv``, ``.png`` and ``.pdf``; returns the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"transfer-{record['attack']}-{record['norm']}"
    texts = {
        ".json": json.dumps(record, indent=1, allow_nan=False) + "\n",
        ".csv": to_csv(transfer_table(record)),
    }
    for suffix, text in texts.items():
        write_new(stem.with_suffix(suffix), text)
    with themed():
        figures = save(draw_transfer(record).figure, folder, stem.name)
    return (*(stem.with_suffix(suffix) for suffix in texts), *figures)


def transfer_table(record: Mapping[str, Any]) -> Table:
    """One row per pair of networks: images, and how many of the examples transfer."""
    names = [each["label"] for each in record["networks"]]
    keys = ("eligible", "fooled", "share", "low", "high")
    rows = [
        (source, target, *(record[key][i][j] for key in keys))
        for i, source in enumerate(names)
        for j, target in enumerate(names)
    ]
    heads = (
        Column("source", "found on", "text"),
        Column("target", "tested on", "text"),
        Column("eligible", "images", "plain"),
        *named_columns("fooled", "plain"),
        *named_columns("share low high", "percent"),
    )
    title = f"{record['study']}: {record['attack']} examples of one network, tested on another"
    return Table("transfer", title, heads, tuple(rows))


def draw_transfer(record: Mapping[str, Any]) -> Drawing:
    """A square per pair: the share of the row's examples that fool the column; blank without any image."""
    names = [label(each["label"], longest=40) for each in record["networks"]]
    share = np.array([[np.nan if s is None else s for s in row] for row in record["share"]])
    # Few networks need room for the title, many have to fit on a page.
    side = min(max(SQUARE * len(names), 2.2), WIDTH - 2)
    figure = Figure(figsize=(side + 2.6, side + 2.0))
    axes = figure.subplots()
    image = axes.imshow(share, vmin=0, vmax=1, cmap="cividis")
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=90)
    axes.set_yticks(ticks, names)
    axes.set(xlabel="tested on", ylabel="found on")
    axes.grid(visible=False)
    if len(names) <= NUMBERED:
        for (i, j), value in np.ndenumerate(share):
            text = "" if np.isnan(value) else f"{100 * value:.0f}"
            # Dark text on light squares, and the reverse.
            axes.text(j, i, text, ha="center", va="center", size=5.5, color=INK if value > 0.55 else PAPER)
    bar = figure.colorbar(image, ax=axes, shrink=0.7)
    bar.set_label("share fooled", color=SOFT)
    deeper = "" if record["scale"] == 1 else f", times {record['scale']:g}"
    title = f"{record['attack']} examples ({record['norm']}{deeper}) of one network, tested on another"
    caption = (
        f"Share in per cent, of at most {record['images']} images: adversarial examples found on the row's "
        "network whose clean image the column's network classifies correctly."
    )
    return Drawing(f"transfer-{record['attack']}-{record['norm']}", title, caption, title, figure)
