"""From the options --data and --resize to images, and whether they are those of the network."""

from typing import TYPE_CHECKING

from secateur.cli.output import note
from secateur.errors import UserError
from secateur.registry import HUB, has_weights

if TYPE_CHECKING:
    from torch import nn

    from secateur.data import Dataset, Parts


def size_of(text: str | None) -> tuple[int, ...] | None:
    """Height and width from ``--resize``. Raises UserError."""
    from secateur.data import image_size

    if text is None:
        return None
    try:
        sides = [int(part) for part in text.lower().split("x")]
        return image_size(sides * 2 if len(sides) == 1 else sides)
    except (ValueError, UserError):
        raise UserError(
            f"invalid --resize {text}: expected one side, as in 64, or height x width, as in 48x64",
            hint="sides may be from 1 to 4096",
        ) from None


def chosen_size(resize: str | None, model: str) -> tuple[int, ...] | None:
    """Height and width of the images: those of ``--resize``, or those that the network states for itself.

    Raises:
        UserError: no size, or a network of Hugging Face that cannot be read.
    """
    if resize is not None or not model.startswith(HUB):
        return size_of(resize)
    from secateur.models import stated_size

    size = stated_size(model)
    if size is not None:
        note(
            f"{model}: images are resized to {size[0]}x{size[1]}, as it states; --resize chooses another size"
        )
    return size


def fitted(spec: str | None, size: tuple[int, ...] | None) -> "Dataset | None":
    """The images of ``--data`` that a network was trained on: the train split if there is one."""
    from secateur import data as datasets

    if spec is None:
        return None
    part = datasets.training_split(datasets.open_dataset(spec))
    images = datasets.load(spec, split=part, resize=size)
    note(*images.remarks)
    return images


def held_out(
    spec: str, size: tuple[int, ...] | None, bounds: tuple[float, float] | None = None
) -> "tuple[str, Dataset | Parts]":
    """The images to attack, and the name of their split: one held out from training if there is one.

    More than 4 GiB in a folder or an .npz file are not read yet.
    """
    from secateur import data as datasets

    parts = datasets.open_dataset(spec)
    part = datasets.evaluation_split(parts)
    if len(parts) > 1:
        note(f"{spec} has the splits {', '.join(parts)}; the attack uses {part}")
    elif part in ("all", "train"):
        kept = "no separate test split" if part == "all" else "training images only"
        note(f"{spec} has {kept}: the network may have been trained on the attacked images")
    images = datasets.load_or_parts(spec, split=part, resize=size, bounds=bounds)
    note(*images.remarks)
    return part, images


def note_other_data(model: str, data: str) -> None:
    """Print that a published or shipped network saw these images in its training, or was made for others."""
    from secateur.models import data_mismatch

    if has_weights(model) and (sentence := data_mismatch(model, data)):
        note(sentence)


def check_class_order(model: "nn.Module", images: "Dataset | Parts", *, name: str) -> None:
    """Refuse images whose classes have the names of the network's, in another order.

    Labels are numbers: every image of such a class would count as wrong. Networks of Hugging Face know the
    names of their classes, other networks do not.
    """
    from secateur.models import classes_of
    from secateur.text import first_few

    own, theirs = (
        [each.lower().replace("_", " ") for each in names] for names in (classes_of(model), images.classes)
    )
    if own != theirs and sorted(own) == sorted(theirs):
        raise UserError(
            f"the classes of {name} are in the order {first_few(classes_of(model), 3)}, "
            f"those of {images.name} in the order {first_few(images.classes, 3)}",
            hint="put the number of its class before the name of every folder, as in 00-cat and 01-dog",
        )
