"""The models of the zoo: how to build each by name, and what to feed it."""

import json
from pathlib import Path

import torch
from peers import import_torchvision

LIBRARIES = ("torchvision", "timm", "hf")


def names(library):
    """All names of a library, in order."""
    if library == "torchvision":
        models = import_torchvision().models
        return models.list_models(module=models) + models.list_models(module=models.video)
    if library == "timm":
        table = json.loads((Path(__file__).parent / "timm_small.json").read_text())
        return list(table.values())
    return sorted(HF)


def build(library, name):
    """A model with its own random weights (seeded), in eval mode, and example inputs of batch size 1."""
    torch.manual_seed(0)
    if library == "torchvision":
        return _torchvision(name)
    if library == "timm":
        import_torchvision()
        import timm

        model = timm.create_model(name, pretrained=False)
        if model.num_classes == 0:
            # A feature extractor; the zoo is about classifiers.
            model = timm.create_model(name, pretrained=False, num_classes=1000)
        model.eval()
        return model, torch.rand(1, *_timm_size(model.default_cfg))
    return HF[name]()


def _timm_size(config):
    """The input size of a timm model; those made for large images see small ones where they take any size."""
    size = config["input_size"]
    if size[1] <= 300 or config.get("fixed_input_size"):
        return size
    least = (config.get("min_input_size") or (3, 256, 256))[1]
    side = least * -(-224 // least)
    return (size[0], side, side)


def _torchvision(name):
    models = import_torchvision().models
    extra = {"init_weights": False} if name in {"googlenet", "inception_v3"} else {}
    model = models.get_model(name, **extra).eval()
    if name in models.list_models(module=models.video):
        size = 224 if name.startswith(("mvit", "swin", "s3d")) else 112
        return model, torch.rand(1, 3, 16, size, size)
    size = 299 if name == "inception_v3" else 224
    return model, torch.rand(1, 3, size, size)


def _tokens(vocabulary):
    return {"input_ids": torch.randint(1, vocabulary, (1, 16), generator=torch.Generator().manual_seed(0))}


def _hf(kind, *, image=0, vocabulary=0, **settings):
    def make():
        import_torchvision()
        import transformers

        config = getattr(transformers, f"{kind}Config")(**settings)
        head = "ForImageClassification" if image else "ForSequenceClassification"
        model = getattr(transformers, f"{kind}{head}")(config).eval()
        inputs = {"pixel_values": torch.rand(1, 3, image, image)} if image else _tokens(vocabulary)
        return model, inputs

    return make


HF = {
    "vit": _hf(
        "ViT",
        image=64,
        image_size=64,
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=192,
    ),
    "swin": _hf(
        "Swin", image=64, image_size=64, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4
    ),
    "convnext": _hf("ConvNext", image=64, hidden_sizes=[24, 48, 96, 192], depths=[1, 1, 2, 1]),
    "bert": _hf(
        "Bert",
        vocabulary=200,
        vocab_size=200,
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=192,
    ),
    "distilbert": _hf(
        "DistilBert", vocabulary=200, vocab_size=200, dim=96, n_layers=3, n_heads=4, hidden_dim=192
    ),
    "llama-gqa": _hf(
        "Llama",
        vocabulary=200,
        vocab_size=200,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=256,
        pad_token_id=0,
    ),
}
