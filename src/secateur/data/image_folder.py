"""Folders of images: one sub-folder per class, directly or inside train, validation and test folders."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import torch

from secateur.data.dataset import Dataset
from secateur.data.images import Size, common_format, from_pixels, read_image
from secateur.data.left_out import SUFFIXES, loose, unread
from secateur.data.loading import SplitReaders, directory
from secateur.data.parts import Blocks, Parts, SplitReader
from secateur.errors import UserError
from secateur.hashing import sha256_hex
from secateur.text import first_few

NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Accepted folder names of each split, in upper or lower case."""
MAX_DECODED = 2**33
"""Bytes of all images of a split: small files may hold pixels without end."""
# Left behind by archives that were made on macOS.
_IGNORED = {"__MACOSX"}
_PART_OF = {name: part for part, names in NAMES.items() for name in names}
_HINT = "name the splits train, val (or valid, validation) and test, each with one folder per class"


def folder(argument: str, *, resize: Size | None = None) -> SplitReaders:
    """``folder:DIR``: one sub-folder of images per class, or train, validation and test folders of such.

    Classes are in alphabetical order and must be the same in every split. All images must have one size, or
    are scaled to ``resize``; grey images give one channel, colour images three (if any image has colour, all
    are read as colour). Within a class the order follows the pixels, so renaming files changes nothing.
    Pictures that are not read, such as those beside the class folders, are told in ``remarks``.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for name in ("cat", "dog"):
    ...         (Path(root) / name).mkdir()
    ...         Image.new("L", (4, 4)).save(Path(root) / name / "1.png")
    ...     folder(root)["all"]().classes
    ('cat', 'dog')
    """
    root = directory(argument, "folder")
    parts = _parts(root)
    if not parts:
        classes = _folders(root)
        if not classes:
            raise UserError(
                f"'{root}' has no sub-folders", hint="one sub-folder of images per class is expected"
            )
        return {"all": _reader(root, classes, resize, gaps=False, beside=(root,))}
    classes = _agreed(parts)
    return {
        part: _reader(path, classes, resize, gaps=True, beside=(root, path)) for part, path in parts.items()
    }


def left_out(argument: str) -> tuple[str, ...]:
    """What ``folder:ARGUMENT`` holds beside the images of its classes, one sentence each; no image is read.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as root:
    ...     (Path(root) / "cat").mkdir()
    ...     for name in ("cat/1.png", "2.png"):
    ...         Image.new("L", (4, 4)).save(Path(root) / name)
    ...     left_out(root)
    ("1 picture lies beside the class folders of '...', such as '2.png': without a class, it is left out",)
    """
    root = directory(argument, "folder")
    parts = [*_parts(root).values()]
    said = [_beside((root, place) if parts else (root,), place) for place in parts or [root]]
    return tuple(dict.fromkeys(each for some in said for each in some))


def _parts(root: Path) -> dict[str, Path]:
    """The folders of the splits; empty if the sub-folders are classes.

    A class may have the name of a split (a train among vehicles): a split contains folders, a class images.
    """
    known = {name: part for name in _folders(root) if (part := _PART_OF.get(name.lower()))}
    others = [name for name in _folders(root) if name not in known]
    if not known or (others and not any(_folders(root / name) for name in known)):
        return {}
    if others:
        raise UserError(
            f"beside '{min(known)}' the folder '{root}' has {_listed(others)}, which "
            f"{'is not a split' if len(others) == 1 else 'are not splits'} of a data set",
            hint=_HINT,
        )
    found: dict[str, Path] = {}
    for name, part in known.items():
        if part in found:
            raise UserError(f"'{found[part].name}' and '{name}' in '{root}' are the same split", hint=_HINT)
        found[part] = root / name
    return {part: found[part] for part in NAMES if part in found}


def _agreed(parts: Mapping[str, Path]) -> list[str]:
    """The classes, which all splits share. An empty folder marks a class without images in that split."""
    found = {part: _folders(path) for part, path in parts.items()}
    for part, path in parts.items():
        if not found[part]:
            raise UserError(f"'{path}' has no sub-folders", hint=_HINT)
    first, *rest = parts
    for part in rest:
        missing = [name for name in found[first] if name not in found[part]]
        extra = [name for name in found[part] if name not in found[first]]
        for names, has, lacks in ((missing, first, part), (extra, part, first)):
            if names:
                what = "the class" if len(names) == 1 else "the classes"
                raise UserError(
                    f"'{parts[lacks]}' lacks {what} {_listed(names)} of '{parts[has]}'",
                    hint="every split needs the same class folders; those without images may be empty",
                )
    return found[first]


def _folders(root: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in root.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in _IGNORED
    )


def _reader(
    root: Path, classes: list[str], size: Size | None, *, gaps: bool, beside: tuple[Path, ...]
) -> SplitReader:
    """The images of the classes in ``root``; other pictures lie in the folders ``beside``."""
    listing = partial(_listing, root, classes, gaps=gaps)
    asked = (root, tuple(classes), size, listing, beside)
    return SplitReader(partial(_read, *asked), partial(_in_parts, *asked))


