"""The sources of images."""

from secateur.registry.registry import Registry

DATASETS = Registry("dataset")
_CIFAR = {"images": (50_000, 10_000), "shape": (3, 32, 32), "bibtex": ("krizhevsky2009",)}

# ``images`` counts the official train and test parts, so that a study can be priced before they are here, or
# all images where there are no such parts. One of ``files`` lies in a folder that holds the dataset.

DATASETS.register(
    "digits",
    "secateur.data:digits",
    "1 797 handwritten 8x8 digits, 17 grey levels, built in",
    built_in=True,
    images=(1_797,),
    shape=(1, 8, 8),
    classes=10,
    label="UCI digits",
    bibtex=("alpaydin1998",),
)
DATASETS.register("idx", "secateur.data:idx", "MNIST-like IDX files in a folder: idx:DIR")
DATASETS.register(
    "folder",
    "secateur.data:folder",
    "a folder of pictures per class, alone or in train, val, test: folder:DIR",
)
DATASETS.register(
    "cifar10",
    "secateur.data:cifar10",
    "the official binary archive, packed or not: cifar10:DIR",
    **_CIFAR,
    classes=10,
    files=("cifar-10-batches-bin/test_batch.bin", "test_batch.bin", "cifar-10-binary.tar.gz"),
    label="CIFAR-10",
)
DATASETS.register(
    "cifar100",
    "secateur.data:cifar100",
    "the official binary archive, fine labels: cifar100:DIR",
    **_CIFAR,
    classes=100,
    files=("cifar-100-binary/test.bin", "test.bin", "cifar-100-binary.tar.gz"),
    label="CIFAR-100",
)
DATASETS.register(
    "fashion-mnist",
    "secateur.data:fashion_mnist",
    "the four official files: fashion-mnist:DIR",
    images=(60_000, 10_000),
    shape=(1, 28, 28),
    classes=10,
    files=("t10k-images-idx3-ubyte.gz",),
    label="Fashion-MNIST",
    paper="arXiv:1708.07747",
    bibtex=("xiao2017",),
)
DATASETS.register(
    "svhn",
    "secateur.data:svhn",
    "the cropped digits as .mat files: svhn:DIR",
    images=(73_257, 26_032),
    shape=(3, 32, 32),
    classes=10,
    files=("test_32x32.mat",),
    label="SVHN",
    bibtex=("netzer2011",),
)
DATASETS.register(
    "npz", "secateur.data:npz", "arrays x and y, or x_train, y_train, x_val, ..., y_test: npz:FILE"
)
