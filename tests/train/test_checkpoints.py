import os
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import ANY

import pytest
import torch

from secateur.train import Checkpoints, checkpoints


def state(value):
    return {"a/b": torch.full((3,), float(value)), "n": torch.tensor(value)}


@pytest.fixture
def three(tmp_path):
    kept = Checkpoints(tmp_path / "ckpt")
    for epoch in (1, 2, 3):
        kept.save(epoch, state(epoch), {"x": 0.1, "epoch": epoch})
    return kept


def test_what_was_saved_comes_back(three):
    saved = three.latest()
    assert (saved.epoch, saved.meta, saved.skipped) == (3, {"x": 0.1, "epoch": 3}, ())
    assert torch.equal(saved.tensors["a/b"], torch.full((3,), 3.0))
    assert saved.tensors["n"] == 3


def test_two_generations_are_kept_and_nothing_else_is_left(three):
    assert sorted(path.name for path in three.folder.iterdir()) == ["epoch-000002", "epoch-000003"]


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path):
    assert Checkpoints(tmp_path / "none").latest() is None
    assert Checkpoints(tmp_path).latest() is None


@pytest.mark.parametrize("name", ["state.safetensors", "meta.json"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.99])
def test_a_truncated_file_falls_back_to_the_generation_before(three, name, share):
    path = three.folder / "epoch-000003" / name
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    saved = three.latest()
    assert (saved.epoch, saved.skipped) == (2, ("epoch-000003",))


@pytest.mark.parametrize("name", ["state.safetensors", "meta.json"])
def test_any_flipped_bit_is_found(three, name):
    path = three.folder / "epoch-000003" / name
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert three.latest().epoch == 2, position


def test_a_reader_that_trusts_the_files_would_be_noticed(three, monkeypatch):
    monkeypatch.setattr(checkpoints, "json_sha256", lambda _: ANY)
    with pytest.raises((AssertionError, KeyError)):
        test_any_flipped_bit_is_found(three, "meta.json")


def test_two_damaged_generations_mean_a_new_start(three):
    for path in three.folder.iterdir():
        (path / "meta.json").unlink()
    assert three.latest() is None


@pytest.mark.parametrize("call", ["fsync", "write", "rename"])
def test_an_interrupted_save_leaves_the_generation_before(three, monkeypatch, call):
    def fails(*_arguments, **_keywords):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        if call == "fsync":
            patched.setattr(os, "fsync", fails)
        elif call == "write":
            patched.setattr(checkpoints, "write_durably", fails)
        else:
            patched.setattr(type(three.folder), "rename", fails)
        with pytest.raises(OSError, match="No space"):
            three.save(4, state(4), {})
    assert three.latest().epoch == 3
    three.save(4, state(4), {})
    assert three.latest().epoch == 4


def test_saving_an_epoch_again_replaces_it(three):
    three.save(3, state(30), {})
    assert three.latest().tensors["n"] == 30


def test_clearing_removes_generations_and_leftovers_but_nothing_of_others(three):
    (three.folder / ".tmp-left").mkdir()
    (three.folder / "mine.txt").write_text("x")
    three.clear()
    assert [path.name for path in three.folder.iterdir()] == ["mine.txt"]


def save_many(folder):
    kept = Checkpoints(folder)
    for epoch in range(1, 16):
        kept.save(epoch, state(epoch), {"epoch": epoch})


def test_two_runners_of_one_training_do_not_disturb_each_other(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(save_many, tmp_path) for _ in range(4)]:
            done.result()
    assert Checkpoints(tmp_path).latest().epoch == 15
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tmp-")]
