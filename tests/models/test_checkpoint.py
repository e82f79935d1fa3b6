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
from torch import nn

from secateur.errors import UserError
from secateur.models import build, load_weights, weights_hash


def source():
    model = build("resnet-tiny", widths=(4, 6))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.25)
    return model


def target():
    return build("resnet-tiny", widths=(4, 6))


def refused(path, said, **settings):
    """Loading fails in one sentence and leaves the model unchanged."""
    model = target()
    before = weights_hash(model)
    with pytest.raises(UserError, match=said) as caught:
        load_weights(model, path, **settings)
    assert "\n" not in str(caught.value)
    assert weights_hash(model) == before


@pytest.fixture
def state():
    return source().state_dict()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".safetensors"])
def test_a_state_dict_comes_back_exactly(tmp_path, state, suffix):
    path, model = tmp_path / f"w{suffix}", target()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = load_weights(model, path)
    assert weights_hash(model) == weights_hash(source())
    assert loaded.notes == ()
    assert len(loaded.sha256) == 64


def test_files_of_torch_before_1_6_are_read(tmp_path, state):
    path, model = tmp_path / "w.pth", target()
    torch.save(state, path, _use_new_zipfile_serialization=False)
    load_weights(model, path)
    assert weights_hash(model) == weights_hash(source())


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
def test_wrappers_and_prefixes_are_removed_and_noted(tmp_path, state, wrapper, prefix):
    path, model = tmp_path / "w.pt", target()
    torch.save({wrapper: {prefix + key: value for key, value in state.items()}, "epoch": 3}, path)
    notes = load_weights(model, path).notes
    assert weights_hash(model) == weights_hash(source())
    assert f"the weights were taken from '{wrapper}'" in notes
    assert sum("prefix" in note for note in notes) == prefix.count(".")


def test_a_prefix_on_some_keys_only_is_a_mismatch(tmp_path, state):
    keys = list(state)
    torch.save({("module." if key == keys[0] else "") + key: state[key] for key in keys}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "lacks 'conv1.weight' and has unknown 'module.conv1.weight'")


def test_a_model_whose_own_names_start_with_the_prefix_keeps_them(tmp_path):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Linear(2, 2)

    first, second = Wrapped(), Wrapped()
    torch.save(first.state_dict(), tmp_path / "w.pt")
    load_weights(second, tmp_path / "w.pt")
    assert weights_hash(first) == weights_hash(second)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_noted(tmp_path, state, dtype):
    path, model = tmp_path / "w.pt", target()
    torch.save(
        {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}, path
    )
    assert load_weights(model, path).notes == (f"weights were converted from {dtype}",)
    assert model.get_parameter("linear.weight").dtype == torch.float32
    assert torch.equal(model.get_parameter("linear.weight"), state["linear.weight"].to(dtype).float())


def test_missing_counters_of_batches_are_accepted_and_noted(tmp_path, state):
    torch.save({key: value for key, value in state.items() if "num_batches" not in key}, tmp_path / "w.pt")
    (note,) = load_weights(target(), tmp_path / "w.pt").notes
    assert "num_batches_tracked" in note


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


def test_a_plain_pickle_is_not_read(tmp_path):
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"a": 1}))
    refused(tmp_path / "w.pt", "not a file of weights")


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.1, 0.5, 0.99, -1])
def test_a_truncated_file_is_refused(tmp_path, state, keep, new_format):
    path = tmp_path / "w.pt"
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if keep == -1 else whole[: int(keep * len(whole))])
    refused(path, "damaged|is empty|not a file of weights")


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
    monkeypatch.setattr("secateur.models.checkpoint.MAX_TENSORS", 3)
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


def test_missing_unexpected_and_renamed_tensors_are_listed_up_to_five(tmp_path, state):
    for key in list(state)[:7]:
        state["other." + key] = state.pop(key)
    torch.save(state, tmp_path / "w.pt")
    refused(
        tmp_path / "w.pt",
        "lacks 'conv1.weight'.* and 1 more and has unknown 'other.conv1.weight'.* and 2 more",
    )


def test_a_wrong_number_of_classes_names_the_tensor_and_both_shapes(tmp_path):
    torch.save(build("resnet-tiny", widths=(4, 6), num_classes=7).state_dict(), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", r"'linear.weight' has shape \[7, 6\], the model needs \[10, 6\]")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("linear.bias", float("nan"), "'linear.bias' contains NaN"),
        ("conv1.weight", float("inf"), "'conv1.weight' contains NaN or infinity"),
        ("bn1.running_var", -1e-3, "negative variance"),
    ],
)
def test_broken_values_are_refused_by_name(tmp_path, state, key, value, said):
    state[key].view(-1)[0] = value
    torch.save(state, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", said)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_complex_and_integer_weights_are_refused(tmp_path, state, dtype):
    state["linear.bias"] = state["linear.bias"].to(dtype)
    torch.save(state, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "'linear.bias' is of type")


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch is retiring the type; files with it will stay
def test_quantised_weights_are_refused(tmp_path, state):
    state["linear.bias"] = torch.quantize_per_tensor(state["linear.bias"], 0.1, 0, torch.qint8)
    torch.save(state, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "'linear.bias' is of type|reading it would run code|damaged")


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
    monkeypatch.setattr("secateur.models.checkpoint.MAX_TENSORS", 3)
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


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"state_dict": [1]}])
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "holds no state dict")


def test_constants_of_the_architecture_may_be_in_the_file_if_they_agree(tmp_path):
    model = build("resnet50", widths=(2, 2, 2, 2), normalise="cifar10-robustness")
    state = model.state_dict()
    assert not {"mu", "sigma"} & set(state)
    constants = {"mu": model.get_buffer("mu").clone(), "sigma": model.get_buffer("sigma").clone()}
    torch.save(state | constants, tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt")
    constants["sigma"][0, 0] = 0.25
    torch.save(state | constants, tmp_path / "w.pt")
    with pytest.raises(UserError, match="'sigma' is not the architecture's"):
        load_weights(model, tmp_path / "w.pt")
    torch.save(state | {"mu": torch.zeros(7)}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="'mu' is not the architecture's"):
        load_weights(model, tmp_path / "w.pt")


def test_an_index_of_a_sequential_before_all_names_is_removed(tmp_path, state):
    torch.save(
        {"model_state_dict": {f"module.0.{key}": value for key, value in state.items()}}, tmp_path / "w.pt"
    )
    model = target()
    load_weights(model, tmp_path / "w.pt")
    assert weights_hash(model) == weights_hash(source())


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_damaged_anywhere_loads_or_is_refused_and_nothing_else_happens(tmp_path, state, kind):
    path, chance = tmp_path / f"w.{'safetensors' if kind == 'safetensors' else 'pt'}", random.Random(0)
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    whole, outcomes = path.read_bytes(), []
    for _ in range(200):
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
    assert outcomes.count("loaded") < 150
