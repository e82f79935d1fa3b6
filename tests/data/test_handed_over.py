"""``data.of``: arrays, loaders and the data sets of other libraries, as people hand them over."""

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, get_worker_info

from secateur import data
from secateur.data import Dataset
from secateur.data.streaming import whole_or_stream
from secateur.errors import UserError

N = 12
X = torch.rand(N, 3, 4, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 3
GREY = (X * 255).round().to(torch.uint8)


class Rows:
    """A data set as torchvision has them: length, rows, and the names of its classes."""

    classes = ("cat", "dog", "eel")

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, at):
        assert type(at) is int
        return self.rows[at]


class Named(Rows):
    """Rows by name and features that know the classes, as Hugging Face data sets have them."""

    classes = None

    @property
    def features(self):
        return {"label": SimpleNamespace(names=["cat", "dog", "eel"])}


class Broken(list):
    """Rows of which one is missing."""

    def __len__(self):
        return 5

    def __getitem__(self, at):
        if at == 2:
            raise FileNotFoundError("gone")
        return X[at], 0


class Bare:
    """Rows without a length."""

    def __getitem__(self, at):
        return X[at], int(Y[at])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y.tolist(), strict=True))


def picture(x):
    return Image.fromarray(x.permute(1, 2, 0).numpy())


SAME = {
    "pair": (X, Y),
    "list of two": [X, Y],
    "numpy": (X.numpy(), Y.numpy()),
    "float64": (X.double(), Y),
    "sparse": (X.to_sparse(), Y),
    "list of images": (list(X), Y.tolist()),
    "tensors": TensorDataset(X, Y),
    "loader": DataLoader(TensorDataset(X, Y), 5),
    "loader of rows": DataLoader(TensorDataset(X, Y), batch_size=None),
    "loader of one": DataLoader(TensorDataset(X, Y), 1),
    "generator of batches": ((x, y) for x, y in zip(X.split(5), Y.split(5), strict=True)),
    "generator of rows": ((x, int(y)) for x, y in zip(X, Y, strict=True)),
    "stream": Stream(),
    "rows without a length": Bare(),
    "subset": Subset(Rows(list(zip(X, Y.tolist(), strict=True))), range(N)),
    "rows": Rows(list(zip(X, Y.tolist(), strict=True))),
    "rows by name": Named([{"image": x, "label": int(y)} for x, y in zip(X, Y, strict=True)]),
    "columns by name": {"pixel_values": X, "labels": Y},
    "batches by name": [{"x": X[:5], "y": Y[:5]}, {"x": X[5:], "y": Y[5:]}],
}


class Shared(Stream):
    """The rows of a stream, each read by one worker."""

    def __iter__(self):
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return islice(super().__iter__(), first, None, step)


@pytest.mark.slow
@pytest.mark.parametrize("read", [data.of, whole_or_stream])
def test_workers_that_all_read_the_whole_stream_are_refused(read):
    with pytest.raises(UserError, match="2 workers give 24 images, and only 12 different ones"):
        read(DataLoader(Stream(), 4, num_workers=2))
    assert read(DataLoader(Stream(), 4, num_workers=1)).n == N
    assert read(DataLoader(Shared(), 4, num_workers=2)).n == N
    # An image may occur twice in what people have: only workers are looked at.
    assert read(DataLoader(TensorDataset(X[[0] * N], Y), 4, num_workers=2)).n == N


@pytest.mark.parametrize("source", SAME.values(), ids=SAME)
def test_every_container_gives_the_same_images_and_labels(source):
    made = data.of(source)
    assert torch.equal(made.x, X)
    assert torch.equal(made.y, Y)
    assert made.num_classes == 3
    assert made.levels is None


@pytest.mark.parametrize(
    "source",
    [
        (GREY, Y),
        (GREY.permute(0, 2, 3, 1), Y),
        (GREY.permute(0, 2, 3, 1).numpy(), Y),
        Rows([(picture(x), int(y)) for x, y in zip(GREY, Y, strict=True)]),
        Named([{"label": int(y), "img": picture(x)} for x, y in zip(GREY, Y, strict=True)]),
        ([picture(x) for x in GREY], Y.tolist()),
    ],
)
def test_eight_bit_images_lie_on_256_grey_levels_with_their_channels_first(source):
    made = data.of(source)
    assert made.levels == 256
    assert torch.equal(made.x, GREY.float() / 255)
    assert torch.equal(made.y, Y)


def test_grey_pictures_get_one_channel_whatever_they_are_made_of():
    grey = GREY[:, 0]
    right = grey.float().unsqueeze(1) / 255
    pictures = [(Image.fromarray(each.numpy()), int(y)) for each, y in zip(grey, Y, strict=True)]
    for source in ((grey, Y), (grey.numpy(), Y), Rows(pictures)):
        assert torch.equal(data.of(source).x, right)


