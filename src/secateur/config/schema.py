"""The JSON Schema of a study file, so that editors can complete and check it."""

from typing import Any

from secateur.config.study import Study
from secateur.hashing import canonical
from secateur.registry import ATTACKS, CRITERIA, MODELS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# What a study file may write where a number is meant; see ``source``.
SPELLED_NUMBER = {"type": "string", "pattern": r"^(-?\.?inf|-?\d+(\.\d+)?/\d+(\.\d+)?)$"}


def study_schema() -> dict[str, Any]:
    """The schema, with the registered names of models, criteria and attacks as suggestions."""
    schema = _with_spelled_numbers(Study.model_json_schema())
    definitions, properties = schema["$defs"], schema["properties"]
    _suggest(definitions["Model"]["properties"]["arch"], MODELS.names())
    _suggest(definitions["Attack"]["properties"]["attack"], ATTACKS.names())
    _suggest(properties["criteria"]["items"], CRITERIA.names())
    # The short spellings: ``data: digits``, ``plain: resnet18``, ``ddn:`` alone and named by its label.
    properties["data"] = {"anyOf": [properties["data"], {"type": "string"}]}
    definitions["Attack"]["required"] = []
    for field, short in (("models", "string"), ("attacks", "null")):
        values = properties[field]["additionalProperties"]
        properties[field]["additionalProperties"] = {"anyOf": [values, {"type": short}]}
    schema["patternProperties"] = {"^x-": {"description": "ignored: a place for YAML anchors"}}
    plain: dict[str, Any] = canonical({"$schema": DIALECT, **schema, "title": "A secateur study"})
    return plain


def _suggest(field: dict[str, Any], names: list[str]) -> None:
    field["examples"] = names


def _with_spelled_numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_spelled_numbers(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _with_spelled_numbers(item) for key, item in value.items()}
    if changed.get("type") != "number":
        return changed
    about = {key: changed.pop(key) for key in ("description", "title", "default") if key in changed}
    return {**about, "anyOf": [changed, SPELLED_NUMBER]}
