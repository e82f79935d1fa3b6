"""A check on more images than memory holds: the same verdict, with few images alive."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from alive import bytes_alive
from secateur import data
from secateur.data import Dataset, Parts, rereading
from secateur.data.rereading import reread, within_memory
from secateur.errors import UserError

PIXELS = 4 * 64


@pytest.fixture
def small(monkeypatch):
    """Memory for 60 images, parts of 16."""
    monkeypatch.setattr("secateur.data.handed_over.MOST", 60 * PIXELS)
    monkeypatch.setattr("secateur.data.streaming.PART", 16 * PIXELS)


def loader(images, size=20, **options):
    return DataLoader(TensorDataset(images.x, images.y), size, **options)


def numbers(verdict):
    """Without measured times and memory, which differ from run to run, and the notes."""
    found = verdict.to_json()
    found["lines"] = [each for each in found["lines"] if not each["key"].startswith(("latency", "memory"))]
    return {key: value for key, value in found.items() if key not in ("verdict", "notes")}


@pytest.mark.slow
def test_the_verdict_on_a_streamed_loader_is_that_of_the_whole(quick, digits, small, tmp_path, monkeypatch):
    train, test = digits
    monkeypatch.setattr("secateur.decision.page._export", lambda *_: "")
    monkeypatch.setattr("secateur.data.handed_over.MOST", 2**32)
    whole = quick(images_of=(train, loader(test)))
    monkeypatch.setattr("secateur.data.handed_over.MOST", 60 * PIXELS)
    parts = quick(images_of=(train, loader(test)), out=tmp_path / "out")
    assert numbers(parts) == numbers(whole)
    assert parts.line("accuracy").n == test.n
    said = "the 120 test images do not fit into memory: every network reads them part by part"
    assert [note for note in parts.notes if note not in whole.notes] == [said]
    # What is measured is not measured again.
    again = quick(images_of=(train, loader(test, 13)), out=tmp_path / "out")
    assert again.to_json() == parts.to_json()


@pytest.mark.slow
def test_of_too_many_training_images_a_random_sample_is_taken(quick, digits, small):
    train, test = digits
    verdict = quick(images_of=(loader(train), test.take(range(50))), images=20, validation=loader(test))
    for name, n in (("train", 400), ("validation", 120)):
        said = f"of {n} {name} images a random sample of 60 is used: more do not fit into memory"
        assert said in verdict.notes
    assert verdict.line("accuracy").n == 50


@pytest.mark.slow
def test_a_sample_is_uniform_seeded_and_of_images_with_their_labels(small):
    x = torch.arange(300).div(300).reshape(300, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    y = torch.arange(300) % 7
    drawn = []
    for seed in (0, 0, 1):
        found = within_memory(loader(Dataset("all", x, y)), generator=torch.Generator().manual_seed(seed))
        drawn.append((found.x[:, 0, 0, 0] * 300).round().long())
        assert found.n == 60
        assert torch.equal(found.y, drawn[-1] % 7)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    counts = torch.zeros(300)
    for seed in range(60):
        found = within_memory(data.stream((x, y)), generator=torch.Generator().manual_seed(seed))
        counts[(found.x[:, 0, 0, 0] * 300).round().long()] += 1
    # 12 of 60 draws for every image; each hundred of images is drawn 1200 times, give or take 4 deviations.
    assert counts.sum() == 60 * 60
    assert all(abs(float(part.sum()) - 1200) < 4 * 20 for part in counts.split(100))
    assert int(counts.max()) < 30


def test_parts_of_a_loader_are_its_images_whenever_they_are_read(digits, small):
    test = digits[1]
    found = reread(loader(test))
    assert isinstance(found, Parts)
    for where in (range(120), [0, 1, 30, 31, 90], [119]):
        some = found.take(where).whole()
        assert torch.equal(some.x, test.x[list(where)])
        assert torch.equal(some.y, test.y[list(where)])
    assert found.fingerprint == reread(loader(test, 7)).fingerprint
    assert found.fingerprint != reread(loader(test.take(range(119, -1, -1)))).fingerprint
    assert reread(found) is found
    assert isinstance(reread(loader(test.take(range(60)))), Dataset)


class Changing:
    """Images with other pixels, or one image more or less, whenever they are read."""

    def __init__(self, images, how):
        self.images, self.how, self.times = images, how, 0

    def __iter__(self):
        self.times += 1
        later = self.times > 1
        for at in range(self.images.n - (later and self.how == "fewer")):
            x = self.images.x[at]
            yield 1 - x if later and self.how == "pixels" and at == 100 else x, self.images.y[at]
        if later and self.how == "more":
            yield x, self.images.y[at]


def test_images_that_change_are_refused(digits, small):
    shuffled = loader(digits[1], shuffle=True, generator=torch.Generator().manual_seed(0))
    for source in (shuffled, *(Changing(digits[1], how) for how in ("pixels", "fewer", "more"))):
        found = reread(source, name="test")
        with pytest.raises(UserError, match="the test images come in another order"):
            [*found.stream()]


@pytest.mark.slow
def test_what_can_be_read_once_is_refused_for_testing(quick, digits, small):
    train, test = digits
    rows = zip(test.x, test.y, strict=True)
    for source, word in ((data.stream(loader(test)), "stream"), (rows, "zip")):
        with pytest.raises(UserError, match=f"are needed several times, but a {word} can be read once"):
            quick(images_of=(train, source))
    # What fits is held, as ever.
    few = test.take(range(40))
    assert (
        quick(images_of=(train.take(range(60)), zip(few.x, few.y, strict=True)), images=20).line("accuracy").n
        == 40
    )


class Made:
    """Images that are made when they are asked for, and the most bytes alive at every third such moment."""

    def __init__(self, batches):
        self.batches, self.before, self.most = batches, bytes_alive(), 0

    def __iter__(self):
        for at in range(self.batches):
            if at % 3 == 2:
                self.most = max(self.most, bytes_alive() - self.before)
            generator = torch.Generator().manual_seed(at)
            yield torch.rand(8, 1, 8, 8, generator=generator), torch.randint(10, (8,), generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize("sound", [True, False])
def test_few_images_are_alive_at_a_time(small, monkeypatch, sound):
    """160 images of which 60 fit; a reader that collects them is caught."""

    def collected(parts, blocks, sound=rereading._picked):
        yield from sound(iter([*parts]), blocks)

    if not sound:
        monkeypatch.setattr(rereading, "_picked", collected)
    source = Made(20)
    found = reread(source)
    for part in found.take(range(160)).stream():
        del part
    assert (source.most < 100 * PIXELS) is sound
