import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoints import refused, source, target
from secateur.errors import UserError
from secateur.models import load_weights


class Payload:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_that_would_run_a_command_does_not_run_it(tmp_path, state, new_format):
    path, trace = tmp_path / "w.pt", tmp_path / "it-ran"
    torch.save({**state, "x": Payload(f"touch {trace}")}, path, _use_new_zipfile_serialization=new_format)
    refused(path, "reading it would run code")
    assert not trace.exists()


def test_loading_with_pickles_allowed_would_be_noticed(tmp_path, state, monkeypatch):
    real = torch.load
    monkeypatch.setattr(torch, "load", lambda path, **_: real(path, weights_only=False))
    with pytest.raises(AssertionError):
        test_a_pickle_that_would_run_a_command_does_not_run_it(tmp_path, state, True)
    assert (tmp_path / "it-ran").exists()


def test_a_whole_pickled_module_is_refused(tmp_path):
    torch.save(source(), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "save model.state_dict")


@pytest.mark.parametrize("kind", ["float8", "meta"])
def test_tensors_without_usable_numbers_are_refused(tmp_path, state, kind):
    def odd(tensor):
        if kind == "meta":
            return tensor.to("meta")
        return tensor.to(torch.float8_e4m3fn) if tensor.is_floating_point() else tensor

    torch.save({key: odd(tensor) for key, tensor in state.items()}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "which is not supported")


def test_a_plain_pickle_is_not_read(tmp_path):
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"a": 1}))
    refused(tmp_path / "w.pt", "not a weight file")


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.1, 0.5, 0.99, -1])
def test_a_truncated_file_is_refused(tmp_path, state, keep, new_format):
    path = tmp_path / "w.pt"
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if keep == -1 else whole[: int(keep * len(whole))])
    refused(path, "damaged|is empty|not a weight file")


def test_a_flipped_bit_is_found_where_the_hash_is_known(tmp_path, state):
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    sha256 = load_weights(target(), path).sha256
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refused(path, "not the expected file", sha256=sha256)


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path, state):
    torch.save(state, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as old, zipfile.ZipFile(tmp_path / "z.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED)
    refused(tmp_path / "z.pt", "is compressed")


def test_a_huge_archive_is_refused_before_it_is_unpacked(tmp_path, state, monkeypatch):
    torch.save(state, tmp_path / "w.pt")
    monkeypatch.setattr("secateur.models.weight_files.MAX_TENSORS", 3)
    refused(tmp_path / "w.pt", "unpacks to more")


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path, state):
    state["linear.bias"] = torch.zeros(1).expand(10)
    torch.save(state, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "claims more elements")


def test_torchscript_tar_and_web_pages_are_refused_by_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/constants.pkl", b"")
        archive.writestr("script/data.pkl", b"")
    refused(tmp_path / "script.pt", "TorchScript")
    with tarfile.open(tmp_path / "old.pth", "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    refused(tmp_path / "old.pth", "tar archive")
    (tmp_path / "page.pt").write_text("<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>")
    refused(tmp_path / "page.pt", "web page")


def safetensors_file(path, header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def test_hostile_safetensors_headers_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    refused(path, "header does not fit")
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for header, body in [
        ({"a": entry, "b": entry}, bytes(8)),
        ({"a": entry}, bytes(12)),
        ({"a": entry | {"shape": [2**62, 2**62]}}, bytes(8)),
        ({"a": entry | {"data_offsets": [0, 800]}}, bytes(8)),
        (b'{"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}, "a": {}}', bytes(4)),
        (b"not json", b""),
    ]:
        safetensors_file(path, header, body)
        refused(path, "damaged")
    monkeypatch.setattr("secateur.models.weight_files.MAX_TENSORS", 3)
    safetensors_file(path, {str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(4)})
    refused(path, "4 tensors")


def test_what_is_not_a_regular_file_is_refused(tmp_path):
    refused(tmp_path / "absent.pt", "there is no file")
    refused(tmp_path, "not a regular file")
    os.mkfifo(tmp_path / "pipe.pt")
    refused(tmp_path / "pipe.pt", "not a regular file")


def test_a_link_is_its_file_and_one_to_nothing_or_a_pipe_is_refused(tmp_path, state):
    torch.save(state, tmp_path / "w.pt")
    os.mkfifo(tmp_path / "pipe")
    for name, place in {"good": "w.pt", "gone": "absent", "loop": "loop.pt", "piped": "pipe"}.items():
        (tmp_path / f"{name}.pt").symlink_to(place)
    whole = [load_weights(target(), tmp_path / name).sha256 for name in ("good.pt", "w.pt")]
    assert whole[0] == whole[1]
    refused(tmp_path / "gone.pt", "there is no file")
    refused(tmp_path / "loop.pt", "there is no file")
    refused(tmp_path / "piped.pt", "not a regular file")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_damaged_anywhere_loads_or_is_refused_and_nothing_else_happens(tmp_path, state, kind):
    path, chance = tmp_path / f"w.{'safetensors' if kind == 'safetensors' else 'pt'}", random.Random(0)
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    whole, outcomes = path.read_bytes(), []
    for _ in range(80):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 1, 3, 20])):
            near = chance.choice([len(whole), 3000])
            position = chance.randrange(min(near, len(whole)))
            damaged[chance.choice([position, -1 - position])] = chance.randrange(256)
        path.write_bytes(damaged[: chance.choice([None, None, None, chance.randrange(len(whole))])])
        try:
            load_weights(target(), path)
            outcomes.append("loaded")
        except UserError as error:
            outcomes.append(str(error))
    assert not any("\n" in outcome for outcome in outcomes)
    assert outcomes.count("loaded") < 60
