"""Rows of an array inside an .npz file, read forwards without reading the array."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from secateur.data.parts import Blocks


@dataclass(frozen=True)
class Header:
    """What the first bytes of an .npy file say."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype


def header_of(file: IO[bytes]) -> Header:
    """The header of an .npy file, which is read up to its first number.

    >>> import io
    >>> file = io.BytesIO()
    >>> np.save(file, np.zeros((3, 2), np.uint8))
    >>> _ = file.seek(0)
    >>> header_of(file).shape
    (3, 2)
    """
    version = np.lib.format.read_magic(file)
    old = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    return Header(*read(file))


def array_header(path: Path, name: str) -> Header:
    """The header of the array ``name`` of an .npz file."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        return header_of(file)


def array_rows(path: Path, name: str, blocks: Blocks) -> Iterator[tuple[list[int], np.ndarray]]:
    """Rows of an array of an .npz file, packed or not: the places of each block, and an array of its rows.

    Raises:
        EOFError: the file ends too early.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", x=np.arange(12).reshape(6, 2))
    ...     [rows.tolist() for _, rows in array_rows(Path(f"{folder}/a.npz"), "x", [[0, 1], [4]])]
    [[[0, 1], [2, 3]], [[8, 9]]]
    """
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        header = header_of(file)
        bytes_each, place = header.dtype.itemsize * prod(header.shape[1:]), 0
        for places in blocks:
            found = np.empty((len(places), *header.shape[1:]), header.dtype)
            room, at = found.reshape(-1).view(np.uint8).data, 0
            for first, count in _runs(places):
                file.seek((first - place) * bytes_each, 1)
                _fill(file, room[at : at + count * bytes_each])
                at += count * bytes_each
                place = first + count
            yield places, found
            # The array may not live on while the next one is read.
            del found, room


def _runs(places: list[int]) -> Iterator[tuple[int, int]]:
    """First place and length of every run of neighbours."""
    for _, run in groupby(enumerate(places), lambda pair: pair[1] - pair[0]):
        members = [place for _, place in run]
        yield members[0], len(members)


def _fill(file: IO[bytes], room: memoryview) -> None:
    while len(room):
        count = file.readinto(room)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("it ends too early")
        room = room[count:]
