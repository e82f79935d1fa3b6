"""What an attack costs beyond the model's own passes, and beside its peers, in CPU time.

Every measurement runs in a process of its own, so that what one library does to the allocator reaches no
other, and takes the least of alternated repetitions: what other programs of the machine take away only adds.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from attack_cases import INF, case
from torch import Tensor, nn

from secateur.attacks import ddn, fmn, run
from secateur.attacks.sigma_zero import sigma_zero
from secateur.data import Dataset
from secateur.models import build

ROUNDS, STEPS = 2, 100

Call = Callable[[], object]


def cpu(call: Call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def least(calls: dict[str, Call]) -> dict[str, float]:
    """The least CPU time of each call."""
    fork = multiprocessing.get_context("fork")
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            answer = fork.SimpleQueue()

            def child(call: Call = call, answer=answer) -> None:
                answer.put(cpu(call))

            process = fork.Process(target=child)
            process.start()
            best[name] = min(best.get(name, INF), answer.get())
            process.join()
    return best


def frozen(model: nn.Module) -> nn.Module:
    for parameter in model.eval().parameters():
        parameter.requires_grad_(False)
    return model


def overhead(model: nn.Module, x: Tensor, steps: int, norm: float) -> float:
    """CPU time of FMN over as many bare forwards and input gradients, and a forward for the last iterate."""
    frozen(model)
    with torch.no_grad():
        y = model(x).argmax(1)

    def bare() -> None:
        for _ in range(steps):
            query = x.clone().requires_grad_(True)
            torch.autograd.grad(model(query).sum(), query)
        with torch.no_grad():
            model(x)

    times = least({"bare": bare, "attack": lambda: fmn(model, x, y, norm=norm, steps=steps)})
    return times["attack"] / times["bare"]


def overheads() -> Iterator[tuple[str, float]]:
    drawn = torch.Generator().manual_seed(0)
    small = torch.rand(64, 1, 28, 28, generator=drawn)
    colour = torch.rand(64, 3, 32, 32, generator=drawn)
    for norm in (INF, 0.0):
        name = f"FMN L{norm:g}, batch 64"
        yield f"{name}, MNIST smallcnn", overhead(build("smallcnn", in_channels=1), small, 10, norm)
        yield f"{name}, CIFAR ResNet-18", overhead(build("resnet18"), colour, 1, norm)


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


def ratios(folder: Path) -> Iterator[dict[str, object]]:
    """Whole-run CPU time of ours over a peer's for the same steps, images and model.

    ``ratio`` is of ``secateur.attacks.run``, with its clean predictions, its faster copy of the model and its
    verification; ``loop`` of the attack's function alone on the model as it is, which is what peers do.
    """
    for name, count in (("mnist", 32), ("cifar-plain", 8)):
        model, images = case(name, folder, count)
        frozen(model)
        for label, registered, norm, own, lib, box in PAIRS:
            norms = {"norm": norm} if own is fmn else {}
            ours = our_calls(model, images, registered, own, norms)
            others = dict(peers(model, images, norm, lib, box))
            times = least(ours | others)
            for peer in others:
                yield {
                    "model": name,
                    "attack": label,
                    "peer": peer,
                    "ratio": times["run"] / times[peer],
                    "loop": times["loop"] / times[peer],
                }


def our_calls(
    model: nn.Module, images: Dataset, name: str, own: Callable[..., object], norms: dict[str, float]
) -> dict[str, Call]:
    levels = {"levels": None} if name == "ddn" else {}
    return {
        "run": lambda: run(model, images, name, steps=STEPS, **norms, **levels),
        "loop": lambda: own(model, images.x, images.y, steps=STEPS, **norms),
    }
