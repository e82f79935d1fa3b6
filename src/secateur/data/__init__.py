"""Labelled images in [0, 1]: reading, splitting, identity."""

from secateur.data.arrays import npz as npz
from secateur.data.arrays import pack as pack
from secateur.data.arrays import svhn as svhn
from secateur.data.cifar import cifar10 as cifar10
from secateur.data.cifar import cifar100 as cifar100
from secateur.data.dataset import Dataset as Dataset
from secateur.data.files import fashion_mnist as fashion_mnist
from secateur.data.files import idx as idx
from secateur.data.folders import folder as folder
from secateur.data.pictures import size_of as size_of
from secateur.data.sources import attacked_part as attacked_part
from secateur.data.sources import digits as digits
from secateur.data.sources import explained as explained
from secateur.data.sources import fitted_part as fitted_part
from secateur.data.sources import load as load
from secateur.data.sources import load_splits as load_splits
from secateur.data.sources import open_source as open_source
from secateur.data.splits import Splits as Splits
from secateur.data.splits import draw_fairly as draw_fairly
from secateur.data.splits import findings as findings
from secateur.data.splits import hold_out as hold_out
from secateur.data.splits import split as split
from secateur.data.splits import subset as subset
