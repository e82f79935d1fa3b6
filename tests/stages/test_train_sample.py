"""The accuracy on very many training images is that of a sample."""

import pytest
import torch

from secateur import models
from secateur.stages import network
from secateur.stages.networks import splits_of
from secateur.store import TuneScience
from secateur.study import cells, plan_of
from whole import TINY, run_here


@pytest.mark.slow
@pytest.mark.parametrize("size", [50, 200])
def test_more_images_than_the_sample_are_measured_on_it_and_the_record_says_so(tmp_path, monkeypatch, size):
    monkeypatch.setattr(cells, "TRAIN_SAMPLE", size)
    seen, real = [], models.accuracy

    def accuracy(model, x, y, **settings):
        seen.append(x)
        return real(model, x, y, **settings)

    monkeypatch.setattr(models, "accuracy", accuracy)
    store, records = run_here(TINY, tmp_path)
    assert {record["status"] for record in records} == {"ok"}
    trained = [record for record in store.records() if isinstance(record.science, TuneScience)]
    assert len(trained) == 3
    samples = [x for x in seen if len(x) == size]
    study, whole = plan_of(store).study, splits_of(plan_of(store).study).train
    for record in trained:
        told, measured = record.science.to_json(), network(study, record.id, store)
        if size == whole.n:
            assert "train_sample" not in told
            assert told["accuracy"]["train"] == real(measured, whole.x, whole.y)
        else:
            assert told["train_sample"] == size
            assert told["accuracy"]["train"] * size == pytest.approx(round(told["accuracy"]["train"] * size))
    # The same images for every network, whatever its seed.
    assert len(samples) == 3
    assert all(torch.equal(x, samples[0]) for x in samples)