def test_grey_pictures_among_coloured_ones_are_read_as_colour():
    pictures = [picture(x) for x in GREY[:3]]
    pictures[1] = pictures[1].convert("L")
    made = data.of((pictures, [0, 1, 0]))
    assert made.shape == (3, 4, 5)
    assert torch.equal(made.x[1, 0], made.x[1, 2])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bounds": (1, 0)}, "bounds are"),
        ({"bounds": None}, "bounds are None"),
        ({"levels": "256"}, "levels is '256'"),
        ({"limit": 0}, "limit is 0"),
        ({"classes": "ab"}, "classes is 'ab'"),
        ({"keys": "ab"}, "keys is 'ab'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        data.of((X, Y), **settings)


def test_numbers_of_numpy_and_names_with_numbers_are_taken():
    assert data.of((X, Y), limit=np.int64(3), classes=np.int32(4)).num_classes == 4
    assert data.of((X, Y), classes={"cat": 2, "dog": 0, "eel": 1}).classes == ("dog", "eel", "cat")
    assert torch.equal(data.of((X, np.array([b"a", b"b", b"c"] * 4)), classes=["a", "b", "c"]).y, Y)


def test_sixteen_bit_images_keep_their_depth():
    deep = np.array([[[0, 65_535], [257, 1]]], dtype=np.uint16)
    made = data.of((deep, [1]))
    assert made.levels == 65_536
    assert made.x.flatten().tolist() == pytest.approx([0, 1, 1 / 255, 1 / 65_535])


@pytest.mark.parametrize("shape", [(7,), (2, 9), (1, 3, 4, 5)])
def test_tables_signals_and_volumes_keep_their_shape(shape):
    x = torch.rand(6, *shape)
    assert torch.equal(data.of((x, torch.arange(6) % 2)).x, x)
    assert torch.equal(data.of((x.numpy(), np.arange(6) % 2)).x, x)


def test_a_single_row_of_a_table_is_no_batch():
    table = torch.rand(4, 4)
    made = data.of(Rows([(row, torch.eye(4)[at]) for at, row in enumerate(table)]), classes=4)
    assert torch.equal(made.x, table)
    assert made.y.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "labels",
    [
        *(Y.to(kind) for kind in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)),
        Y.float(),
        Y.unsqueeze(1),
        Y.numpy().astype(np.uint16),
        Y.tolist(),
        list(Y),
        torch.eye(3)[Y],
        np.eye(3, dtype=bool)[Y],
    ],
)
def test_labels_of_every_type_become_class_numbers(labels):
    assert torch.equal(data.of((X, labels)).y, Y)


def test_labels_may_be_the_names_of_the_classes_in_the_order_of_the_outputs():
    names = ["eel", "cat", "dog"]
    assert torch.equal(data.of((X, [names[y] for y in Y]), classes=names).y, Y)


def test_the_names_of_the_classes_are_those_that_the_source_states():
    rows = list(zip(X, Y.tolist(), strict=True))
    named = [{"image": x, "label": y} for x, y in rows]
    for source in (Rows(rows), Subset(Rows(rows), [0, 1]), DataLoader(Rows(rows), 4), Named(named)):
        assert data.of(source).classes == ("cat", "dog", "eel")
    assert data.of((X, Y), classes=5).classes == ("0", "1", "2", "3", "4")
    assert data.of((X, torch.zeros(N, dtype=torch.int64))).num_classes == 2


def test_a_limit_spreads_evenly_where_rows_can_be_chosen_and_takes_the_first_elsewhere():
    for source in ((X, Y), TensorDataset(X, Y), Rows(list(zip(X, Y.tolist(), strict=True))), data.of((X, Y))):
        assert torch.equal(data.of(source, limit=4).x, X[[0, 4, 7, 11]])
    assert torch.equal(data.of(DataLoader(TensorDataset(X, Y), 5), limit=7).x, X[:7])


def test_a_loader_without_an_end_is_read_up_to_the_limit():
    def endless():
        while True:
            yield X[:2], Y[:2]

    assert data.of(endless(), limit=3).n == 3


def test_a_source_larger_than_memory_asks_for_a_limit(monkeypatch):
    monkeypatch.setattr("secateur.data.handed_over.MOST", X[:6].numel() * 4)
    with pytest.raises(UserError, match=r"more than 10 images.*limit"):
        data.of(DataLoader(TensorDataset(X, Y), 5))


def test_the_bounds_scale_whole_numbers_and_are_kept():
    made = data.of((GREY, Y), bounds=(-1, 1))
    assert made.bounds == (-1, 1)
    torch.testing.assert_close(made.x, GREY / 127.5 - 1)


