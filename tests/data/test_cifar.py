import hashlib
import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from secateur.data import cifar, load, load_splits
from secateur.errors import UserError

NAMES = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n"


def records(n, labels, seed):
    generator = np.random.default_rng(seed)
    columns = [np.full((n, 1), 7, np.uint8)] * (labels - 1)
    columns += [np.arange(n, dtype=np.uint8)[:, None] % 10, generator.integers(0, 256, (n, 3072), np.uint8)]
    return np.concatenate(columns, axis=1)


def files(layout=cifar.CIFAR10):
    found = {layout.names: NAMES.encode()}
    for seed, file in enumerate([file for part in layout.parts.values() for file in part]):
        found[file] = records(20, layout.labels, seed).tobytes()
    return found


def write_folder(folder, content):
    folder.mkdir(parents=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)


def write_archive(path, content, *, folder="cifar-10-batches-bin", extra=()):
    with tarfile.open(path, "w:gz") as archive:
        for member in extra:
            archive.addfile(member)
        for name, data in content.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.fixture
def pin(monkeypatch):
    """Make an archive the official one."""

    def pinned(path):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setattr(cifar, "CIFAR10", replace(cifar.CIFAR10, sha256=digest))

    return pinned


@pytest.mark.parametrize("below", ["cifar-10-batches-bin", "."])
def test_unpacked_binary_files_are_read(tmp_path, below):
    content = files()
    write_folder(tmp_path / "data" / below, content)
    train, test = (load(f"cifar10:{tmp_path / 'data'}", split=part) for part in ("train", "test"))
    assert (train.n, test.n, train.shape, train.levels) == (100, 20, (3, 32, 32), 256)
    assert train.classes == tuple(NAMES.split())
    assert train.y[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    first = np.frombuffer(content["data_batch_1.bin"], np.uint8)[1:3073].reshape(3, 32, 32)
    assert np.array_equal((train.x[0] * 255).round().to(torch.uint8).numpy(), first)


def test_the_archive_gives_the_same_images_as_its_unpacked_files(tmp_path, pin):
    write_folder(tmp_path / "open" / "cifar-10-batches-bin", files())
    packed = tmp_path / "packed"
    packed.mkdir()
    write_archive(packed / "cifar-10-binary.tar.gz", files())
    pin(packed / "cifar-10-binary.tar.gz")
    expected = load(f"cifar10:{tmp_path / 'open'}").fingerprint
    assert load(f"cifar10:{packed}").fingerprint == expected
    assert load(f"cifar10:{packed / 'cifar-10-binary.tar.gz'}").fingerprint == expected


def test_the_official_test_part_stays_whole(tmp_path):
    write_folder(tmp_path / "d", files())
    parts = load_splits(f"cifar10:{tmp_path / 'd'}", generator=torch.Generator().manual_seed(0))
    assert (parts.train.n, parts.validation.n, parts.test.n) == (90, 10, 20)
    assert parts.test.fingerprint == load(f"cifar10:{tmp_path / 'd'}").fingerprint


def test_cifar100_takes_the_fine_labels(tmp_path):
    write_folder(tmp_path / "d", files(cifar.CIFAR100))
    data = load(f"cifar100:{tmp_path / 'd'}")
    assert data.y[:5].tolist() == [0, 1, 2, 3, 4]


def test_an_archive_that_is_not_the_official_one_is_not_opened(tmp_path):
    write_archive(tmp_path / "cifar-10-binary.tar.gz", files())
    with pytest.raises(UserError, match=r"not the official cifar-10-binary.tar.gz: its sha256"):
        load(f"cifar10:{tmp_path}")


def test_links_and_paths_in_an_archive_do_nothing(tmp_path, pin):
    content = files()
    content.pop("test_batch.bin")
    link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    outside = tarfile.TarInfo("../outside")
    path = tmp_path / "cifar-10-binary.tar.gz"
    write_archive(path, content, extra=[link, outside])
    pin(path)
    with pytest.raises(UserError, match="no regular member"):
        load(f"cifar10:{path}")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name]
    assert not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize("cut", [1000, -100])
def test_a_damaged_archive_is_refused(tmp_path, pin, cut):
    path = tmp_path / "cifar-10-binary.tar.gz"
    write_archive(path, files())
    path.write_bytes(path.read_bytes()[:cut])
    pin(path)
    with pytest.raises(UserError, match=r"cannot be read|no regular member"):
        load(f"cifar10:{path}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:-1], "expected a multiple of 3073"),
        (lambda data: b"", "expected a multiple of 3073"),
        (lambda data: data[:3073] + b"\x0a" + data[3074:], "image 1 has label 10, but there are 10 classes"),
        (lambda data: data * 501, "for at most 10000 images"),
    ],
)
def test_damaged_batches_are_refused(tmp_path, change, said):
    content = files()
    content["test_batch.bin"] = change(content["test_batch.bin"])
    write_folder(tmp_path / "d", content)
    with pytest.raises(UserError, match=said):
        load(f"cifar10:{tmp_path / 'd'}")


def test_the_pickled_version_is_refused_and_the_binary_one_recommended(tmp_path):
    write_folder(tmp_path / "d", {"data_batch_1": b"\x80\x04"})
    with pytest.raises(UserError, match=r"holds the pickled cifar10 files .*cifar-10-binary.tar.gz"):
        load(f"cifar10:{tmp_path / 'd'}")


def test_a_folder_without_the_files_says_where_they_are(tmp_path):
    with pytest.raises(UserError, match=r"holds no cifar10 files .*https://www.cs.toronto.edu"):
        load(f"cifar10:{tmp_path}")
    with pytest.raises(UserError, match="needs a folder"):
        load("cifar10")


def test_the_pinned_hashes_are_the_official_ones():
    assert cifar.CIFAR10.sha256.startswith("c4a38c50a1bc5f3a")
    assert cifar.CIFAR100.sha256.startswith("58a81ae192c23a4b")
