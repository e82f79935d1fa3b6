"""What the teacher of a distillation says of every image, asked for once where it cannot change."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from secateur.hashing import stream
from secateur.models import eval_mode, evaluation_batch
from secateur.train.job import Job
from secateur.train.shortage import out_of_memory, release

SMALL = 0.25
"""Logits are kept where they are at most this share of the numbers of the images themselves."""
PASSES = 3
"""Passes of one image in a step: forward, and two for its gradients."""


def with_taught(job: Job, *, classes: int) -> Job:
    """The job with the teacher's logits of all images, where it would be shown each of them several times.

    Augmented images are others in every epoch, and so are the logits of the teacher: it is then asked in
    every step, and so it is where the logits do not fit into memory.
    """
    recipe, images = job.recipe, job.train
    small = classes <= SMALL * images.x[0].numel()
    if job.teacher is None or recipe.augment is not None or recipe.epochs < 2 or not small:
        return job
    job = replace(job, before=math.ceil(images.n / recipe.batch_size / PASSES))
    taught = _taught(job)
    return replace(job, taught=taught) if taught is not None else replace(job, before=0)


def _taught(job: Job) -> Tensor | None:
    """The logits [N, K]; None where memory runs out.

    The batches are in the order of the images, so that a training that resumes gets the same numbers.
    """
    teacher, device, parts, done = job.teacher, job.device, [], 0
    assert teacher is not None
    steps = job.recipe.epochs * math.ceil(job.train.n / job.recipe.batch_size)
    precision = torch.autocast(device.type, torch.bfloat16, enabled=job.recipe.precision == "bfloat16")
    random = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    try:
        with random, eval_mode(teacher), torch.no_grad(), precision:
            torch.manual_seed(stream(job.seed, "teacher").initial_seed())
            for x in torch.split(job.train.x, evaluation_batch(device)):
                parts.append(teacher(x))
                done += len(x)
                if job.tick is not None:
                    job.tick(job.before * done // job.train.n, job.before + steps)
            return torch.cat(parts)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    # Outside the handler, whose exception keeps the tensors of the failed batch alive.
    parts.clear()
    release(device)
    return None
