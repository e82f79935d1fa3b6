"""The front matter of a model card, which the Hugging Face hub and its ``ModelCard`` read.

Its ``model-index`` states what was measured, on which images and on how many: accuracy, and robust accuracy
at budgets of an attack.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

TAGS = ("image-classification", "structured-pruning", "adversarial-robustness")
_TASK = {"type": "image-classification", "name": "Image Classification"}


@dataclass(frozen=True)
class Metric:
    """One number: its type on the hub, its name for people, a share from 0 to 1, and how it was measured.

    >>> Metric("accuracy", "Accuracy", 0.5, {"n": 540}).facts["n"]
    540
    """

    type: str
    name: str
    value: float
    facts: Mapping[str, Any]


def front_matter(
    name: str, metrics: Sequence[Metric], *, data: str, split: str = "test", base: str = ""
) -> str:
    """The YAML at the top of a card, between its two lines of dashes.

    Args:
        name: of the model.
        metrics: what was measured; without any there is no ``model-index``.
        data: the images, as ``--data`` names them.
        split: the part of them.
        base: the model of the hub that it was pruned from.

    >>> print(front_matter("small", [Metric("accuracy", "Accuracy", 0.5, {"n": 4})], data="digits"))
    ---
    library_name: secateur
    pipeline_tag: image-classification
    tags:
    - image-classification
    - structured-pruning
    - adversarial-robustness
    model-index:
    - name: small
      results:
      - task:
          type: image-classification
          name: Image Classification
        dataset:
          type: digits
          name: digits
          split: test
        metrics:
        - type: accuracy
          value: 0.5
          name: Accuracy
          args:
            n: 4
    ---
    """
    known: dict[str, Any] = {"library_name": "secateur", "pipeline_tag": TAGS[0], "tags": [*TAGS]}
    if base:
        known["base_model"] = base
    if metrics:
        told = [
            {"type": each.type, "value": each.value, "name": each.name, "args": dict(each.facts)}
            for each in metrics
        ]
        images = {"type": data.partition(":")[0] or "images", "name": data or "images", "split": split}
        result = {"task": dict(_TASK), "dataset": images, "metrics": told}
        known["model-index"] = [{"name": name, "results": [result]}]
    text = yaml.safe_dump(_plain(known), sort_keys=False, allow_unicode=True, width=110)
    return f"---\n{text}---"


def _plain(value: Any) -> Any:
    """Texts without what could be markup to those who show the page of a card."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return re.sub(r"[<>\s]+", " ", value) if isinstance(value, str) else value
