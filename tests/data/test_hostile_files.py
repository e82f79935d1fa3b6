"""Data that a stranger made: no other program is started, and memory follows the file, not its claims."""

import gzip
import io
import os
import resource
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from secateur.data import image_folder, images, load
from secateur.errors import UserError

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def pictures(tmp_path):
    for name in "ab":
        (tmp_path / "ds" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "ds" / name / "0.png")
    return tmp_path / "ds"


def refused(spec, match):
    with pytest.raises(UserError, match=match) as caught:
        load(spec)
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_postscript_under_another_name_starts_no_program(tmp_path, pictures, monkeypatch, suffix):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gs"
    program.write_text(f"#!/bin/sh\necho ran >> {tmp_path}/ran\necho 10.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (pictures / "a" / f"x.{suffix}").write_bytes(EPS)
    assert f"x.{suffix}" in refused(f"folder:{pictures}", "its content is not PNG, JPEG, .* or WEBP")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["PCX", "TGA", "ICO", "SGI"])
def test_only_the_formats_of_the_list_are_decoded(pictures, kind):
    Image.new("L", (8, 8)).save(pictures / "a" / "x.png", format=kind)
    refused(f"folder:{pictures}", "x.png' is not a readable image: its content is not")


@pytest.mark.parametrize("error", [KeyError(3), struct.error("short"), ZeroDivisionError(), MemoryError()])
def test_whatever_a_decoder_raises_is_one_sentence_with_the_file(pictures, monkeypatch, error):
    def fail(image):
        raise error

    monkeypatch.setattr(images, "pixels_of", fail)
    refused(f"folder:{pictures}", r"a/0.png' is not a readable image: ")


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_picture_that_claims_too_many_pixels_is_refused_unread(pictures):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    (pictures / "a" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b""))
    refused(f"folder:{pictures}", "x.png' is not a readable image: ")


def test_many_small_files_that_hold_too_many_pixels_are_refused(pictures, monkeypatch):
    monkeypatch.setattr(image_folder, "MAX_DECODED", 100)
    refused(f"folder:{pictures}", "take more than")


def archive(path, headers):
    """An .npz with arrays of these (dtype, shape), whose headers are all there is of them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, (dtype, shape, content) in headers.items():
            stream = io.BytesIO()
            head = {"descr": dtype, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, head)
            packed.writestr(f"{name}.npy", stream.getvalue() + content)
    return f"npz:{path}"


@pytest.mark.parametrize(
    "headers",
    [
        {"x": ("|u1", (10**8, 1, 1000, 1000), b""), "y": ("<i8", (4,), bytes(32))},
        {"x": ("|u1", (4, 8, 8), bytes(256)), "y": ("<i8", (10**11,), bytes(32))},
        {
            "x": ("|u1", (4, 8, 8), bytes(256)),
            "y": ("<i8", (4,), bytes(32)),
            "classes": ("<U1", (10**11,), b""),
        },
        {"x": ("|u1", (4, 8, 8), bytes(255)), "y": ("<i8", (4,), bytes(32))},
    ],
)
def test_an_array_is_not_larger_than_its_bytes(tmp_path, headers):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(archive(tmp_path / "d.npz", headers), "header of '.*' promises .* bytes, it has ")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_what_is_no_array_inside_an_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as packed:
        packed.writestr("x.npy", b"hello")
        packed.writestr("y.npy", b"")
    refused(f"npz:{tmp_path / 'd.npz'}", "cannot be read")


def test_an_archive_that_unpacks_to_very_much_is_refused_unread(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((4, 512, 512), np.uint8), y=np.arange(4))
    assert load(f"npz:{tmp_path / 'd.npz'}").n == 4
    monkeypatch.setattr("secateur.data.arrays.LARGE", 2**16)
    refused(f"npz:{tmp_path / 'd.npz'}", "unpacks to more than 100 times its size")


def test_an_idx_file_is_read_as_far_as_its_header_goes(tmp_path):
    """What follows the four bytes that it names is not unpacked."""
    with gzip.open(tmp_path / "t10k-images-idx3-ubyte.gz", "wb", compresslevel=1) as stream:
        stream.write(struct.pack(">IIII", 0x803, 1, 2, 2))
        for _ in range(64):
            stream.write(bytes(2**20))
    with gzip.open(tmp_path / "t10k-labels-idx1-ubyte.gz", "wb") as stream:
        stream.write(struct.pack(">II", 0x801, 1) + b"\0")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(f"idx:{tmp_path}", "promises 4 bytes, it has more")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000
