"""Run one attack against one model: verified, measured and graded. The public ``secateur.attack``."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from secateur import budgets as usual
from secateur import stats, trust
from secateur.attacks.core.box import box_of
from secateur.attacks.runner.averaging import averaged
from secateur.attacks.runner.bind import bind
from secateur.attacks.runner.classifier import Classifier, classifier, gradients_allowed
from secateur.attacks.runner.goals import one_target, with_outputs
from secateur.attacks.runner.outputs import Logits
from secateur.attacks.runner.result import AttackResult
from secateur.attacks.runner.run import run
from secateur.attacks.runner.streaming import KEPT, attack_stream, begun
from secateur.data import Dataset, Stream, stream
from secateur.data.streaming import whole_or_stream
from secateur.errors import UserError
from secateur.evaluate.evaluated import Evaluated
from secateur.evaluate.whole_grade import grade_of
from secateur.kinds import is_whole
from secateur.models import weights_hash
from secateur.run_options import split


@gradients_allowed()
def attack(
    model: Callable[..., Any],
    dataset: Any,
    name: str = "ddn",
    *,
    batch_size: int = 256,
    seed: int = 0,
    targets: Tensor | Sequence[int] | int | None = None,
    start: Any = None,
    mask: Any = None,
    pixel_bounds: Any = None,
    budgets: Sequence[float] | None = None,
    expected_accuracy: float | None = None,
    audit: bool = False,
    logits: Logits = None,
    keep_examples: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Evaluated:
    """Run a registered attack against ``model`` on ``dataset``, and grade how far the result can be trusted.

    Args:
        model: from images in the dataset's bounds to logits: a network, or a function; left unchanged.
        dataset: images and labels: a ``Dataset``, or whatever ``secateur.data.of`` reads, such as ``(x, y)``,
            a ``DataLoader``, or a data set of torchvision. A loader, or other rows, of more than 4 GiB is
            attacked part by part as it is read, and so is a ``secateur.data.stream``.
        name: a registered attack.
        batch_size: images per batch at most, halved when memory runs out; affects results by rounding only.
        seed: for attacks and checks that draw random numbers.
        targets: target classes [N] of a targeted attack, or one class for all: images of that class are left
            out, and ``facts["index"]`` has the places of the others.
        start: starting points, [N, ...], or several per image, [R, N, ...]; see ``attacks.run``.
        mask: where alone pixels may change; see ``attacks.run``.
        pixel_bounds: (lowest, highest) of single pixels; see ``attacks.run``.
        budgets: increasing ε in the attack's norm at which robust accuracy is stated and the security curve
            is drawn, for minimum-norm attacks; by default ``budgets.HEADLINE`` and ``budgets.CURVE``, scaled
            to the bounds.
        expected_accuracy: a clean accuracy recorded elsewhere, to compare with.
        audit: add the expensive checks: other attacks, other seeds, planted examples, on a sample.
        logits: which part of the model's answer counts; see ``attacks.run``.
        keep_examples: attack the images part by part, and keep the adversarial examples of so many that were
            attacked, evenly spread; ``result.kept`` numbers them. By default all are kept where the images
            are read at once, else 256. The numbers of every image are the same but for the rounding of the
            network between batches; checks that ask the network look at images that were kept.
        on_progress: called with (queries of one image done, queries expected).
        settings: of the attack, as its signature names them, and how it is run, as ``RunOptions`` names it
            (``restarts=5``, ``early_stop=True``, ``search_precision="bfloat16"``, ``compile=True``). ``eps``
            of an attack of fixed size may be a list of sizes including 0: robust accuracy is stated at each.

    Raises:
        UserError: see ``secateur.attacks.run``; budgets for an attack of fixed size.

    >>> import secateur
    >>> model = secateur.models.resolve("shipped:digits-plain")
    >>> images = secateur.data.load("digits:split").take(range(4))
    >>> attack(model, images, "ddn", steps=10, budgets=[0.0, 9.0]).summary()["robust_accuracy"][1]["value"]
    0.0
    """
    given = _read(dataset, keep_examples)
    first: Dataset | None
    first, given = begun(given) if isinstance(given, Stream) else (given, given)
    network = classifier(model, first.x, logits=logits, batch_size=batch_size, data=first.name)
    budgets = _checked(budgets, name, first, settings)
    judged = averaged(network, split(settings)[0].eot_samples)
    asked = {"batch_size": batch_size, "seed": seed, "start": start, "on_progress": on_progress, **settings}
    if isinstance(given, Stream):
        # Nothing here may hold the first part while the others are read.
        first = None
        found = attack_stream(
            run,
            network,
            given,
            name,
            kept=KEPT if keep_examples is None else keep_examples,
            targets=targets,
            mask=mask,
            pixel_bounds=pixel_bounds,
            **asked,
        )
        graded = grade_of(judged, found, expected_accuracy=expected_accuracy, audit=audit, seed=seed)
        facts = _facts(network, found.last, found.labels, found.fingerprint, found.index)
        return _evaluated(found.keeping(), graded, budgets, facts)
    images = first if first is dataset else with_outputs(first, network)
    box = box_of(images.x, images.bounds, mask=mask, pixel_bounds=pixel_bounds)
    images, targets, index = one_target(images, targets)
    box = box.rows(torch.tensor(index)) if box and index else box
    facts = _facts(network, images, images.y.tolist(), images.fingerprint, index)
    pixels = None if box is None else box.pair
    result = run(network, images, name, targets=targets, pixel_bounds=pixels, **asked)
    graded = trust.grade(judged, images, result, expected_accuracy=expected_accuracy, audit=audit, seed=seed)
    return _evaluated(result, graded, budgets, facts)


def _read(source: Any, keep_examples: int | None) -> Dataset | Stream:
    if keep_examples is None:
        return whole_or_stream(source)
    count = usual.plain(keep_examples)
    if not is_whole(count, least=0):
        raise UserError(
            f"keep_examples is {keep_examples!r}", hint="give a number of images, or None for all"
        )
    found = whole_or_stream(source, most=0)
    return found if isinstance(found, Stream) else stream(found)


def _checked(
    budgets: Sequence[float] | None, name: str, images: Dataset, settings: dict[str, Any]
) -> Sequence[float] | None:
    """The budgets as numbers. Raises UserError where they do not fit the attack."""
    if budgets is None:
        return None
    budgets = usual.numbers(budgets, "budgets")
    stats.check_budgets(budgets)
    bound = bind(name, images, split(settings)[1])
    if bound.kind != "minimum-norm":
        raise UserError(
            f"'{name}' attacks at fixed sizes and cannot be evaluated at other budgets",
            hint="give the sizes to attack at: eps=[...]",
            command="give the sizes to attack at, as in --eps 1/255,2/255",
        )
    usual.check_scale("a budget", budgets, usual.NORM_KEYS[bound.norm], images.bounds)
    return budgets


def _facts(
    network: nn.Module,
    images: Dataset,
    labels: list[int],
    fingerprint: str | None,
    index: list[int] | None,
) -> dict[str, Any]:
    return {
        "labels": labels,
        "bounds": list(images.bounds),
        "levels": images.levels,
        "fingerprint": fingerprint,
        "weights_hash": weights_hash(network.given if isinstance(network, Classifier) else network),
        **({} if index is None else {"index": index}),
    }


def _evaluated(
    result: AttackResult, graded: trust.Grade, budgets: Sequence[float] | None, facts: dict[str, Any]
) -> Evaluated:
    key, given = result.norm_key, tuple(budgets or ()) or result.sizes
    headline, curve = (
        usual.scaled(table[key], key, tuple(facts["bounds"])) for table in (usual.HEADLINE, usual.CURVE)
    )
    return Evaluated(result, graded, given or headline, given or curve, facts)
