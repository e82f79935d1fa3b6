"""More images than memory holds: read, attacked and classified part by part, with the whole's numbers."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import secateur
from alive import bytes_alive
from secateur import data, decision
from secateur.data import Dataset, Stream, streaming
from secateur.data.streaming import whole_or_stream
from secateur.errors import UserError
from secateur.evaluate import save_examples

N, SHAPE = 203, (1, 8, 8)
DRAWN = torch.Generator().manual_seed(0)
X = torch.rand(N, *SHAPE, generator=DRAWN)
PIXELS = 64 * 4


class Corners(nn.Module):
    """The largest of three pixels is the class: no sum, so that no batch rounds otherwise."""

    def forward(self, x):
        return x.flatten(1)[:, [0, 9, 40]]


Y = Corners()(X).argmax(1)
Y[::7] = (Y[::7] + 1) % 3


def loader(size=10):
    return DataLoader(TensorDataset(X, Y), size)


def in_parts(size, **settings):
    return data.stream(loader(), part=size, **settings)


@pytest.mark.parametrize("size", [1, 7, 64, N, 1000])
def test_parts_hold_all_images_in_order_wherever_batches_end(size):
    parts = [*in_parts(size)]
    assert [part.n for part in parts] == [size] * (N // size) + [N % size] * (N % size > 0)
    assert torch.equal(torch.cat([part.x for part in parts]), X)
    assert torch.equal(torch.cat([part.y for part in parts]), Y)


def numbers(found):
    record = found.to_json(timings=False)
    for key in ("search", "summary", "kept", "grade", "checks", "checks_cost", "batch_failures"):
        record.pop(key, None)
    return record


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ddn", {"steps": 6}),
        ("fmn", {"norm": "Linf", "steps": 6, "budgets": [0.0, 0.1, 0.4]}),
        ("pgd", {"eps": [0.05, 0.2], "steps": 3, "norm": "Linf", "restarts": 2}),
        ("fmn", {"norm": 2, "steps": 5, "targets": 1}),
        ("fmn", {"norm": 2, "steps": 5, "targets": ((Y + 1) % 3).tolist()}),
        ("ddn", {"steps": 5, "mask": X > 0.2}),
    ],
    ids=["ddn", "budgets", "sizes", "one target", "targets", "mask"],
)
def test_the_numbers_of_a_stream_are_those_of_the_whole(name, settings):
    whole = secateur.attack(Corners(), loader(), name, **settings)
    for size in (13, 64):
        parts = secateur.attack(Corners(), in_parts(size), name, **settings)
        # Nobody knows beforehand how many images belong to the target, and the fingerprint begins with it.
        own = {"fingerprint": whole.facts["fingerprint"]} if parts.facts["fingerprint"] is None else {}
        assert ("index" in whole.facts) == bool(own)
        assert numbers(parts) | own == numbers(whole)
        one, two = parts.summary(timings=False), whole.summary(timings=False)
        assert {k: one[k] for k in one if k not in ("grade", "meaning", "reasons")} == {
            k: two[k] for k in two if k not in ("grade", "meaning", "reasons")
        }
        assert parts.grade.letter == whole.grade.letter


def test_the_examples_kept_are_those_of_the_whole_and_the_others_are_said_to_be_gone(tmp_path):
    whole = secateur.attack(Corners(), (X, Y), "ddn", steps=6)
    few = secateur.attack(Corners(), (X, Y), "ddn", steps=6, keep_examples=20)
    assert whole.result.kept is None
    kept = few.result.kept
    assert len(kept) == 20
    assert torch.equal(few.result.adv, whole.result.adv[kept])
    attacked = int((~whole.result.ori_success).sum())
    assert few.result.search["examples"] == f"kept of 20 of {attacked} attacked images, evenly spread"
    assert "kept of 20" in str(few)
    assert few.to_json()["kept"] == kept.tolist()
    save_examples(few, tmp_path / "few.safetensors")
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "few.safetensors")
    assert torch.equal(saved["adv"], whole.result.adv[saved["index"]])
    assert len(saved["outcome"]) == N
    none = secateur.attack(Corners(), (X, Y), "ddn", steps=6, keep_examples=0)
    assert none.result.adv.shape == (0, *SHAPE)
    assert numbers(none) == numbers(whole)


def test_checks_of_numbers_see_all_images_and_not_the_sample():
    """An image without an example beyond the sample is counted, and a network that knows no image is X."""

    class Stubborn(nn.Module):
        def forward(self, x):
            corners = x.flatten(1)[:, [0, 9, 40]]
            return torch.where(
                (x.flatten(1)[:, :1] == X[-1].flatten()[0]), 9.0 * torch.eye(3)[Y[-1]], corners
            )

    whole = secateur.attack(Stubborn(), (X, Y), "ddn", steps=6)
    parts = secateur.attack(Stubborn(), in_parts(50), "ddn", steps=6, keep_examples=5)
    seen = [{check.id: check for check in each.grade.checks} for each in (whole, parts)]
    for id in ("F02", "F08", "F09", "F10", "F11", "F22"):
        assert seen[0][id] == seen[1][id]
    lost = secateur.attack(
        Corners(), data.stream((X, (Corners()(X).argmax(1) + 1) % 3), part=50), "ddn", steps=2
    )
    assert lost.grade.letter == "X"
    assert f"none of the {N} images" in lost.grade.reasons[0]


class Endless:
    """Batches that are made when they are asked for, and the most bytes alive at every fifth such moment.

    Looking through all objects of a process that has run many tests takes longer than the attack.
    """

    def __init__(self, batches):
        self.batches, self.before, self.most = batches, bytes_alive(), 0

    def __iter__(self):
        for at in range(self.batches):
            if at % 5 == 4:
                self.most = max(self.most, bytes_alive() - self.before)
            x = torch.rand(8, *LARGE, generator=torch.Generator().manual_seed(at))
            yield x, Corners()(x).argmax(1)


LARGE, BYTES = (1, 32, 32), 32 * 32 * 4
LIMIT = 200 * BYTES
"""Bytes of tensors that may be alive: half of the images of ``Endless(50)``."""
WAYS = {
    "attack": lambda source: secateur.attack(Corners(), source, "ddn", steps=2, keep_examples=10),
    "run": lambda source: secateur.attacks.run(Corners(), source, "ddn", steps=2),
    "attack by itself": lambda source: secateur.attack(Corners(), source, "fgsm", eps=0.1),
    "evaluate": lambda source: decision.evaluate(Corners(), source),
}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr("secateur.data.handed_over.MOST", 20 * BYTES)
    monkeypatch.setattr("secateur.evaluate.attacking.KEPT", 10)
    monkeypatch.setattr("secateur.attacks.runner.streaming.KEPT", 10)
    monkeypatch.setattr("secateur.attacks.runner.streaming.GRADED", 10)
    monkeypatch.setattr("secateur.data.streaming.PART", 16 * BYTES)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_images_beyond_the_memory_are_read_and_let_go_of(small, way):
    source = Endless(50)
    found = way(source)
    assert (getattr(found, "n", None) or found.result.n) == 400
    assert source.most < LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_reader_that_collects_the_parts_is_caught(small, monkeypatch, way):
    def collecting(pieces, reading, named, sound=streaming._datasets):
        yield from [*sound(pieces, reading, named)]

    monkeypatch.setattr(streaming, "_datasets", collecting)
    source = Endless(50)
    way(source)
    assert source.most > LIMIT


def test_parts_in_another_order_are_caught(monkeypatch):
    from secateur.attacks.runner import merging

    sound = merging.merged
    monkeypatch.setattr("secateur.attacks.runner.streaming.merged", lambda parts: sound(parts[::-1]))
    broken = secateur.attack(Corners(), in_parts(13), "fgsm", eps=0.1)
    assert numbers(broken) != numbers(secateur.attack(Corners(), loader(), "fgsm", eps=0.1))


def test_the_accuracy_of_a_stream_is_that_of_the_whole():
    whole = decision.evaluate(Corners(), loader())
    parts = decision.evaluate(Corners(), in_parts(29), batch_size=29)
    assert parts.to_json() == {**whole.to_json(), "loss": parts.loss, "confidence": parts.confidence}
    assert (parts.loss, parts.confidence) == pytest.approx((whole.loss, whole.confidence), rel=1e-12)


def test_a_source_within_memory_is_read_at_once_as_ever():
    whole = whole_or_stream(loader())
    assert isinstance(whole, Dataset)
    assert whole.fingerprint == data.of(loader()).fingerprint
    assert isinstance(whole_or_stream(loader(), most=5 * PIXELS), Stream)


@pytest.mark.slow
@pytest.mark.parametrize("sound", [True, False])
def test_a_loader_without_a_length_is_not_held_before_it_is_streamed(small, monkeypatch, sound):
    """All of it would fit into memory; a reader that holds it is caught."""
    monkeypatch.setattr("secateur.data.handed_over.MOST", 2**32)
    if not sound:
        monkeypatch.setattr(streaming, "_room", lambda source, count, most: most)
    source = Endless(50)
    found = secateur.attack(Corners(), source, "fgsm", eps=0.1)
    assert found.result.n == 400
    assert (source.most < LIMIT) is sound
    assert (found.result.kept is not None) is sound
    # What ends within one part is read as ever, and lists are in memory anyway.
    assert isinstance(whole_or_stream(Endless(1)), Dataset)
    assert isinstance(whole_or_stream([*Endless(50)]), Dataset)


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        (loader(), N),
        (DataLoader(TensorDataset(X, Y), 10, drop_last=True), 200),
        (DataLoader(TensorDataset(X, Y), batch_size=None), None),
        ((row for row in zip(X, Y, strict=True)), None),
        ([(X[:100], Y[:100]), (X[100:], Y[100:])], None),
        ((X, Y), N),
    ],
)
def test_a_stream_knows_its_length_where_the_source_states_it(source, rows):
    made = data.stream(source)
    assert made.rows == rows
    found = secateur.attack(Corners(), made, "fgsm", eps=0.1)
    assert (found.facts["fingerprint"] is None) == (rows is None)


def test_arrays_on_a_disk_are_copied_part_by_part(tmp_path):
    grey = (X.numpy() * 255).astype(np.uint8)
    np.save(tmp_path / "x.npy", grey)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    parts = [*data.stream((mapped, Y.numpy()), part=100)]
    assert torch.equal(torch.cat([part.x for part in parts]), data.of((grey, Y)).x)
    assert parts[0].levels == 256


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            [(X[:20], Y[:20]), (X[:20, :, :4], Y[:20])],
            r"image 20 of the data has the shape|number 20 on have the shape",
        ),
        ([(X[:20], Y[:20]), ((X[:20] * 255).to(torch.uint8), Y[:20])], "number 20 on have grey levels 256"),
        ([(X[:20], Y[:20]), (X[:20] * 3, Y[:20])], "among the images from number 20 on: .* outside"),
        ([], "no rows"),
        ("digits", r"text 'digits'"),
        (3, "of type int"),
    ],
)
def test_parts_that_are_not_alike_are_refused_with_their_place(source, said):
    with pytest.raises(UserError, match=said):
        list(data.stream(source, part=20))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keep_examples": -1}, "keep_examples is -1"),
        ({"start": X[:90]}, "starting points are for 90 images, the data have more"),
        ({"start": torch.cat([X, X])}, "starting points are for 406 images, the data have 203"),
        ({"start": [0.0]}, "starting points are a list"),
        ({"targets": [1] * 30}, "targets is for 30 images, the data have more"),
        ({"targets": [1] * 900}, "label|targets is for 900 images, the data have 203"),
        ({"mask": torch.ones(900, *SHAPE, dtype=torch.bool)}, "mask is for 900 images, the data have 203"),
    ],
)
def test_what_does_not_fit_a_stream_is_one_sentence(settings, said):
    wrong = data.stream((X, torch.where(Y == 1, 2, Y)), part=50)
    with pytest.raises(UserError, match=said):
        secateur.attack(Corners(), wrong, "fmn", norm=2, steps=2, **settings)


def test_grey_pictures_after_coloured_ones_are_read_as_colour():
    colour = torch.rand(4, 3, 4, 4)
    parts = [*data.stream([(colour, [0] * 4), (colour[:, :1], [0] * 4)], part=4)]
    assert [part.shape for part in parts] == [(3, 4, 4)] * 2
    assert data.stream([(colour, [0, 1, 0, 1])], part=np.int64(2)).name == "data"
    with pytest.raises(UserError, match="part is 0"):
        data.stream((X, Y), part=0)


def test_what_needs_all_images_at_once_refuses_a_stream():
    with pytest.raises(UserError, match="a stream is read part by part, and this needs all images"):
        secateur.attacks.another_class(Corners(), in_parts(50))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ddn", {"steps": 6}),
        ("pgd", {"eps": [0.05, 0.2], "steps": 3, "norm": "Linf", "restarts": 2}),
        ("fmn", {"norm": 2, "steps": 5, "targets": ((Y + 1) % 3).tolist(), "mask": X > 0.2}),
    ],
)
def test_a_run_on_a_stream_has_the_numbers_of_the_whole(name, settings):
    whole = secateur.attacks.run(Corners(), loader(), name, **settings)
    parts = secateur.attacks.run(Corners(), in_parts(13), name, **settings)
    own = ("search", "times", "batch_failures", "kept")
    one, two = ({k: v for k, v in each.to_json().items() if k not in own} for each in (parts, whole))
    assert one == two
    assert torch.equal(parts.adv, whole.adv[parts.kept])
    read = in_parts(13)
    secateur.attacks.run(Corners(), read, "fgsm", eps=0.1)
    with pytest.raises(UserError, match="a stream can be read once"):
        secateur.attacks.run(Corners(), read, "fgsm", eps=0.1)


def test_one_target_for_all_is_refused_for_images_of_that_class_as_in_a_run_on_the_whole():
    for images in (loader(), in_parts(50)):
        with pytest.raises(UserError, match="the target of image"):
            secateur.attacks.run(Corners(), images, "fmn", norm=2, steps=2, targets=1)


class OnDisk:
    """Rows that are read where they are asked for, as those of a memory-mapped file, and how many."""

    def __init__(self, rows, axis):
        self.rows, self.axis, self.asked = rows.numpy(), axis, []
        self.shape = rows.shape

    def __getitem__(self, where):
        found = self.rows[where]
        self.asked.append(found.shape[self.axis])
        return found


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
def test_starting_points_of_a_stream_are_read_with_their_images(several):
    far = torch.rand(2, *X.shape, generator=torch.Generator().manual_seed(1))
    start = far if several else far[0]
    asked = {"norm": 2, "steps": 6, "targets": 1}
    whole = secateur.attack(Corners(), (X, Y), "fmn", start=start[..., Y != 1, :, :, :], **asked)
    rows = OnDisk(start, axis=int(several))
    parts = secateur.attack(Corners(), in_parts(64), "fmn", start=rows, keep_examples=10, **asked)
    assert rows.asked == [64, 64, 64, 11]
    assert numbers(parts) | {"fingerprint": whole.facts["fingerprint"]} == numbers(whole) | {
        "index": parts.facts["index"]
    }
    again = secateur.attack(Corners(), in_parts(64), "fmn", start=start.flip(-4), **asked)
    assert numbers(again)["distances"] != numbers(whole)["distances"]
