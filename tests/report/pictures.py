"""Studies whose attacks kept a few images and their adversarial examples, and the pages of them."""

import numpy as np

from report.synthetic import Grid
from report.synthetic import write as write_grid
from secateur.report import page as page_module
from secateur.report.aggregate import aggregate
from secateur.report.examples import study_cards
from secateur.report.linked import page_arms
from secateur.report.load import examples_of, load
from secateur.report.paired_changes import changes
from secateur.report.summary import summary
from secateur.store import EXAMPLES, Examples, evenly

CLASSES = ("cat", "<script>alert('x')</script>", *"cdefghij")
N = 100
SETTINGS = {
    "models": {"plain": False, "robust": True},
    "criteria": ("l1", "random"),
    "attacks": {"ddn": 2.0},
    "seeds": (0,),
    "failed": (),
    "images": N,
}


def kept(cell):
    """Images whose grey level is their place, changed in one corner the more the sparser the network is."""
    if cell["stage"] != "attack":
        return {}
    places = evenly(N)
    clean = np.zeros((len(places), 1, 8, 8)) + np.array(places).reshape(-1, 1, 1, 1) / 255
    adv = clean.copy()
    adv[:, :, 0, 0] += 0.1 * (1 + cell["axes"]["sparsity"])
    return {EXAMPLES: Examples.of(clean, adv, places, CLASSES, bounds=(0.0, 1.0)).to_bytes()}


def labelled(cell, science):
    if cell["stage"] == "attack":
        science |= {"labels": [i % 10 for i in range(N)], "adv_preds": [(i + 1) % 10 for i in range(N)]}
    return science


def write(folder, **changed):
    return write_grid(folder, Grid(**{"edit": labelled, "artefacts": kept, **SETTINGS, **changed}))


def shown(folder):
    grid = aggregate(load(folder))
    return grid, *study_cards(grid, page_arms(grid), examples_of(folder))


def page_of(folder):
    grid, *found = shown(folder)
    change = changes(grid)
    return page_module.render(
        grid, change, [], summary(grid, change), run_folder="run", examples=tuple(found)
    )