def _listing(root: Path, classes: list[str], *, gaps: bool) -> Iterator[tuple[int, Path]]:
    """The label and the file of every image."""
    for label, name in enumerate(classes):
        for path in _files(root / name, may_be_empty=gaps):
            yield label, path


Listing = Callable[[], Iterator[tuple[int, Path]]]


def _read(
    root: Path, classes: tuple[str, ...], size: Size | None, listing: Listing, beside: tuple[Path, ...]
) -> Dataset:
    found: list[tuple[int, np.ndarray]] = []
    first, total = None, 0
    for label, path in listing():
        image = read_image(path, size)
        first = _same_size(path, image, first, root)
        found.append((label, image))
        total += image.nbytes
        if total > MAX_DECODED:
            raise UserError(
                f"the images in '{root}' take more than {MAX_DECODED // 2**30} GiB",
                hint="use fewer, or scale them: resize=32, or resize: 32 under data in a study",
                command="use fewer, or scale them: --resize 32, or resize: 32 under data in a study",
            )
    if not found:
        raise UserError(f"'{root}' has no images", hint="remove it, or add its images")
    found.sort(key=lambda each: (each[0], _order(each[1])))
    pictures = common_format([image for _, image in found])
    read = _of_pictures(root.name, pictures, [label for label, _ in found], classes)
    return replace(read, remarks=_beside(beside, root))


def _in_parts(
    root: Path,
    classes: tuple[str, ...],
    size: Size | None,
    listing: Listing,
    beside: tuple[Path, ...],
    most: int,
) -> Parts | None:
    """The images as parts; None where they take at most ``most`` bytes as float32 even if they have colour.

    Every file is read here as well, because the order of the images is that of their pixels.
    """
    files = [*listing()]
    if not files or 12 * len(files) * prod(read_image(files[0][1], size).shape[:2]) <= most:
        return None
    found: list[tuple[int, str, Path]] = []
    first, kinds = None, set()
    for label, path in files:
        image = read_image(path, size)
        first = _same_size(path, image, first, root)
        kinds.add((image.ndim, image.dtype))
        found.append((label, _order(image), path))
    found.sort(key=lambda each: each[:2])
    # Channels and depth follow those of all images, wherever a part ends.
    others = [np.empty((0, 0, 3)[:ndim], dtype) for ndim, dtype in kinds]

    def read(blocks: Blocks) -> Iterator[Dataset]:
        for places in blocks:
            pictures = []
            for place in places:
                pictures.append(read_image(found[place][2], size))
                _same_size(found[place][2], pictures[-1], first, root)
            pictures = common_format([*pictures, *others])[: len(places)]
            yield _of_pictures(root.name, pictures, [found[place][0] for place in places], classes)
            # Two parts would be in memory while the next one is read.
            del pictures

    like = replace(next(read([[0]])), remarks=_beside(beside, root))
    return Parts(like, torch.tensor([label for label, _, _ in found]), read, torch.arange(len(found)))


def _order(image: np.ndarray) -> str:
    # By content, so that the order does not depend on file names.
    return sha256_hex(image.tobytes())


def _of_pictures(
    name: str, pictures: list[np.ndarray], labels: list[int], classes: tuple[str, ...]
) -> Dataset:
    stacked = np.stack(pictures)
    pixels = stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)
    return from_pixels(name, pixels, np.asarray(labels), classes)


def _beside(beside: tuple[Path, ...], root: Path) -> tuple[str, ...]:
    """What lies in the folders ``beside``, and in the class folders of ``root``, and is not read."""
    return loose(beside, beside[0]) + unread([root / name for name in _folders(root)], beside[0])


def _files(place: Path, *, may_be_empty: bool) -> list[Path]:
    """The images of a class. Nested folders are refused, because their content would be ignored."""
    found = sorted(
        path
        for path in place.iterdir()
        # Hidden files such as "._1.png" beside "1.png" are not images; a link that leads nowhere is refused.
        if path.suffix.lower() in SUFFIXES and not path.is_dir() and not path.name.startswith(".")
    )
    if inner := _folders(place):
        raise UserError(f"the class folder '{place}' has folders inside: {_listed(inner)}", hint=_HINT)
    if not found and not may_be_empty:
        raise UserError(f"class folder '{place}' has no images", hint="remove it, or add its images")
    return found


First = tuple[Path, tuple[int, ...]]


def _same_size(path: Path, image: np.ndarray, first: First | None, root: Path) -> First:
    """The first image, and its height and width, which those of all others are.

    Raises:
        UserError: this one has others.
    """
    size = image.shape[:2]
    if first is None or size == first[1]:
        return first or (path, size)
    said = [
        f"{file.relative_to(root)} has {width}x{height}" for file, (height, width) in (first, (path, size))
    ]
    side = min(*first[1], *size)
    raise UserError(
        f"images of different sizes in '{root}': {said[0]} pixels, {said[1]}",
        hint=f"scale them to one size: resize={side}, or resize: {side} under data in a study",
        command=f"scale them to one size: --resize {side}, or resize: {side} under data in a study",
    )


def _listed(names: list[str]) -> str:
    return first_few([f"'{name}'" for name in names])
