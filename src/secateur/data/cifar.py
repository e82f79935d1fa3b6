"""CIFAR-10 and CIFAR-100 in the official binary form (Krizhevsky 2009): fixed records, no pickle."""

import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from secateur.data.dataset import Dataset
from secateur.data.images import from_pixels
from secateur.data.loading import SplitReaders
from secateur.errors import UserError
from secateur.hashing import file_sha256

PIXELS = 3 * 32 * 32
MAX_NAMES = 65_536


@dataclass(frozen=True)
class Layout:
    """The files of a data set: bytes of labels before the pixels, file names by split, the archive."""

    archive: str
    sha256: str
    folder: str
    names: str
    labels: int
    parts: dict[str, tuple[str, ...]]
    images: int


CIFAR10 = Layout(
    archive="cifar-10-binary.tar.gz",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    folder="cifar-10-batches-bin",
    names="batches.meta.txt",
    labels=1,
    parts={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    images=10_000,
)
CIFAR100 = Layout(
    archive="cifar-100-binary.tar.gz",
    sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    folder="cifar-100-binary",
    names="fine_label_names.txt",
    labels=2,
    parts={"train": ("train.bin",), "test": ("test.bin",)},
    images=50_000,
)


def cifar10(argument: str) -> SplitReaders:
    """``cifar10:PATH``: the archive cifar-10-binary.tar.gz, or a folder with the archive or its files.

    >>> cifar10("")
    Traceback (most recent call last):
    secateur.errors.UserError: the dataset 'cifar10' needs a folder (write 'cifar10:DIR')
    """
    return _parts(argument, "cifar10", CIFAR10)


def cifar100(argument: str) -> SplitReaders:
    """``cifar100:PATH``: like ``cifar10``, with the 100 fine labels.

    >>> cifar100("")
    Traceback (most recent call last):
    secateur.errors.UserError: the dataset 'cifar100' needs a folder (write 'cifar100:DIR')
    """
    return _parts(argument, "cifar100", CIFAR100)


def _parts(argument: str, name: str, layout: Layout) -> SplitReaders:
    if not argument:
        raise UserError(f"the dataset '{name}' needs a folder", hint=f"write '{name}:DIR'")
    path = Path(argument)
    for folder in (path / layout.folder, path):
        if all((folder / file).is_file() for files in layout.parts.values() for file in files):
            return {part: partial(_from_folder, folder, part, name, layout) for part in layout.parts}
    archive = path if path.is_file() else path / layout.archive
    if archive.is_file():
        return {part: partial(_from_archive, archive, part, name, layout) for part in layout.parts}
    pickled = [*path.glob("*/data_batch_1"), *path.glob("data_batch_1"), *path.glob("cifar-*-python*")]
    raise UserError(
        f"'{argument}' holds {'the pickled' if pickled else 'no'} {name} files",
        hint=f"download the binary version: https://www.cs.toronto.edu/~kriz/{layout.archive}",
    )


def _from_folder(folder: Path, part: str, name: str, layout: Layout) -> Dataset:
    def read(file: str, limit: int) -> bytes:
        path = folder / file
        if not path.is_file():
            raise UserError(f"'{folder}' has no file '{file}'", hint="unpack the archive again")
        with path.open("rb") as stream:
            return stream.read(limit + 1)

    return _dataset(read, part, name, layout, str(folder))


def _from_archive(path: Path, part: str, name: str, layout: Layout) -> Dataset:
    digest = file_sha256(path)
    if digest != layout.sha256:
        raise UserError(
            f"'{path}' is not the official {layout.archive}: its sha256 is {digest[:16]}…",
            hint=f"download it again from https://www.cs.toronto.edu/~kriz/{layout.archive}",
        )
    wanted = {f"{layout.folder}/{file}": file for file in (layout.names, *layout.parts[part])}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                # Read member by member without extracting: hostile paths and links have no effect.
                if member.name in wanted and member.isreg():
                    content = archive.extractfile(member)
                    limit = layout.images * (PIXELS + layout.labels) + 1
                    found[wanted[member.name]] = content.read(limit) if content is not None else b""
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"'{path}' cannot be read: {error}", hint="download it again") from error

    def read(file: str, limit: int) -> bytes:
        if file not in found:
            raise UserError(f"'{path}' has no regular member '{layout.folder}/{file}'")
        return found[file]

    return _dataset(read, part, name, layout, str(path))


def _dataset(read: Callable[[str, int], bytes], part: str, name: str, layout: Layout, where: str) -> Dataset:
    names = read(layout.names, MAX_NAMES).decode(errors="replace").split()
    record = layout.labels + PIXELS
    batches = []
    for file in layout.parts[part]:
        content = read(file, layout.images * record)
        if not content or len(content) % record or len(content) > layout.images * record:
            raise UserError(
                f"'{file}' in '{where}' is damaged: {len(content)} bytes, "
                f"expected a multiple of {record}, for at most {layout.images} images",
                hint="download it again",
            )
        batches.append(np.frombuffer(content, np.uint8).reshape(-1, record))
    records = np.concatenate(batches)
    labels = records[:, layout.labels - 1]
    if (wrong := np.flatnonzero(labels >= len(names))).size:
        raise UserError(
            f"'{where}': image {wrong[0]} has label {labels[wrong[0]]}, but there are {len(names)} classes"
        )
    return from_pixels(name, records[:, layout.labels :].reshape(-1, 3, 32, 32), labels, tuple(names))
