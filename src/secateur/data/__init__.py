"""Labelled images in [0, 1]: read, split, and identified by their content."""

from secateur.data.arrays import npz as npz
from secateur.data.arrays import save_npz as save_npz
from secateur.data.arrays import svhn as svhn
from secateur.data.cifar import cifar10 as cifar10
from secateur.data.cifar import cifar100 as cifar100
from secateur.data.dataset import Dataset as Dataset
from secateur.data.handed_over import Stream as Stream
from secateur.data.handed_over import of as of
from secateur.data.idx_files import fashion_mnist as fashion_mnist
from secateur.data.idx_files import idx as idx
from secateur.data.image_folder import folder as folder
from secateur.data.images import image_size as image_size
from secateur.data.loading import describe_splits as describe_splits
from secateur.data.loading import digits as digits
from secateur.data.loading import evaluation_split as evaluation_split
from secateur.data.loading import load as load
from secateur.data.loading import load_splits as load_splits
from secateur.data.loading import open_dataset as open_dataset
from secateur.data.loading import training_split as training_split
from secateur.data.splits import Splits as Splits
from secateur.data.splits import hold_out as hold_out
from secateur.data.splits import random_stratified_indices as random_stratified_indices
from secateur.data.splits import split as split
from secateur.data.splits import split_warnings as split_warnings
from secateur.data.splits import subset as subset
from secateur.data.streaming import stream as stream