def test_keys_name_image_and_label_of_rows_with_more():
    three = TensorDataset(Y, X, Y.flip(0))
    assert torch.equal(data.of(three, keys=(1, 0)).y, Y)
    assert torch.equal(data.of(DataLoader(three, 5), keys=(1, 2)).y, Y.flip(0))
    assert torch.equal(data.of({"a": X, "b": Y}, keys=("a", "b")).x, X)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("digits", r"text 'digits' .*load\('digits'\)"),
        (X, "images without labels"),
        (3, "are of type int"),
        (TensorDataset(X, Y, Y), r"3 parts.*keys=\(0, 1\)"),
        ([{"a": X[0], "label": 1}], "a, label, and it is not clear which is the image"),
        ({"train": 1, "test": 2}, r"the splits train, test .*data\['test'\]"),
        ((X, Y[:5]), r"shape \[5\] for 12 images"),
        ((X, Y + 0.5), "not whole numbers: 0.5"),
        ((X, Y - 1), "label -1 of image 0"),
        ((X, torch.full((N, 3), 1 / 3)), "not one-hot"),
        ((X, ["cat", "dog"] * 6), r"names: 'cat', 'dog' .*classes="),
        ((GREY.int(), Y), "int32, whose white is unknown"),
        ((X, Y, Y), r"of type Tensor, not an image and a label .*keys=\(0, 1\)"),
        ((X - 0.5, Y), r"secateur.normalised\(model, mean, std\)"),
        ((X * 300, Y), "outside"),
        ((GREY.float(), Y), "divide 8-bit values by 255"),
        ((X.to(torch.complex64), Y), "complex64"),
        (Rows([(X[0], 0), (X[1, :, :2], 1)]), r"image 1 of the data has the shape \[3, 2, 5\]"),
        (iter(()), "no rows"),
        ((X, [None, *Y.tolist()[1:]]), "image 0 of data has no label"),
        (Rows(Broken()), "row or batch 2 of the data cannot be read: FileNotFoundError: gone"),
        (DataLoader(Rows(Broken()), 2), "row or batch 1 .*FileNotFoundError"),
        ((["a", "b"], [0, 1]), "not numbers"),
        ((X[:0], Y[:0]), "no images"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence_that_helps(source, said):
    with pytest.raises(UserError, match=said) as caught:
        data.of(source)
    assert "\n" not in str(caught.value)


def test_a_label_beyond_the_classes_that_were_given_is_refused():
    with pytest.raises(UserError, match="count from 1"):
        data.of((X, Y + 1), classes=3)
    with pytest.raises(UserError, match="'eel' of data is not one of its classes"):
        data.of((X, ["eel"] * N), classes=["cat", "dog"])


def test_the_caller_s_arrays_are_only_read():
    pixels = GREY.numpy().copy()
    pixels.flags.writeable = False
    made = data.of((pixels, Y.numpy()), bounds=(0, 255))
    assert made.x.max() > 1
    assert np.array_equal(pixels, GREY.numpy())


def test_a_pixel_that_is_outside_by_rounding_is_shown_with_all_its_digits():
    x = X.clone()
    x[0, 0, 0, 0] = 1 + 2**-23
    with pytest.raises(UserError, match=r"1\.0000001.*x\.clamp\(0, 1\)"):
        Dataset("d", x, Y)


def test_a_data_set_names_its_classes_by_number_where_they_are_left_out():
    assert Dataset("d", X, Y.to(torch.uint8)).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((X.numpy(), Y), r"numpy.ndarray, not a tensor \(secateur.data.of"),
        ((X, Y, 10), "classes of dataset 'd' are 10, not a list"),
        ((X.double(), Y), r"float64 images, not float32 ones \(convert them by x.float"),
        ((X, Y.float()), "float32 labels, not whole numbers"),
        ((X, torch.eye(3)[Y].long()), r"one-hot labels become .*y.argmax"),
    ],
)
def test_the_sentence_about_a_field_says_what_was_seen(arguments, said):
    with pytest.raises(UserError, match=said):
        Dataset("d", *arguments)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.rand(4, 1, 3, 3, device="meta"), torch.zeros(4), "meta device"),
        (torch.rand(4, 1, 3, 3), torch.zeros(4, device="meta"), "meta device"),
        (np.ma.masked_less(np.linspace(0, 1, 36).reshape(4, 1, 3, 3), 0.5), torch.zeros(4), "masked"),
    ],
)
def test_arrays_without_all_their_numbers_are_said(x, y, said):
    with pytest.raises(UserError, match=said):
        data.of((x, y))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_images_of_several_shapes_in_one_tensor_are_said():
    x = torch.nested.nested_tensor([torch.rand(1, 3, 3), torch.rand(1, 4, 3)])
    with pytest.raises(UserError, match="a nested tensor"):
        data.of((x, torch.zeros(2)))
