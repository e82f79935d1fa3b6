"""What a study takes of a machine: memory while it runs, and room on the disk; and what there is of both."""

import math
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from secateur.config import Cell, Study
from secateur.errors import ExitCode, UserError
from secateur.recipes import Recipe
from secateur.study.cells import Facts
from secateur.study.cost import Footprint

# A process with torch and nothing else, on Linux; others are within a factor of two.
PROCESS_BYTES = 350_000_000
FLOAT_BYTES = 4
# Weights, their gradients and momenta, the best so far, and one copy of all that for a checkpoint.
TRAINED_COPIES = 7
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def image_bytes(facts: Facts) -> int:
    """The images of all three parts, as every worker holds them."""
    return (facts.train + facts.validation + facts.test) * math.prod(facts.shape) * FLOAT_BYTES


def picture_bytes(facts: Facts) -> int:
    """The pictures that an attack keeps beside its record: per pixel a grey level, and its change in half."""
    from secateur.store.examples import KEPT, LONGEST_SIDE  # imports numpy

    return 3 * KEPT * math.prod(min(side, LONGEST_SIDE) for side in facts.shape)


def network_bytes(cell: Cell, study: Study, facts: Facts, needs: Footprint) -> int:
    """What a cell's network takes while it is trained, attacked or evaluated, beside the images.

    Batches of attacks, and of networks without batch normalisation, are halved where they do not fit; this is
    for whole ones.
    """
    from secateur.models import evaluation_batch  # imports torch, which the probe has imported

    evaluated = needs.weights + needs.forward * min(evaluation_batch(study.device), facts.train)
    if cell.stage == "attack":
        images = min(study.batch_size, cell.settings["images"] or facts.test)
        return max(evaluated, needs.weights + needs.gradient * images)
    recipe = cell.settings.get("recipe")
    if cell.stage == "prune" or not recipe or not recipe["epochs"]:
        return evaluated
    return max(evaluated, TRAINED_COPIES * needs.weights + needs.gradient * _batch(recipe, facts))


def _batch(recipe: dict[str, object], facts: Facts) -> int:
    size, parts = (recipe.get(key) for key in ("batch_size", "accumulate"))
    plain = Recipe()
    whole = min(int(str(size or plain.batch_size)), facts.train)
    adversary = recipe.get("adversary")
    # TRADES keeps the graphs of the clean images and of the adversarial ones.
    graphs = 2 if isinstance(adversary, dict) and adversary.get("method") == "trades" else 1
    return graphs * math.ceil(whole / int(str(parts or plain.accumulate)))


def host_memory() -> int | None:
    """The memory of this machine or container in bytes; None where the system does not tell."""
    found = []
    with suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in LIMITS:
        with suppress(OSError, ValueError):
            found.append(int(Path(limit).read_text()))
    return min((size for size in found if size > 0), default=None)


def device_memory(device: str) -> int | None:
    """The memory of a GPU in bytes; None for the CPU, and where there is no such device."""
    if not device.startswith("cuda"):
        return None
    import torch

    with suppress(RuntimeError, AssertionError):
        return int(torch.cuda.get_device_properties(device).total_memory)
    return None


def free_disk(folder: Path) -> tuple[Path, int]:
    """The nearest folder that exists, and the bytes that are free on its disk."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return existing, shutil.disk_usage(existing).free


def refuse_small_disk(needed: int | None, folder: Path) -> None:
    """Refuse a study that writes more than there is room for; None is not known.

    Raises:
        UserError: code ENVIRONMENT.
    """
    existing, free = free_disk(folder)
    if needed is not None and free < needed:
        raise UserError(
            f"the study will write about {needed / 1e6:,.0f} MB, {existing} has {free / 1e6:,.0f} MB left",
            hint="free some space, or choose another disk by out=",
            command="free some space, or choose another disk with --out",
            code=ExitCode.ENVIRONMENT,
        )


def refuse_small_memory(host: int, device: int, *, name: str, jobs: int) -> None:
    """Refuse a study that needs more memory than the machine, or its GPU, has at all.

    Raises:
        UserError: code ENVIRONMENT.
    """
    has = ((host, host_memory(), "this machine"), (device, device_memory(name), name))
    for needed, there, what in has:
        if there is not None and needed > there:
            raise UserError(
                f"the study needs at least {needed / 1e9:,.1f} GB of memory, "
                f"{what} has {there / 1e9:,.1f} GB",
                hint="choose fewer jobs" if jobs > 1 else "choose smaller batches, fewer or smaller images",
                command="choose fewer --jobs" if jobs > 1 else "",
                code=ExitCode.ENVIRONMENT,
            )


def largest(sizes: Iterable[int]) -> int:
    """The largest of ``sizes``; 0 of none."""
    return max(sizes, default=0)
