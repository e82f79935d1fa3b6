import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from models.checkpoints import refused, source, target
from secateur.errors import UserError
from secateur.models import build, load_weights, weights_hash


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


@pytest.mark.parametrize("wrapper", ["model", "net", "network"])
def test_the_files_of_training_scripts_are_unwrapped(tmp_path, state, wrapper):
    path, model = tmp_path / "w.pt", target()
    torch.save({wrapper: state, "optimizer": {"state": {}, "param_groups": []}, "epoch": 3}, path)
    assert load_weights(model, path).notes == (f"the weights were taken from '{wrapper}'",)
    assert weights_hash(model) == weights_hash(source())


def test_averaged_weights_beside_the_others_are_told(tmp_path, state):
    torch.save({"model": state, "model_ema": state}, tmp_path / "w.pt")
    assert (
        "the file also holds 'model_ema', which was not read"
        in load_weights(target(), tmp_path / "w.pt").notes
    )


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "net.backbone."])
def test_what_compilers_and_wrappers_add_to_names_is_removed(tmp_path, state, prefix):
    path, model = tmp_path / "w.pt", target()
    torch.save({prefix + key: value for key, value in state.items()}, path)
    assert load_weights(model, path).notes
    assert weights_hash(model) == weights_hash(source())


def test_a_part_that_was_compiled_alone_is_found(tmp_path, state):
    path, model = tmp_path / "w.pt", target()
    torch.save({key.replace("layer1.", "layer1._orig_mod."): state[key] for key in state}, path)
    load_weights(model, path)
    assert weights_hash(model) == weights_hash(source())


def test_an_averaged_model_is_read(tmp_path):
    path, model = tmp_path / "w.pt", target()
    average = torch.optim.swa_utils.AveragedModel(source())
    average.update_parameters(source())
    torch.save(average.state_dict(), path)
    assert "the weights are an average of 1 state of a training" in load_weights(model, path).notes
    assert weights_hash(model) == weights_hash(source())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight


def test_a_shared_parameter_may_be_in_the_file_once(tmp_path):
    kept, loaded = Tied(), Tied()
    save_model(kept, str(tmp_path / "w.safetensors"))
    load_weights(loaded, tmp_path / "w.safetensors")
    assert weights_hash(kept) == weights_hash(loaded)


def test_two_values_for_one_parameter_are_refused(tmp_path):
    state = {key: torch.rand_like(value) for key, value in Tied().state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"'first.weight' and 'second.weight' are one parameter"):
        load_weights(Tied(), tmp_path / "w.pt")
