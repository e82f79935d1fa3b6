"""A criterion of one's own is one function; it is given what it has parameters for."""

import pytest
import torch

import secateur
from secateur.errors import UserError


@pytest.fixture
def graph():
    model = secateur.models.build("resnet-tiny", widths=(6, 8))
    return secateur.trace(model, torch.rand(2, 1, 8, 8))


def last_first(group):
    """Scores of which the smallest are those of the last channels."""
    return torch.arange(group.size, 0, -1)


def gone(plan):
    return {cut.group: cut.slices[0].removed for cut in plan.cuts}


def test_group_and_model_are_enough(graph):
    def score(group, model):
        assert model is graph.model
        return last_first(group)

    removed = gone(secateur.plan(graph, criterion=score))
    assert removed
    assert all(indices == tuple(range(indices[0], indices[0] + len(indices))) for indices in removed.values())
    assert all(indices[0] == len(indices) for indices in removed.values()), "the second half of each group"


def test_a_function_gets_the_images_and_labels_if_it_asks(graph):
    images, labels = torch.rand(3, 1, 8, 8), torch.arange(3)
    seen = []

    def score(group, model, batch):
        seen.append(batch)
        return last_first(group)

    secateur.plan(graph, criterion=score, batch=(images, labels))
    assert all(x is images and y is labels for x, y in seen)
    assert seen
    with pytest.raises(UserError, match="the criterion score needs a calibration batch"):
        secateur.plan(graph, criterion=score)


def test_images_may_be_optional(graph):
    def score(group, model, batch=None):
        assert batch is None
        return last_first(group)

    assert gone(secateur.plan(graph, criterion=score))


def test_the_generator_and_the_reduction_come_where_they_are_asked_for(graph):
    seen = []

    def some(group, model, *, generator):
        seen.append({"generator": generator})
        return torch.rand(group.size, generator=generator)

    def everything(group, model, **offered):
        seen.append(offered)
        return last_first(group)

    assert gone(secateur.plan(graph, criterion=some, seed=1)) == gone(
        secateur.plan(graph, criterion=some, seed=1)
    )
    secateur.plan(graph, criterion=everything, reduction="max")
    assert set(seen[-1]) == {"generator", "reduction"}
    assert seen[-1]["reduction"] == "max"
    assert isinstance(seen[0]["generator"], torch.Generator)


def test_the_former_name_of_a_parameter_is_refused():
    def score(group, model, evidence):
        return torch.zeros(group.size)

    graph = secateur.trace(
        torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Linear(4, 2)), torch.rand(1, 2)
    )
    with pytest.raises(UserError, match="'evidence' is called 'calibration' now"):
        secateur.plan(graph, criterion=score)
