import json
from pathlib import Path

import pytest
import yaml

from secateur.config import parse_study, study_schema

GOOD = [
    "name: a\ndata: digits\nmodels: {plain: resnet-tiny}\n",
    "name: a\ndata: {spec: digits}\nmodels: {p: {arch: resnet18}}\nattacks: {ddn: , fmn: {norm: inf}}\n",
    "name: a\ndata: digits\nx-base: &b {epochs: 3}\nmodels: {p: {arch: resnet18, recipe: *b}}\n",
    "name: a\ndata: digits\nmodels: {p: resnet18}\n"
    "finetune: {a: {adversary: {epsilon: 8/255, step_size: 0.1}}}\n",
]
BAD = [
    "data: digits\nmodels: {plain: resnet-tiny}\n",
    "name: a\ndata: digits\nmodels: {plain: resnet-tiny}\nsparsty: [0.1]\n",
    "name: a\ndata: digits\nmodels: {plain: resnet-tiny}\nsparsities: [1.5]\n",
    "name: a\ndata: digits\nmodels: {plain: resnet-tiny}\nfinetune: {a: {epochs: -1}}\n",
]


def test_the_schema_is_plain_json_and_names_what_is_registered():
    schema = json.loads(json.dumps(study_schema(), allow_nan=False))
    assert "resnet18" in schema["$defs"]["Model"]["properties"]["arch"]["examples"]
    assert "l1" in schema["properties"]["criteria"]["items"]["examples"]
    assert set(schema["required"]) == {"name", "data", "models"}


@pytest.mark.parametrize("text", GOOD)
def test_the_good_examples_are_studies(text):
    parse_study(text)


def test_the_schema_accepts_studies_and_refuses_what_is_none():
    jsonschema = pytest.importorskip("jsonschema", reason="a second opinion on the schema")
    validator = jsonschema.Draft202012Validator(study_schema())
    texts = [*GOOD, *(path.read_text() for path in Path("studies").glob("*.yaml"))]
    for text in texts:
        assert not list(validator.iter_errors(yaml.safe_load(text)))
    for text in BAD:
        assert list(validator.iter_errors(yaml.safe_load(text)))
