"""Starting points of attacks: images of another class, or adversarial examples of an earlier attack."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from secateur.attacks.core.batch import check_batch
from secateur.attacks.runner.batching import Tick
from secateur.attacks.runner.classifier import classifier
from secateur.attacks.runner.goals import as_targets
from secateur.attacks.runner.outputs import Logits
from secateur.attacks.runner.result import AttackResult, Outcome
from secateur.data import Dataset, Parts, of
from secateur.errors import UserError
from secateur.kinds import is_whole
from secateur.models import predict

AT_ONCE = 64
"""Images that are classified, and whose distances to all others are in memory, at the same time."""


def points_of(start: Tensor | None, dataset: Dataset) -> Tensor | None:
    """``start`` as [R, N, ...].

    Raises:
        UserError: another shape, or points that are not images within the bounds.
    """
    if start is None:
        return None
    single = isinstance(start, Tensor) and start.ndim == dataset.x.ndim
    points = start.unsqueeze(0) if single else start
    if not isinstance(points, Tensor) or points.shape[1:] != dataset.x.shape or not len(points):
        seen = tuple(start.shape) if isinstance(start, Tensor) else f"a {type(start).__name__}"
        raise UserError(
            f"starting points are {seen}, images {tuple(dataset.x.shape)}",
            hint="give one starting point per image, [N, ...], or several, [R, N, ...]",
        )
    for each in points:
        try:
            check_batch(each, torch.zeros_like(dataset.y), None, dataset.bounds)
        except UserError as refused:
            raise UserError(
                f"of the starting points, {refused.message}", hint=refused.hint, command=refused.command
            ) from None
    return points


def another_class(
    model: Callable[..., Any],
    dataset: Any,
    *,
    targets: Tensor | Sequence[int] | int | None = None,
    count: int = 1,
    logits: Logits = None,
    on_progress: Tick | None = None,
) -> Tensor:
    """For every image, the nearest images of the dataset that the model assigns to another class.

    Nearest is in L2. If fewer than ``count`` images are of another class (with ``targets``, of the wanted
    one), the image itself takes their place: the attack then begins at the clean image.

    Args:
        model: images to logits; left as it was.
        dataset: images [N, ...] and labels, or what ``secateur.data.of`` reads.
        targets: wanted classes [N] of a targeted attack, or one for all.
        count: the number of starting points per image, R.
        logits: which part of the model's answer counts; see ``attacks.run``.
        on_progress: called with (images done, images to do), each image counted twice.

    Returns:
        Starting points [R, N, ...], the nearest first, for ``start`` of ``secateur.attack``.

    Raises:
        UserError: ``count`` is not between 1 and the number of images, or as ``predict``.

    >>> from secateur.data import Dataset
    >>> model = torch.nn.Flatten()  # the larger pixel is the class
    >>> x = torch.tensor([[[[0.9, 0.1]]], [[[0.4, 0.6]]], [[[0.0, 1.0]]]])
    >>> another_class(model, Dataset("toy", x, torch.tensor([0, 1, 1]), ("a", "b"), None))[0, 0].flatten()
    tensor([0.4000, 0.6000])
    """
    dataset = of(dataset)
    goals = as_targets(targets, dataset)
    model = classifier(model, dataset.x, logits=logits, data=dataset.name)
    if not is_whole(count, least=1) or count > dataset.n:
        raise UserError(
            f"{count!r} starting points for each of {dataset.n} images",
            hint=f"give a whole number from 1 to {dataset.n}",
        )

    def told(done: int) -> None:
        if on_progress is not None:
            on_progress(done, 2 * dataset.n)

    seen = []
    for part in torch.split(dataset.x, AT_ONCE):
        seen.append(predict(model, part).to(dataset.y))
        told(sum(map(len, seen)))
    classes, flat, everything = torch.cat(seen), dataset.x.flatten(1), torch.arange(dataset.n)
    chosen = []
    for rows in torch.split(everything, AT_ONCE):
        gap = torch.cdist(flat[rows], flat)
        wanted = classes != dataset.y[rows, None] if goals is None else classes == goals[rows, None]
        nearest = gap.masked_fill(~wanted, torch.inf).topk(count, dim=1, largest=False)
        chosen.append(torch.where(nearest.values.isfinite(), nearest.indices, rows.unsqueeze(1)))
        told(dataset.n + int(rows[-1]) + 1)
    points: Tensor = dataset.x[torch.cat(chosen).T]
    return points


def write_examples(result: AttackResult, path: Path, *, index: Sequence[int] | None, grade: str) -> None:
    """Write the examples of a result as safetensors; see ``secateur.evaluate.save_examples``."""
    numbers = torch.arange(result.n) if index is None else torch.as_tensor(index, dtype=torch.int64)
    kept, codes = torch.arange(result.n) if result.kept is None else result.kept, list(Outcome)
    found = result.where(Outcome.FOUND)[kept]
    tensors = {
        "adv": result.adv[found].float().contiguous(),
        "index": numbers[kept[found]].contiguous(),
        "outcome": torch.tensor([codes.index(outcome) for outcome in result.outcome], dtype=torch.uint8),
    }
    plain = result.to_json()
    facts = {key: plain[key] for key in ("attack", "norm", "settings", "seed", "targeted")}
    if result.kept is not None:
        facts["kept"] = f"examples of {len(kept)} of {result.n} images"
    save_file(tensors, path, {"secateur": json.dumps({**facts, "grade": grade})})


def found_before(path: Path, dataset: Dataset, index: list[int]) -> Tensor:
    """Starting points [1, N, ...] from a file that ``secateur attack --examples`` wrote.

    Args:
        path: the file; its images are numbered as in the dataset they were taken from.
        dataset: the attacked images.
        index: their numbers in that dataset. An image without a saved example starts from its clean version.

    Raises:
        UserError: not a file of examples, or examples of other images.
    """
    with _saved(path) as file:
        rows = _rows(path, file, dataset, index)
        adv = file.get_tensor("adv")
    known = [k for k, row in enumerate(rows) if row is not None]
    start = dataset.x.clone()
    start[known] = adv[[row for row in rows if row is not None]].to(start)
    return start.unsqueeze(0)


class SavedPoints:
    """As ``found_before``, [N, ...], for images that are not in memory: rows are read when asked for."""

    def __init__(self, path: Path, images: Parts, index: list[int]) -> None:
        with _saved(path) as file:
            self._rows = _rows(path, file, images, index)
        self._path, self._images = path, images

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all points."""
        return (self._images.n, *self._images.shape)

    def __getitem__(self, rows: slice) -> Tensor:
        """The points of neighbouring images."""
        start = self._images.take(range(self._images.n)[rows]).whole().x
        with _saved(self._path) as file:
            adv = file.get_slice("adv")
            for at, row in enumerate(self._rows[rows]):
                if row is not None:
                    start[at] = adv[row : row + 1][0].to(start)
        return start


