"""What an attack costs beyond the model's own passes, and beside its peers, in CPU time."""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from attack_cases import INF, case
from torch import nn

from secateur.attacks import ddn, fmn
from secateur.attacks.adapters import adapt
from secateur.attacks.sigma_zero import sigma_zero
from secateur.errors import ExitCode, UserError
from secateur.models import build

ROUNDS = 5


def cpu(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def frozen(model: nn.Module) -> nn.Module:
    for parameter in model.eval().parameters():
        parameter.requires_grad_(False)
    return model


def overhead(model: nn.Module, x: torch.Tensor, steps: int) -> float:
    """CPU time of an FMN-Linf step over a bare forward and input gradient: median over alternated rounds."""
    frozen(model)
    with torch.no_grad():
        y = model(x).argmax(1)

    def bare() -> None:
        for _ in range(steps):
            query = x.clone().requires_grad_(True)
            torch.autograd.grad(model(query).sum(), query)
        # The attack evaluates its last iterate as well.
        with torch.no_grad():
            model(x)

    def attack() -> None:
        fmn(model, x, y, norm=INF, steps=steps)

    bare(), attack()
    return statistics.median(cpu(attack) / cpu(bare) for _ in range(ROUNDS))


def overheads() -> Iterator[tuple[str, float]]:
    drawn = torch.Generator().manual_seed(0)
    small = torch.rand(64, 1, 28, 28, generator=drawn)
    colour = torch.rand(32, 3, 32, 32, generator=drawn)
    yield "MNIST smallcnn, batch 64", overhead(build("smallcnn", in_channels=1), small, 10)
    yield "CIFAR ResNet-18, batch 32", overhead(build("resnet18"), colour, 1)


PAIRS = [
    ("DDN", 2.0, ddn, "adv-lib:ddn", "foolbox:DDNAttack", {"levels": None}),
    ("FMN L0", 0.0, fmn, "adv-lib:fmn", "foolbox:L0FMNAttack", {}),
    ("FMN L1", 1.0, fmn, "adv-lib:fmn", "foolbox:L1FMNAttack", {}),
    ("FMN L2", 2.0, fmn, "adv-lib:fmn", "foolbox:L2FMNAttack", {}),
    ("FMN Linf", INF, fmn, "adv-lib:fmn", "foolbox:LInfFMNAttack", {}),
    ("σ-zero", 0.0, sigma_zero, "adv-lib:sigma_zero", None, {}),
]


def ratios(folder: Path) -> Iterator[dict[str, object]]:
    """Whole-run CPU time of ours over a peer's for the same steps, images and model; alternated rounds."""
    for name, count, steps in (("mnist", 16, 8), ("cifar-plain", 8, 4)):
        model, images = case(name, folder, count)
        frozen(model)
        for label, norm, own, *peers, extra in PAIRS:
            fixed = {"norm": norm} if own is fmn else {}

            def ours(own=own, fixed=fixed, model=model, images=images, steps=steps) -> None:
                own(model, images.x, images.y, steps=steps, **fixed)

            for peer in filter(None, peers):
                try:
                    theirs = adapt(peer)
                except UserError as problem:
                    if problem.code is not ExitCode.ENVIRONMENT:
                        raise
                    continue
                settings = {"num_steps" if "sigma" in peer else "steps": steps}
                settings |= extra if peer.startswith("adv-lib") else {}

                def run_peer(theirs=theirs, norm=norm, model=model, images=images, settings=settings) -> None:
                    theirs(model, images.x, images.y, norm=norm, **settings)

                ours(), run_peer()
                each = [cpu(ours) / cpu(run_peer) for _ in range(ROUNDS)]
                yield {"model": name, "attack": label, "peer": peer, "ratio": statistics.median(each)}
