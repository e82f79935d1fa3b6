"""Labelled images in [0, 1]: read, split, and identified by their content."""

from secateur.data.arrays import npz, save_npz, svhn
from secateur.data.cifar import cifar10, cifar100
from secateur.data.dataset import Dataset
from secateur.data.idx_files import fashion_mnist, idx
from secateur.data.image_folder import folder
from secateur.data.images import image_size
from secateur.data.loading import (
    describe_splits,
    digits,
    evaluation_split,
    load,
    load_splits,
    open_dataset,
    training_split,
)
from secateur.data.splits import (
    Splits,
    hold_out,
    random_stratified_indices,
    split,
    split_warnings,
    subset,
)

__all__ = [
    "Dataset",
    "Splits",
    "cifar10",
    "cifar100",
    "describe_splits",
    "digits",
    "evaluation_split",
    "fashion_mnist",
    "folder",
    "hold_out",
    "idx",
    "image_size",
    "load",
    "load_splits",
    "npz",
    "open_dataset",
    "random_stratified_indices",
    "save_npz",
    "split",
    "split_warnings",
    "subset",
    "svhn",
    "training_split",
]
