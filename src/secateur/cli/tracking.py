"""Trackers of experiments: TensorBoard, Weights & Biases, Trackio; imported when --log-to names one."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from secateur.cli.completion import tracker_names
from secateur.cli.output import note
from secateur.errors import ExitCode, UserError
from secateur.text import did_you_mean, first_line

LogTo = Annotated[
    list[str] | None,
    typer.Option(
        "--log-to",
        help="Also log accuracy, robust accuracy, distances and the loss of every epoch to tensorboard:DIR, "
        "wandb:PROJECT or trackio:PROJECT. May be repeated.",
        autocompletion=tracker_names,
    ),
]

Point = tuple[int, Mapping[str, float]]
"""A step, such as an epoch, and numbers by name."""
Log = Callable[[str, Sequence[Point]], None]
"""Log the points of a group: numbers that belong in one figure."""


class Tracker(Protocol):
    """A place that numbers are logged to."""

    def log(self, group: str, points: Sequence[Point]) -> None:
        """Log the points of a group."""

    def close(self) -> None:
        """Write what is left."""


class TensorBoard:
    """Event files in a folder; every group is a run of its own, which TensorBoard draws side by side."""

    def __init__(self, folder: str, name: str) -> None:
        _package("tensorboard")
        self._folder = Path(folder)

    def log(self, group: str, points: Sequence[Point]) -> None:
        """Append to the event files of the group."""
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self._folder / _stem(group))) as writer:
            for step, values in points:
                for key, value in values.items():
                    writer.add_scalar(key, value, step)

    def close(self) -> None:
        """Nothing is left."""


class Online:
    """One run of Weights & Biases or of Trackio, whose functions are alike."""

    def __init__(self, module: Any, project: str, name: str) -> None:
        self._module, self._run = module, module.init(project=project, name=name)

    def log(self, group: str, points: Sequence[Point]) -> None:
        """Log under the name of the group, with the step as a number of its own."""
        stem = _stem(group)
        if hasattr(self._run, "define_metric"):
            # Groups count different things: epochs, and shares that are pruned.
            self._run.define_metric(f"{stem}/*", step_metric=f"{stem}/step")
        for step, values in points:
            self._run.log({f"{stem}/step": step, **{f"{stem}/{key}": each for key, each in values.items()}})

    def close(self) -> None:
        """End the run, which uploads what is left."""
        self._module.finish()


KINDS: Mapping[str, Callable[[str, str], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": lambda project, name: Online(_package("wandb"), project, name),
    "trackio": lambda project, name: Online(_package("trackio"), project, name),
}


@contextmanager
def tracked(texts: Sequence[str] | None, name: str) -> Iterator[Log]:
    """The function that logs to all trackers of --log-to; it does nothing without any.

    A tracker that fails is told in a note and left alone from then on: the work it was to watch goes on.

    Args:
        texts: of --log-to.
        name: of the study or the network.

    Raises:
        UserError: a text that names no tracker, or a package that is not installed (code ENVIRONMENT).
    """
    asked = [_parsed(text) for text in texts or ()]
    with ExitStack() as stack:
        trackers: dict[str, Tracker] = {}
        for kind, place in asked:
            with redirect_stdout(sys.stderr):
                trackers[f"{kind}:{place}"] = KINDS[kind](place, name)
        for text, tracker in trackers.items():
            stack.callback(_safely, text, tracker.close)

        def log(group: str, points: Sequence[Point]) -> None:
            for text, tracker in [*trackers.items()]:
                if points and not _safely(text, lambda one=tracker: one.log(group, points)):  # type: ignore[misc]
                    del trackers[text]

        yield log


def refuse_absent(texts: Sequence[str] | None) -> None:
    """Refuse what ``tracked`` would, before a network is built or a picture read."""
    for text in texts or ():
        _package(_parsed(text)[0])


def _safely(text: str, act: Callable[[], object]) -> bool:
    try:
        # Standard output is for results; trackers greet on it.
        with redirect_stdout(sys.stderr):
            act()
    except Exception as error:  # a service or a disk may fail in any way
        note(
            f"--log-to {text}: {type(error).__name__}: {first_line(error, '')}; nothing more is logged there"
        )
        return False
    return True


def _parsed(text: str) -> tuple[str, str]:
    kind, _, place = text.partition(":")
    if kind not in KINDS or not place:
        form = "write tensorboard:DIR, wandb:PROJECT or trackio:PROJECT"
        hint = form if kind in KINDS else did_you_mean(kind, KINDS, otherwise=form)
        raise UserError(f"invalid --log-to {text}", hint=hint)
    return kind, place


def _package(name: str) -> Any:
    """The package of a tracker, which is called as the tracker is.

    Raises:
        UserError: it is not installed (code ENVIRONMENT).
    """
    try:
        return import_module(name)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        raise UserError(
            f"the package {name} is missing" if absent else f"the package {name} cannot be imported: {error}",
            hint=f"pip install {name}, or pip install 'secateur[tracking]' for all trackers",
            code=ExitCode.ENVIRONMENT,
        ) from None


def _stem(group: str) -> str:
    return re.sub(r"[^\w.-]+", "-", group).strip("-.")
