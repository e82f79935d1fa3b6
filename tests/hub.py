"""Small classifiers of transformers in folders, as ``save_pretrained`` leaves them; skipped without it."""

import json

import pytest
import torch

from secateur import data, models
from secateur.recipes import Recipe
from secateur.train import train

PROCESSOR = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.3],
    "image_std": [0.4],
    "rescale_factor": 1 / 255,
    "size": {"height": 16, "width": 16},
}
STATISTICS = ((0.3,), (0.4,))


def transformers():
    """The package, without its progress bars."""
    found = pytest.importorskip("transformers")
    try:
        # Its networks are imported when they are asked for, torchvision with them if that is installed.
        found.ResNetForImageClassification  # noqa: B018
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"transformers cannot be used here: {error}")
    found.logging.set_verbosity_error()
    found.logging.disable_progress_bar()
    return found


def resnet(*, classes=10, channels=1):
    """An untrained network for images of 16x16."""
    package = transformers()
    names = {number: f"digit {number}" for number in range(classes)}
    config = package.ResNetConfig(
        num_channels=channels,
        embedding_size=16,
        hidden_sizes=[16, 32],
        depths=[1, 1],
        layer_type="basic",
        id2label=names,
        label2id={name: number for number, name in names.items()},
    )
    torch.manual_seed(0)
    return package.ResNetForImageClassification(config)


def vit(*, classes=10, channels=1):
    """An untrained network for images of 8x8."""
    package = transformers()
    torch.manual_seed(0)
    config = package.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=8,
        patch_size=2,
        num_channels=channels,
        num_labels=classes,
    )
    return package.ViTForImageClassification(config)


def saved(network, folder, processor=None):
    """The folder of a network, with what its processor does beside it."""
    network.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def trained(folder):
    """The folder of a network that recognises most digits of 16x16."""
    saved(resnet(), folder, PROCESSOR)
    model = models.resolve(f"hf:{folder}")
    digits = data.load("digits:split", split="train", resize=16)
    train(model, digits, digits.take(range(0, digits.n, 10)), Recipe(epochs=6, batch_size=64), seed=0)
    saved(model.model.eval(), folder)
    return folder
