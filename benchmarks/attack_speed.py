"""What an attack costs beyond the model's own passes, and beside its peers, in CPU time.

Every measurement runs in a process of its own, so that what one library does to the allocator reaches no
other. They take turns, and what is reported is the median of the ratios of every turn.
"""

import copy
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from attack_cases import INF, case
from torch import Tensor, nn

from secateur.attacks import ddn, fmn, run
from secateur.attacks.sigma_zero import sigma_zero
from secateur.data import Dataset
from secateur.models import build

ROUNDS, STEPS = 5, 100

Call = Callable[[], object]


def cpu(call: Call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def in_turns(calls: dict[str, Call]) -> dict[str, list[float]]:
    """The CPU times of each call, one per turn."""
    fork = multiprocessing.get_context("fork")
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            answer = fork.SimpleQueue()

            def child(call: Call = call, answer=answer) -> None:
                answer.put(cpu(call))

            process = fork.Process(target=child)
            process.start()
            times[name].append(answer.get())
            process.join()
    return times


def median_ratio(times: dict[str, list[float]], one: str, other: str) -> float:
    """Of ``one`` over ``other``, turn by turn."""
    return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))


def frozen(model: nn.Module) -> nn.Module:
    for parameter in model.eval().parameters():
        parameter.requires_grad_(False)
    return model


def overhead(model: nn.Module, x: Tensor, steps: int, attack: Callable[..., object]) -> float:
    """CPU time of an attack over as many bare forwards and input gradients and a last forward."""
    frozen(model)
    with torch.no_grad():
        y = model(x).argmax(1)

    def bare() -> None:
        for _ in range(steps):
            query = x.clone().requires_grad_(True)
            torch.autograd.grad(model(query).sum(), query)
        with torch.no_grad():
            model(x)

    times = in_turns({"bare": bare, "attack": lambda: attack(model, x, y, steps=steps)})
    return median_ratio(times, "attack", "bare")


def overheads() -> Iterator[tuple[str, float]]:
    drawn = torch.Generator().manual_seed(0)
    small = torch.rand(64, 1, 28, 28, generator=drawn)
    colour = torch.rand(64, 3, 32, 32, generator=drawn)
    attacks = {"DDN": ddn, "FMN Linf": fmn, "FMN L0": partial(fmn, norm=0.0)}
    for name, attack in attacks.items():
        yield f"{name}, batch 64, CIFAR ResNet-18", overhead(build("resnet18"), colour, 3, attack)
        yield (
            f"{name}, batch 64, MNIST smallcnn",
            overhead(build("smallcnn", in_channels=1), small, 10, attack),
        )


PAIRS = [
    ("DDN", "ddn", 2.0, ddn, "ddn", "DDNAttack"),
    ("FMN L0", "fmn", 0.0, fmn, "fmn", "L0FMNAttack"),
    ("FMN L1", "fmn", 1.0, fmn, "fmn", "L1FMNAttack"),
    ("FMN L2", "fmn", 2.0, fmn, "fmn", "L2FMNAttack"),
    ("FMN Linf", "fmn", INF, fmn, "fmn", "LInfFMNAttack"),
    ("σ-zero", "sigma-zero", 0.0, sigma_zero, "sigma_zero", None),
]


def peers(
    model: nn.Module, images: Dataset, norm: float, lib: str, box: str | None
) -> Iterator[tuple[str, Call]]:
    """The same attack of other libraries as their own users call it; of those that are installed."""
    x, y = images.x, images.y
    try:
        import adv_lib.attacks

        own: dict[str, object] = {"num_steps" if lib == "sigma_zero" else "steps": STEPS}
        own |= {"norm": norm} if lib == "fmn" else {"levels": None} if lib == "ddn" else {}
        yield f"adv-lib:{lib}", lambda: getattr(adv_lib.attacks, lib)(model, x, y, **own)
    except ImportError:
        pass
    try:
        import foolbox

        if box is not None:
            wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
            attack = getattr(foolbox.attacks, box)(steps=STEPS)
            yield f"foolbox:{box}", lambda: attack(wrapped, x, y, epsilons=None)
    except ImportError:
        pass


TIMED = {"mnist": 32, "cifar-plain": 8}
"""The models whose runs are timed, and the number of images."""


def ratios(folder: Path, models: list[str]) -> Iterator[dict[str, object]]:
    """Whole-run CPU time of ours over a peer's for the same steps, images and model.

    ``ratio`` is of ``secateur.attacks.run``, with its clean predictions, its faster copy of the model and its
    verification; ``loop`` of the attack's function alone, which is what peers do. All get the model as it was
    loaded; for ``frozen`` somebody told the peer's model that its parameters need no gradients, as ``run``
    does by itself.
    """
    for name in models:
        model, images = case(name, folder, TIMED[name])
        told = frozen(copy.deepcopy(model))
        for label, registered, norm, own, lib, box in PAIRS:
            norms = {"norm": norm} if own is fmn else {}
            ours = our_calls(model, images, registered, own, norms)
            others = dict(peers(model, images, norm, lib, box))
            helped = {f"frozen {peer}": call for peer, call in peers(told, images, norm, lib, box)}
            times = in_turns(ours | others | helped)
            for peer in others:
                yield {
                    "model": name,
                    "attack": label,
                    "peer": peer,
                    "ratio": median_ratio(times, "run", peer),
                    "loop": median_ratio(times, "loop", peer),
                    "frozen": median_ratio(times, "run", f"frozen {peer}"),
                }


def our_calls(
    model: nn.Module, images: Dataset, name: str, own: Callable[..., object], norms: dict[str, float]
) -> dict[str, Call]:
    levels = {"levels": None} if name == "ddn" else {}
    return {
        "run": lambda: run(model, images, name, steps=STEPS, **norms, **levels),
        "loop": lambda: own(model, images.x, images.y, steps=STEPS, **norms),
    }
