"""Layer-wise pruning rates of Li et al. 2017, Table 1, by the layer names of the zoo.

A rate is the fraction of filters removed from one convolution, keyed by the batch normalisation after it,
which belongs to no other group. Unpruned layers are listed with rate 0, so that the plan does not depend on
its default sparsity.
"""

from collections.abc import Mapping

Rates = Mapping[str, float]


def vgg16_a() -> Rates:
    """Half of the filters of the first and of the last six convolutions."""
    convolutions = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
    halved = [convolutions[0], *convolutions[7:]]
    return {"features": 0.0, "classifier": 0.0} | {f"features.{index + 1}": 0.5 for index in halved}


def resnet56_a() -> Rates:
    """A tenth of the filters of the first convolution of every block, except four sensitive ones."""
    return _blocks(9, (0.1, 0.1, 0.1), {16, 20, 38, 54})


def resnet56_b() -> Rates:
    """60, 30 and 10 % by stage, except six sensitive blocks."""
    return _blocks(9, (0.6, 0.3, 0.1), {16, 18, 20, 34, 38, 54})


def resnet110_a() -> Rates:
    """Half of the filters of the first convolution of each block in the first stage, except one."""
    return _blocks(18, (0.5, 0.0, 0.0), {36})


def resnet110_b() -> Rates:
    """50, 40 and 30 % by stage, except three sensitive blocks."""
    return _blocks(18, (0.5, 0.4, 0.3), {36, 38, 74})


def _blocks(depth: int, stages: tuple[float, float, float], whole: set[int]) -> Rates:
    """Rates of three stages of ``depth`` blocks, without the convolutions ``whole`` (the paper's numbers)."""
    rates = dict.fromkeys(("conv1", "layer1", "layer2", "layer3", "linear"), 0.0)
    for stage, rate in enumerate(stages):
        for block in range(depth):
            # The paper counts the stem as convolution 1, so the first one of every block is even.
            number = 2 * (stage * depth + block) + 2
            if rate > 0 and number not in whole:
                rates[f"layer{stage + 1}.{block}.bn1"] = rate
    return rates
