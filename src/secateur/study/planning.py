"""The plan of a study: every cell, which of them are done, and what the others will cost."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from secateur.config import Cell, Study, refuse, study_of
from secateur.errors import ExitCode, UserError
from secateur.hashing import digest
from secateur.registry import loaded
from secateur.store import Store
from secateur.store.study_file import study_hash_of
from secateur.study.cells import SCIENCE, Facts, grid, is_as_planned
from secateur.study.cost import Clock, Cost, Speed, costs_of
from secateur.study.dataset_facts import known_facts, read_facts, unknown_settings
from secateur.study.footprint import PROCESS_BYTES, image_bytes, largest, network_bytes, picture_bytes
from secateur.study.spelled import without_defaults

# Estimates of what a record holds beside its artefacts, and of what an attack's record adds for each image.
RECORD_BYTES = 8_000
IMAGE_BYTES = 400
# A checkpoint holds weights, momenta and the best weights; two are kept while a third is written, and the
# network is written before it is committed.
CHECKPOINT_COPIES = 3 * 3 + 1


@dataclass(frozen=True)
class StudyPlan:
    """The cells of a study, parents before children, and their cost.

    Attributes:
        study: the settings, limited if ``limited`` is set.
        facts: what the data and weights files contain.
        cells: every cell, parents before children.
        done: ids of the cells that the run folder already holds.
        speeds: measured speed of every model's dense network; empty without a probe.
        limited: the number of attacked images of a trial run, whose numbers are partial; None for all.

    >>> from secateur.config import parse_study
    >>> study = parse_study("{name: small, data: digits, models: {plain: resnet18}, sparsities: [0.5]}")
    >>> facts = Facts("f" * 64, train=1000, validation=100, test=200, shape=(1, 8, 8), classes=10)
    >>> StudyPlan(study, facts, grid(study, facts)).counts
    {'train': 1, 'prune': 1}
    """

    study: Study
    facts: Facts
    cells: tuple[Cell, ...]
    done: frozenset[str] = frozenset()
    speeds: Mapping[str, Speed] = field(default_factory=dict)
    limited: int | None = None

    @cached_property
    def costs(self) -> dict[str, Cost]:
        """The work of every cell, by id."""
        return costs_of(self.cells, self.facts)

    @property
    def todo(self) -> tuple[Cell, ...]:
        """The cells still to run."""
        return tuple(cell for cell in self.cells if cell.id not in self.done)

    @property
    def forwards(self) -> int:
        """Images that will go through a network, at most."""
        return sum(self.costs[cell.id].forwards for cell in self.todo)

    @property
    def backwards(self) -> int:
        """Images that will go through a gradient, at most."""
        return sum(self.costs[cell.id].backwards for cell in self.todo)

    @property
    def counts(self) -> dict[str, int]:
        """Cells by stage."""
        return dict(Counter(cell.stage for cell in self.cells))

    def seconds(self, jobs: int = 1) -> float | None:
        """Estimated time for what is left; None without a probe."""
        if not self.speeds and self.todo:
            return None
        return Clock(self.costs, self.speeds).remaining(self.todo, jobs)

    @property
    def disk_bytes(self) -> int | None:
        """Estimated size of what is left to write, mostly weights; None without a probe.

        It includes the checkpoints of the largest training, which are deleted when it is done.
        """
        if not self.speeds and self.todo:
            return None
        trained = (self._weights(cell) for cell in self.todo if cell.stage in ("train", "tune"))
        return sum(self.bytes_of(cell) for cell in self.todo) + CHECKPOINT_COPIES * largest(trained)

    def memory_bytes(self, jobs: int = 1) -> tuple[int, int] | None:
        """The least memory of this machine and of its GPU that the rest needs; None without a probe.

        Every job holds the images; networks are on the GPU where a study has one. Tensors are counted, not
        what kernels and allocators take beside them, which may be as much again.
        """
        parts = {label: speed.footprint for label, speed in self.speeds.items()}
        if not self.todo or not parts or None in parts.values():
            return None if self.todo else (0, 0)
        networks = largest(
            network_bytes(cell, self.study, self.facts, needs)
            for cell in self.todo
            if (needs := parts[cell.axes["model"]]) is not None
        )
        host = PROCESS_BYTES + image_bytes(self.facts)
        if self.study.device == "cpu":
            return jobs * (host + networks), 0
        return jobs * host, jobs * (image_bytes(self.facts) + networks)

    def bytes_of(self, cell: Cell) -> int:
        """Estimated size of what a cell writes: its record and its artefacts."""
        if cell.stage == "attack":
            images = cell.settings["images"] or self.facts.test
            return RECORD_BYTES + IMAGE_BYTES * images + picture_bytes(self.facts)
        return RECORD_BYTES + self._weights(cell)

    def _weights(self, cell: Cell) -> int:
        # In float32. Weights between two pruned layers shrink on both sides; a few, and zeros, do not.
        kept = 1.0 if cell.masked else 0.05 + 0.95 * (1 - (cell.axes["sparsity"] or 0.0)) ** 2
        return int(4 * self.speeds[cell.axes["model"]].parameters * kept)

    @cached_property
    def study_hash(self) -> str:
        """The hash of the cells and of where they stand."""
        return digest(sorted((cell.id, cell.axes) for cell in self.cells))

    def to_json(self) -> dict[str, Any]:
        """The content of ``study.json``."""
        labels = {"robust": {model: self.study.robust(model) for model in self.study.models}}
        return {
            "name": self.study.name,
            "study_hash": self.study_hash,
            "config": self.study.resolved(),
            "facts": self.facts.to_json(),
            "science": dict(SCIENCE),
            "labels": labels,
            "limited": self.limited,
            # Absent without plug-ins, so that older folders keep their content.
            **({"plugins": used} if (used := _plugins(self.study)) else {}),
            "cells": [cell.to_json() for cell in self.cells],
        }


def plan(
    study: Study,
    *,
    out: str | Path | None = None,
    limit: int | None = None,
    facts: Facts | None = None,
    probe: bool = False,
) -> StudyPlan:
    """Plan a study without running anything.

    Args:
        study: the settings.
        out: a run folder, whose finished cells count as done.
        limit: attack at most this many images, for a trial run.
        facts: what the files contain, if already known.
        probe: time every model for less than a second, to estimate the time of the study.

    Raises:
        UserError: missing data, settings that do not fit the data, the attacks or the models; or ``out``
            belongs to another study.

    >>> from secateur.config import parse_study
    >>> study = parse_study("{name: small, data: digits, models: {plain: resnet18}, sparsities: [0.5]}")
    >>> facts = Facts("f" * 64, train=1000, validation=100, test=200, shape=(1, 8, 8), classes=10)
    >>> [cell.label for cell in plan(study, facts=facts).todo]
    ['train plain/0', 'prune plain/0 l1 0.5']
    """
    if limit is not None:
        study = _limited(study, limit)
    facts = facts or read_facts(study)
    laid = _laid(study, facts, limit, out)
    laid = replace(laid, done=_done(laid, out))
    # Of what is done nobody asks how long it takes.
    labels = {cell.axes["model"] for cell in laid.todo} if probe else set()
    if not labels:
        return laid
    from secateur.study.build_models import measure_speeds  # imports torch, not needed without a probe

    return replace(laid, speeds=measure_speeds(study, facts, labels))


def _laid(study: Study, facts: Facts, limit: int | None, out: str | Path | None) -> StudyPlan:
    """The cells of a study, whose ids do not depend on whether it spells out defaults of attacks.

    Before they did; the folder of a study that began then keeps its ids.
    """
    plain = without_defaults(study, facts)
    laid = StudyPlan(plain, facts, grid(plain, facts), limited=limit)
    if plain is study or out is None or not (Path(out) / "study.json").exists():
        return laid
    spelled = StudyPlan(study, facts, grid(study, facts), limited=limit)
    begun = study_hash_of(Path(out))
    return spelled if begun == spelled.study_hash else laid


def check(study: Study) -> StudyPlan:
    """Find everything that is wrong with a study and count its cells; the ids of the plan mean nothing.

    If nothing in the study depends on the content of a file, none is read and torch is not imported: the
    sizes of official datasets are taken as published. ``plan`` reads them.

    Raises:
        UserError: as ``plan``.

    >>> from secateur.config import parse_study
    >>> check(parse_study("{name: small, data: digits, models: {plain: resnet-tiny}}")).counts
    {'train': 1, 'prune': 4}
    """
    facts = known_facts(study)
    if facts is None:
        facts = read_facts(study)
    elif problems := [*unknown_settings(study, facts.test)]:
        raise refuse(problems)
    return StudyPlan(study, facts, grid(study, facts))


def plan_of(store: Store) -> StudyPlan:
    """The plan of an existing run folder, from its ``study.json``.

    Raises:
        UserError: this version of the software would compute other cells for the same settings.

    >>> import tempfile
    >>> from secateur.config import parse_study
    >>> study = parse_study("{name: small, data: digits, models: {plain: resnet18}, sparsities: [0.5]}")
    >>> facts = Facts("f" * 64, train=1000, validation=100, test=200, shape=(1, 8, 8), classes=10)
    >>> laid = plan(study, facts=facts)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plan_of(Store.create(folder, laid.to_json())).counts
    {'train': 1, 'prune': 1}
    """
    study = study_of(store.study)
    facts = Facts.from_json(store.study["facts"])
    # Compared as sets: the settings in the folder are sorted by label, its cells are in the file's order.
    planned = {cell.id: cell for cell in grid(study, facts)}
    if planned.keys() != {cell.id for cell in store.cells}:
        raise UserError(
            f"{store.root} was planned by another version of secateur, whose numbers differ from this one's",
            hint="use the same version everywhere, or a new folder",
            code=ExitCode.FOREIGN_FOLDER,
        )
    # An id is a hash of settings: with others beside it, somebody else has written the file.
    if odd := [cell for cell in store.cells if not is_as_planned(cell, planned[cell.id])]:
        raise UserError(
            f"{store.root} holds other settings than its study for {len(odd)} cells, such as {odd[0].label}",
            hint="use a new folder",
            code=ExitCode.FOREIGN_FOLDER,
        )
    return StudyPlan(study, facts, store.cells, limited=store.study["limited"])


def _plugins(study: Study) -> list[dict[str, Any]]:
    """The plug-ins that register what the study names."""
    used = {("dataset", study.data.spec.partition(":")[0])}
    used |= {("criterion", name) for name in study.criteria}
    used |= {("model", model.arch) for model in study.models.values()}
    used |= {("attack", attack.attack) for attack in study.attacks.values()}
    return [plugin.to_json() for plugin in loaded() if used & set(plugin.names)]


def _done(laid: StudyPlan, out: str | Path | None) -> frozenset[str]:
    if out is None or not (Path(out) / "study.json").exists():
        return frozenset()
    store = Store.matching(out, laid.to_json, study_hash=laid.study_hash)
    done = frozenset(cell.id for cell in laid.cells if store.look(cell.id).ok)
    store.keep_index()
    return done


def _limited(study: Study, limit: int) -> Study:
    if limit < 1:
        raise UserError(f"the limit must be at least 1, not {limit}")
    images = limit if study.images is None else min(limit, study.images)
    return study.model_copy(update={"images": images})
