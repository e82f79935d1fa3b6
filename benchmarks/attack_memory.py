"""What attacking 1,000 and 10,000 images holds in memory: peak resident size, each in a process of its own.

usage: python benchmarks/attack_memory.py [--model resnet20] [--batch-size 256] [--steps 2]
           [--images 256 1000 10000]

The images are noise of CIFAR's shape with the classes that the (untrained) model gives them, so that every
one is attacked. The first number of images should be one batch: what the others hold beyond it, per image, is
to be compared with the bytes of an image and of its adversarial one.
"""

import argparse
import multiprocessing
import resource
import time

import torch

from secateur.attacks import run
from secateur.data import Dataset
from secateur.models import build, predict

SHAPE = (3, 32, 32)


def attack(
    name: str, images: int, batch_size: int, steps: int, answer: "multiprocessing.Queue[float]"
) -> None:
    torch.set_num_threads(1)
    model = build(name).eval()
    x = torch.rand(images, *SHAPE, generator=torch.Generator().manual_seed(0))
    y = torch.cat([predict(model, part) for part in x.split(batch_size)])
    dataset = Dataset("noise", x, y, tuple("0123456789"), None)
    start = time.process_time()
    run(model, dataset, "ddn", steps=steps, batch_size=batch_size)
    answer.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    answer.put(time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--images", type=int, nargs="+", default=[256, 1000, 10_000])
    chosen = parser.parse_args()
    image = 4 * SHAPE[0] * SHAPE[1] * SHAPE[2] / 1024
    print(
        f"| {chosen.model}, DDN, {chosen.steps} steps | peak MiB | beyond the first, KiB per image | CPU s |"
    )
    print("|---:|---:|---:|---:|")
    first: tuple[int, float] | None = None
    # A child that is forked would begin with the parent's peak.
    spawn = multiprocessing.get_context("spawn")
    for images in chosen.images:
        answer = spawn.Queue()
        process = spawn.Process(
            target=attack, args=(chosen.model, images, chosen.batch_size, chosen.steps, answer)
        )
        process.start()
        peak, seconds = answer.get(), answer.get()
        process.join()
        first = first or (images, peak)
        more = f"{1024 * (peak - first[1]) / (images - first[0]):.1f}" if images > first[0] else ""
        print(f"| {images:,} images | {peak:,.0f} | {more} | {seconds:.0f} |", flush=True)
    print(f"\nan image and its adversarial one: {2 * image:.1f} KiB")


if __name__ == "__main__":
    main()