@contextmanager
def _saved(path: Path) -> Iterator[Any]:
    """A file of examples, opened.

    Raises:
        UserError: it is none.
    """
    try:
        with safe_open(path, "pt") as file:
            if missing := {"adv", "index"} - {*file.keys()}:
                raise KeyError(missing)
            yield file
    except (OSError, SafetensorError, KeyError) as error:
        nowhere = isinstance(error, FileNotFoundError)
        raise UserError(
            f"{path} {'does not exist' if nowhere else 'holds no adversarial examples'}",
            hint="name a file that secateur.evaluate.save_examples wrote",
            command="name a file that secateur attack --examples wrote",
        ) from None


def _rows(path: Path, file: Any, images: Dataset | Parts, index: list[int]) -> list[int | None]:
    """The rows of the file that hold the examples of the images ``index``; None where there is none.

    Raises:
        UserError: examples of other images.
    """
    shape, numbered = file.get_slice("adv").get_shape(), file.get_tensor("index")
    if tuple(shape[1:]) != images.shape or list(numbered.shape) != shape[:1]:
        raise UserError(
            f"the {list(numbered.shape)} examples of {path} have shape {shape}, "
            f"images {[images.n, *images.shape]}",
            hint="name examples of the same data",
        )
    place = {number: row for row, number in enumerate(numbered.tolist())}
    rows = [place.get(number) for number in index]
    if all(row is None for row in rows):
        raise UserError(
            f"{path} has an example of none of these {images.n} images", hint="attack the same ones"
        )
    return rows
