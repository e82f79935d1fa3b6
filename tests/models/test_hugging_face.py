"""``hf:``: classifiers of transformers from a folder or the hub, whose code and pickles are never run."""

import json
import pickle
from importlib import import_module

import pytest
import torch
from safetensors.torch import load_file, save_file

import hub
from secateur import models, pruning
from secateur.errors import ExitCode, UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return hub.saved(hub.resnet(), tmp_path_factory.mktemp("hub") / "resnet", hub.PROCESSOR)


@pytest.fixture
def copied(folder, tmp_path):
    """A folder that may be changed."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("make", [hub.resnet, hub.vit])
def test_the_logits_are_those_of_transformers_on_normalised_images(make, tmp_path):
    network = make().eval()
    hub.saved(network, tmp_path, hub.PROCESSOR)
    model = models.resolve(f"hf:{tmp_path}").eval()
    assert models.statistics(model)[0] == pytest.approx((0.3,))
    x = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(x), network((x - 0.3) / 0.4).logits)
    # The names are those of transformers, so that its own code can load what was pruned.
    assert {name.removeprefix("model.") for name, _ in model.named_parameters()} >= {
        name.removeprefix("model.") for name, _ in network.named_parameters()
    }


def test_its_classes_size_and_normalisation_are_told(folder):
    model = models.resolve(f"hf:{folder}")
    assert models.classes_of(model) == tuple(f"digit {number}" for number in range(10))
    assert models.describe_hub_network(model).startswith(
        "ResNetForImageClassification with 10 classes: digit 0, digit 1"
    )
    assert "mean 0.3 and std 0.4, from its own configuration" in models.describe_normalisation(model)
    assert models.stated_size(f"hf:{folder}") == (16, 16)
    plain = models.resolve(f"hf:{folder}", normalise=((0.0,), (1.0,)))
    assert models.statistics(plain) is None
    assert models.describe_hub_network(plain)


def test_channels_are_read_in_the_order_of_the_processor(tmp_path):
    network = hub.resnet(channels=3).eval()
    hub.saved(network, tmp_path, {"do_flip_channel_order": True, "do_normalize": False})
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        ours = models.resolve(f"hf:{tmp_path}").eval()(x)
        torch.testing.assert_close(ours, network(x.flip(1)).logits)


def test_without_its_weights_the_configuration_alone_is_read(copied):
    (copied / "model.safetensors").unlink()
    state = torch.get_rng_state()
    model = models.resolve(f"hf:{copied}", pretrained=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert model(torch.rand(2, 1, 16, 16)).shape == (2, 10)
    with pytest.raises(UserError, match="has no weights: there is no model"):
        models.resolve(f"hf:{copied}")


def test_it_is_pruned_saved_and_built_again_from_the_configuration(folder, tmp_path):
    model = models.resolve(f"hf:{folder}").eval()
    report = pruning.prune(model, torch.rand(1, 1, 16, 16), sparsity=0.5)
    assert report.verified
    pruning.save(model, tmp_path / "pruned")
    build = lambda: models.resolve(f"hf:{folder}", pretrained=False)  # noqa: E731
    again = pruning.load(tmp_path / "pruned", build).eval()
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(model(x), again(x))


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_that_would_run_code_is_refused_and_weights_alone_are_read(copied):
    state = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    torch.save(state, copied / "pytorch_model.bin")
    assert models.resolve(f"hf:{copied}").model.training is False
    torch.save({**state, "more": Evil(copied / "ran")}, copied / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds more than weights, and reading it would run code"):
        models.resolve(f"hf:{copied}")
    (copied / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(copied / "ran")))
    with pytest.raises(UserError, match="is not a weight file"):
        models.resolve(f"hf:{copied}")
    assert not (copied / "ran").exists()


def test_code_that_comes_with_a_model_is_not_run(copied):
    (copied / "mine.py").write_text(f"open({str(copied / 'ran')!r}, 'w')")
    names = {"AutoConfig": "mine.Config", "AutoModelForImageClassification": "mine.Net"}
    changed(copied / "config.json", auto_map=names, model_type="mine", architectures=["Net"])
    with pytest.raises(UserError, match="needs code of its own, which is not run"):
        models.resolve(f"hf:{copied}")
    # A class that transformers has is taken instead of the code beside it.
    changed(copied / "config.json", model_type="resnet")
    models.resolve(f"hf:{copied}")
    assert not (copied / "ran").exists()


def test_what_is_no_trained_classifier_is_one_sentence(copied):
    spec, weights = f"hf:{copied}", copied / "model.safetensors"
    whole = load_file(weights)

    def refused(words, **options):
        with pytest.raises(UserError, match=words) as caught:
            models.resolve(spec, **options)
        assert "\n" not in str(caught.value)
        assert caught.value.code == ExitCode.BAD_INPUT

    refused(r"has 10 classes \(digit 0, .*\), but 3 are asked for", num_classes=3)
    refused("takes images with 1 channel, but these have 3", in_channels=3)
    refused("has no settings", settings={"depth": 2})
    save_file({name: each for name, each in whole.items() if "classifier" not in name}, weights)
    refused("lacks the weights classifier.1.bias, classifier.1.weight: it was not trained")
    save_file({**whole, "classifier.1.bias": torch.full((10,), torch.nan)}, weights)
    refused("'classifier.1.bias' contains NaN")
    save_file({**whole, "classifier.1.bias": torch.zeros(9)}, weights)
    refused("cannot be loaded")
    weights.write_bytes(weights.read_bytes()[:200])
    refused("cannot be loaded|is damaged")
    changed(copied / "config.json", model_type="bert")
    refused("is a bert and no image classifier")
    (copied / "config.json").write_text("[1]")
    refused("cannot be read|is no JSON object")
    (copied / "config.json").unlink()
    refused("holds no network of transformers")
    (copied / "config.json").write_text("{}")
    (copied / "preprocessor_config.json").write_text('{"image_mean": "grey", "image_std": 1}')
    with pytest.raises(UserError, match=r"preprocessor_config.json' is damaged: mean must be"):
        models.stated_size(spec)


@pytest.mark.parametrize("name", ["./absent", "a/b/c", "/no/such/folder", "", "two words", "a/../b"])
def test_a_name_that_is_neither_a_folder_nor_of_the_hub_is_one_sentence(name):
    hub.transformers()
    with pytest.raises(UserError, match="there is no folder"):
        models.resolve(f"hf:{name}")


def test_a_name_of_the_hub_is_fetched_into_its_cache(folder, monkeypatch):
    hub.transformers()
    asked = []

    def fetch(repository, *, revision, allow_patterns):
        asked.append((repository, revision, allow_patterns))
        return str(folder)

    monkeypatch.setattr(import_module("huggingface_hub"), "snapshot_download", fetch)
    assert models.resolve("hf:owner/name@v1")(torch.rand(1, 1, 16, 16)).shape == (1, 10)
    assert {(repository, revision) for repository, revision, _ in asked} == {("owner/name", "v1")}
    # Safetensors were there: no pickle was asked for, and never any code.
    patterns = {pattern for *_, some in asked for pattern in some}
    assert patterns == {
        "config.json",
        "preprocessor_config.json",
        "model*.safetensors",
        "model*.safetensors.index.json",
    }


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("RepositoryNotFoundError", ExitCode.BAD_INPUT, "the hub gives no 'owner/name'"),
        ("LocalEntryNotFoundError", ExitCode.ENVIRONMENT, "could not be fetched"),
        ("OSError", ExitCode.ENVIRONMENT, "could not be fetched"),
    ],
)
def test_a_hub_out_of_reach_is_one_sentence(kind, code, words, monkeypatch):
    hub.transformers()
    package = import_module("huggingface_hub")
    known = getattr(import_module("huggingface_hub.errors"), kind, OSError)

    class Failed(known):
        def __init__(self):
            Exception.__init__(self, "no route\nto the host")

    def fail(*_, **__):
        raise Failed

    monkeypatch.setattr(package, "snapshot_download", fail)
    with pytest.raises(UserError, match=words) as caught:
        models.resolve("hf:owner/name")
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["transformers", "huggingface_hub"])
def test_a_missing_package_is_named_with_its_extra(package, monkeypatch, tmp_path):
    def without(name, *arguments):
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named '{package}'")
        return import_module(name, *arguments)

    if package != "transformers":
        hub.transformers()
    monkeypatch.setattr("secateur.models.packages.import_module", without)
    with pytest.raises(UserError, match=f"needs the package {package}") as caught:
        models.resolve("hf:owner/name")
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert caught.value.hint == "pip install secateur[hf]"
