import pytest
import torch

from secateur.data import Dataset, dataset, load
from secateur.errors import UserError


def made(x=None, y=None, **changes):
    x = torch.arange(2 * 1 * 2 * 2).reshape(2, 1, 2, 2) / 16 if x is None else x
    y = torch.tensor([0, 1]) if y is None else y
    return Dataset(**{"name": "toy", "x": x, "y": y, "classes": ("a", "b"), "levels": 17} | changes)


@pytest.mark.slow
def test_the_digits_are_those_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    digits = load("digits")
    assert torch.equal(digits.x[:, 0] * 16, torch.from_numpy(theirs.images).float())
    assert torch.equal(digits.y, torch.from_numpy(theirs.target))


def test_the_digits_are_small_grey_images():
    digits = load("digits")
    assert (digits.n, digits.shape, digits.num_classes, digits.levels) == (1797, (1, 8, 8), 10, 17)
    assert digits.x.dtype == torch.float32
    assert digits.y.dtype == torch.int64
    assert torch.equal((digits.x * 16).round(), digits.x * 16), "every pixel lies on one of 17 levels"
    assert digits.x.amin() == 0
    assert digits.x.amax() == 1


def test_the_fingerprint_of_the_digits_never_changes():
    expected = "431680127975ab491cf2cdd84686b126d966a01f9c41dc8ee9c2b149ce749b64"
    assert load("digits").fingerprint == expected


def test_the_fingerprint_sees_pixels_labels_and_order_but_not_the_name():
    base = made()
    changed = base.x.clone()
    changed[1, 0, 1, 1] += 1 / 16
    assert made(name="other").fingerprint == base.fingerprint
    assert made(changed).fingerprint != base.fingerprint
    assert made(y=torch.tensor([1, 0])).fingerprint != base.fingerprint
    assert base.take([1, 0]).fingerprint != base.fingerprint


def test_the_fingerprint_of_continuous_images_sees_the_last_bit():
    base = made(levels=None)
    changed = base.x.clone()
    changed[1, 0, 1, 1] = torch.nextafter(changed[1, 0, 1, 1], torch.tensor(1.0))
    assert made(changed, levels=None).fingerprint != base.fingerprint


def test_a_fingerprint_that_ignores_labels_would_be_noticed(monkeypatch):
    monkeypatch.setattr(dataset.Dataset, "fingerprint", property(lambda self: str(self.x.sum())))
    with pytest.raises(AssertionError):
        test_the_fingerprint_sees_pixels_labels_and_order_but_not_the_name()


def test_take_keeps_the_asked_order():
    taken = made().take([1, 0, 1])
    assert taken.y.tolist() == [1, 0, 1]
    assert torch.equal(taken.x[0], made().x[1])


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.full((2, 1, 2, 2), 255.0), None, "outside \\[0, 1\\]"),
        (torch.full((2, 1, 2, 2), -0.1), None, "image 0 has a pixel of value -0.1"),
        (torch.full((2, 1, 2, 2), 1.1), None, "value 1.1"),
        (torch.tensor([0.5, float("nan")]).reshape(2, 1, 1, 1), None, "image 1 has a pixel of value nan"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), None, "uint8 images, not float32 ones .divide"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.float64), None, "float64 images, not float32"),
        (torch.zeros(2), None, "images \\[N, C, H, W\\]"),
        (torch.zeros(0, 1, 2, 2), torch.zeros(0, dtype=torch.int64), "has no images"),
        (torch.zeros(2, 1, 0, 2), None, "have no pixels"),
        (None, torch.tensor([0, 2]), "image 1 has label 2"),
        (None, torch.tensor([-100, 1]), "image 0 has label -100"),
        (None, torch.tensor([0]), "labels \\[N\\]"),
    ],
)
def test_unusable_images_and_labels_are_refused_in_one_sentence(x, y, said):
    with pytest.raises(UserError, match=said) as caught:
        made(x, y)
    assert "\n" not in str(caught.value)


def test_levels_out_of_range_are_refused():
    with pytest.raises(UserError, match="grey levels"):
        made(levels=1)
