"""F23: an attack of fixed size keeps to it."""

from secateur.attacks.runner.result import AttackResult, Outcome
from secateur.attacks.runner.verification import largest_distance
from secateur.trust.audit_context import Check, Evidence


def size_kept(evidence: Evidence) -> Check:
    """No example lies beyond the size that the attack was given; see ``largest_distance``.

    Examples beyond it count as not found already. That there were any means that the attack, its norm or its
    settings are not what they are called.
    """
    result, dataset = evidence.result, evidence.dataset
    if result.fell is None or result.oversized is None:
        return Check("F23", True, "fail", "the attack has no size to keep to")
    shape, bounds = tuple(dataset.x.shape[1:]), dataset.bounds
    found = result.where(Outcome.FOUND)
    limits = [largest_distance(eps, result.norm, shape, bounds) for eps in result.fell[found].tolist()]
    beyond = sum(
        reached > limit for reached, limit in zip(result.distance[found].tolist(), limits, strict=True)
    )
    count = int(result.oversized.sum()) + beyond
    if not count:
        return Check("F23", True, "fail", f"no example lies beyond ε = {_said(result)}")
    sentence = (
        f"the attack returned {count} examples beyond its size, ε = {_said(result)} in {result.norm_key}: "
        "they count as not found"
    )
    return Check("F23", False, "fail", sentence)


def _said(result: AttackResult) -> str:
    return ", ".join(f"{eps:.4g}" for eps in result.sizes)
