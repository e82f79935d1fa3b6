"""Which papers a study stands on: BibTeX of the attacks, criteria, trainings and data that it really uses."""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from secateur.registry import ATTACKS, CRITERIA
from secateur.report.aggregate import Grid

# What a study calls a thing -> its entry in templates/references.bib; empty where there is no paper to name.
_ENTRIES: dict[str, dict[str, str]] = {
    "attack": {
        "ddn": "rony2019",
        "fmn": "pintor2021",
        "apgd": "croce2020",
        "sigma_zero": "cina2025",
        "pdpgd": "matyasko2021",
        "pgd": "madry2018",
    },
    "criterion": {
        "l1": "li2017",
        "l2": "",
        "random": "",
        "group_norm": "fang2023",
        "bn_scale": "liu2017",
        "fpgm": "he2019",
        "lamp": "lee2021",
        "taylor": "molchanov2019",
        "robust_taylor": "molchanov2019",
        "hessian": "lecun1990",
        "activation": "hu2016",
    },
    "penalty": {
        "bn_scale": "liu2017",
        "group_lasso": "",
        "group_norm": "fang2023",
        "growing_reg": "wang2021",
    },
    "adversary": {"madry": "madry2018", "trades": "zhang2019"},
    "dataset": {"digits": "alpaydin1998", "cifar10": "krizhevsky2009", "cifar100": "krizhevsky2009"},
    "training": {"distillation": "hinton2015"},
    "zoo": {"robustbench": "croce2021"},
}


def bibliography(grid: Grid) -> str:
    """BibTeX entries in the order of their keys; what has no known reference is named in a comment."""
    entries = _entries()
    used = dict.fromkeys(_used(grid))
    keys = {_ENTRIES[kind].get(name, "") for kind, name in used} | ({"fang2023"} if grid.criteria else set())
    unknown = [_unknown(kind, name) for kind, name in used if name not in _ENTRIES[kind]]
    notes = "".join(f"% No reference is known here for: {' '.join(text.split())}\n" for text in unknown)
    return notes + "\n".join(entries[key] for key in sorted(filter(None, keys)))


def _unknown(kind: str, name: str) -> str:
    """A name, and what its registration says about it: often the paper."""
    known = {"attack": ATTACKS, "criterion": CRITERIA}.get(kind)
    said = [entry.summary for entry in known.entries() if entry.name == name] if known else []
    return ": ".join([f"{kind} {name}", *said])


def _used(grid: Grid) -> Iterator[tuple[str, str]]:
    for attack in grid.study.attacks:
        yield "attack", attack.method
    for criterion in grid.criteria:
        yield "criterion", criterion
    if spec := grid.study.config.get("data", {}).get("spec"):
        yield "dataset", str(spec).split(":")[0]
    yield from _trainings(grid.study.config)


def _trainings(value: Any) -> Iterator[tuple[str, str]]:
    """Whatever the recipes of a study, wherever they stand in it, build on."""
    if not isinstance(value, Mapping):
        return
    for key, item in value.items():
        if isinstance(item, Mapping):
            if key == "adversary":
                yield "adversary", str(item.get("method", "madry"))
            elif key == "penalty":
                yield "penalty", str(item.get("kind"))
            elif key == "distillation":
                yield "training", "distillation"
            yield from _trainings(item)
        elif key == "arch" and str(item).startswith("robustbench:"):
            yield "zoo", "robustbench"


def _entries() -> dict[str, str]:
    text = files("secateur.report").joinpath("templates", "references.bib").read_text(encoding="utf-8")
    found = (entry.strip() + "\n" for entry in text.split("\n\n"))
    return {re.split(r"[{,]", entry, maxsplit=2)[1]: entry for entry in found}
