"""What a processor of transformers does to images is read from its JSON, and is what it does."""

from pathlib import Path

import numpy as np
import pytest
import torch

import hub
from secateur.errors import UserError
from secateur.models.hub_preprocessing import Preprocessing, preprocessing_of

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


@pytest.mark.parametrize(
    ("processor", "statistics"),
    [
        (IMAGENET, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
        ({**IMAGENET, "do_normalize": False}, None),
        ({**IMAGENET, "do_normalize": None}, None),
        ({"image_mean": 0.5, "image_std": 0.25, "rescale_factor": 1 / 255}, ((0.5,), (0.25,))),
        # To [-1, 1] by the factor alone, and pixels up to 255.
        ({"rescale_factor": 2 / 255, "rescale_offset": True, "do_normalize": False}, ((0.5,), (0.5,))),
        ({"image_mean": [127.5], "image_std": [51.0], "do_rescale": False}, ((0.5,), (0.2,))),
        ({}, None),
    ],
)
def test_one_mean_and_one_deviation_stand_for_scaling_and_normalisation(processor, statistics):
    found = preprocessing_of(processor, {}).statistics
    if statistics is None:
        assert found is None
    else:
        assert [pytest.approx(values) for values in statistics] == [*found]


@pytest.mark.parametrize(
    ("processor", "config", "size"),
    [
        ({"size": 224}, {}, (224, 224)),
        ({"size": {"height": 48, "width": 64}}, {}, (48, 64)),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224}, {}, (224, 224)),
        ({"size": {"shortest_edge": 256}, "do_center_crop": False, "crop_size": 224}, {}, (256, 256)),
        ({"size": 224, "do_resize": False}, {}, None),
        ({}, {"image_size": 32}, (32, 32)),
        ({"size": 224}, {"image_size": 32}, (224, 224)),
        ({}, {"image_size": "large"}, None),
        ({}, {}, None),
    ],
)
def test_the_size_is_that_after_cropping(processor, config, size):
    assert preprocessing_of(processor, config).size == size


def test_a_network_of_timm_states_its_own():
    config = {"pretrained_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3, "input_size": [3, 32, 48]}}
    assert preprocessing_of({}, config) == Preprocessing(((0.5,) * 3, (0.25,) * 3), (32, 48))


@pytest.mark.parametrize(
    "processor",
    [{"image_mean": ["a"], "image_std": [1]}, {"rescale_factor": 0}, {"image_mean": [0.5], "image_std": [0]}],
)
def test_what_is_no_number_is_refused(processor):
    with pytest.raises(UserError, match="must be"):
        preprocessing_of(processor, {})


@pytest.mark.reference
@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("vit", {}),
        ("beit", {}),
        ("convnext", {}),
        ("efficientnet", {"rescale_offset": False}),
        ("efficientnet", {"rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False}),
        ("mobilevit", {"do_normalize": False}),
        ("mobilenet_v2", {}),
        ("levit", {}),
        ("vit", {"do_rescale": False}),
        ("vit", {"do_normalize": False}),
    ],
)
def test_it_is_what_the_processor_itself_does(model, options):
    hub.transformers()
    from importlib import import_module

    # Since version 5 the processors without torchvision have files of their own.
    places = {"image_processing_pil_": "ImageProcessorPil", "image_processing_": "ImageProcessor"}
    folder = Path(hub.transformers().__file__).parent / "models" / model
    place = next(each for each in places if (folder / f"{each}{model}.py").exists())
    file = import_module(f"transformers.models.{model}.{place}{model}")
    (kind,) = [
        value
        for name, value in vars(file).items()
        if name.endswith(places[place]) and value.__module__ == file.__name__
    ]
    still = {"do_resize": False, "do_center_crop": False}
    processor = kind(**options, **still)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    theirs = processor(pixels, return_tensors="pt")["pixel_values"]
    # What is saved lacks what the class itself sets.
    stated = {name: getattr(processor, name) for name in dir(kind) if not name.startswith("_")}
    stated |= vars(processor)
    stated = {name: value for name, value in stated.items() if isinstance(value, int | float | list | tuple)}
    found = preprocessing_of({**stated, "image_processor_type": kind.__name__}, {})
    ours = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    if found.flips:
        ours = ours.flip(1)
    if found.statistics is not None:
        mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in found.statistics)
        ours = (ours - mean) / std
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
