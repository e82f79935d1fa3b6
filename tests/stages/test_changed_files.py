"""Images and weights that change under a run: whoever reads them notices, and records nothing."""

import numpy as np
import pytest
import torch

from secateur.config import parse_study
from secateur.engine.perform import perform
from secateur.errors import ExitCode, UserError
from secateur.models import build
from secateur.stages import execute, networks
from secateur.store import Store
from secateur.study import plan
from secateur.transfer import transfer

X = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
Y = (X[:, 0, :4].mean((1, 2)) > X[:, 0, 4:].mean((1, 2))).astype(np.int64)


def a_new_process():
    networks._read_splits.cache_clear()


@pytest.fixture
def images(tmp_path):
    """A function that writes the images of the study, right or inverted."""
    a_new_process()

    def write(x=X, y=Y):
        np.savez(tmp_path / "images.npz", x=x, y=y)
        a_new_process()

    write()
    yield write
    a_new_process()


@pytest.fixture
def started(images, tmp_path):
    """A study with a trained network, and a function that computes a cell of it."""
    torch.save(build("resnet-tiny", widths=[2, 2], num_classes=2).state_dict(), tmp_path / "net.pt")
    laid = plan(
        parse_study(
            f"name: files\ndata: 'npz:{tmp_path}/images.npz'\nsparsities: [0.5]\nimages: 4\n"
            "attacks: {ddn: {steps: 1}}\n"
            "models:\n"
            "  own: {arch: resnet-tiny, settings: {widths: [2, 2]}, recipe: {epochs: 1, batch_size: 8}}\n"
            f"  given: {{arch: resnet-tiny, settings: {{widths: [2, 2]}}, weights: {tmp_path}/net.pt}}\n"
        )
    )
    store = Store.create(tmp_path / "run", laid.to_json())
    cells = {(cell.stage, cell.axes["model"], cell.role): cell for cell in laid.cells}

    def compute(stage, model="own", role="dense"):
        return perform(store, laid.study, cells[stage, model, role], execute)

    compute("train")
    return store, compute


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage", [("attack", "own", "dense"), ("prune", "own", "untuned"), ("train", "given")]
)
def test_images_that_change_under_a_run_pause_it_and_nothing_is_recorded(images, started, stage):
    store, compute = started
    images(255 - X, 1 - Y)
    before = [record.id for record in store.records()]
    with pytest.raises(UserError, match=r"are not those that .* was planned with") as caught:
        compute(*stage)
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert [record.id for record in store.records()] == before
    images()
    assert compute(*stage) == "ok"


def test_other_labels_alone_are_noticed(images, started):
    images(X, 1 - Y)
    with pytest.raises(UserError, match="are not those"):
        started[1]("attack")


def test_a_process_that_has_seen_the_wrong_images_reads_them_again(images, started, tmp_path):
    _, compute = started
    images(255 - X)
    with pytest.raises(UserError, match="are not those"):
        compute("attack")
    np.savez(tmp_path / "images.npz", x=X, y=Y)
    assert compute("attack") == "ok"


def test_images_that_can_no_longer_be_read_pause_the_run(images, started, tmp_path):
    _, compute = started
    (tmp_path / "images.npz").write_bytes(b"half of a fi")
    a_new_process()
    with pytest.raises(UserError, match="can no longer be read") as caught:
        compute("attack")
    assert caught.value.code == ExitCode.ENVIRONMENT


def test_weights_that_change_under_a_run_pause_it(started, tmp_path):
    _, compute = started
    path = tmp_path / "net.pt"
    right = path.read_bytes()
    other = build("resnet-tiny", widths=[2, 2], num_classes=2).state_dict()
    torch.save({name: tensor + 1 for name, tensor in other.items()}, path)
    with pytest.raises(UserError, match=r"weights in .* are not those") as caught:
        compute("train", "given")
    assert caught.value.code == ExitCode.ENVIRONMENT
    path.unlink()
    with pytest.raises(UserError, match="can no longer be read") as caught:
        compute("train", "given")
    assert caught.value.code == ExitCode.ENVIRONMENT
    path.write_bytes(right)
    assert compute("train", "given") == "ok"


def test_examples_are_not_transferred_on_other_images(images, started):
    store, compute = started
    compute("train", "given")
    images(255 - X)
    with pytest.raises(UserError, match="are not those"):
        transfer(store.root, "ddn", steps=1)


def test_stray_files_beside_a_network_are_not_committed_with_it(started, tmp_path):
    store, compute = started
    cell = next(cell for cell in store.cells if cell.stage == "prune" and cell.axes["model"] == "own")
    network = store.scratch(cell.id) / "network"
    network.mkdir()
    (network / ".nfs000000000123").touch()
    assert compute("prune", "own", "untuned") == "ok"
    assert not any(name.startswith(".") for name in store.record(cell.id).artefacts)
