"""Read a study file into a ``Study``, or report all of its problems at once."""

import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from secateur.config.contradictions import contradictions, impossible_attacks
from secateur.config.problems import Problem, refuse
from secateur.config.study import Study
from secateur.config.yaml12 import Source, override, parse_source, read_source
from secateur.hashing import restore
from secateur.registry import require
from secateur.text import nearest

SENTENCES = {
    "missing": "is required",
    "extra_forbidden": "unknown setting",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a word",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "finite_number": "must be finite",
}


def load_study(path: str | Path, *, overrides: Sequence[str] = ()) -> Study:
    r"""Read and check a study file.

    Args:
        path: a YAML file.
        overrides: settings that replace those of the file, each ``path.to.key=value`` in YAML syntax.

    Raises:
        UserError: every problem of the file, one line each: ``file:line: path.to.key: sentence``.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "study.yaml")
    ...     _ = path.write_text("name: small\ndata: digits\nmodels: {plain: resnet18}\n")
    ...     load_study(path, overrides=["seeds=[0, 1]"]).seeds
    (0, 1)
    """
    return _checked(read_source(Path(path)), overrides)


def parse_study(text: str, *, file: str = "study.yaml", overrides: Sequence[str] = ()) -> Study:
    """Like :func:`load_study`, from YAML text; ``file`` names it in messages.

    >>> parse_study("{name: small, data: digits, models: {plain: resnet18}}").sparsities
    (0.0, 0.2, 0.4, 0.6, 0.8)
    """
    return _checked(parse_source(text, file), overrides)


def study_from_json(config: Mapping[str, Any]) -> Study:
    """The study with the resolved settings ``config``, as a run folder keeps them. Raises UserError.

    >>> study = parse_study("{name: small, data: digits, models: {plain: resnet18}}")
    >>> study_from_json(study.resolved()).resolved() == study.resolved()
    True
    """
    return _validated(Source("study.json", restore(config)))


def study_of(folder: Mapping[str, Any]) -> Study:
    """The study of a run folder, from the content of its ``study.json``.

    Raises:
        UserError: settings that this version refuses, or plug-ins that are not loaded in this process.

    >>> study_of({"config": {"name": "a", "data": "digits", "models": {"m": "resnet18"}}}).name
    'a'
    """
    require(folder.get("plugins", ()))
    return study_from_json(folder["config"])


def _checked(source: Source, overrides: Sequence[str]) -> Study:
    source.data = _expanded(source.data)
    for text in overrides:
        override(source, text)
    return _validated(source)


def _validated(source: Source) -> Study:
    data = _expanded(source.data)  # again, because an override may use a short form
    problems = list(source.problems)
    study = None
    try:
        # Strict JSON mode turns lists into tuples, but no word into a number and no number into a boolean.
        study = Study.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        # A value that could not be read is already reported; pydantic would only add that it is missing.
        spelled = {problem.key for problem in source.problems}
        found = [_problem(dict(item), source) for item in error.errors(include_url=False)]
        problems += [problem for problem in found if problem.key not in spelled]
        problems += _impossible(data.get("attacks"), source, {problem.key for problem in problems})
    if study is not None:
        study._source = source
        problems += contradictions(study)
    if problems or study is None:
        raise refuse(sorted(problems, key=lambda problem: _line(problem.location)))
    return study


def _impossible(attacks: Any, source: Source, reported: set[str]) -> list[Problem]:
    """What each attack by itself has impossible, in a study that cannot be read for other reasons."""
    found = []
    for label, given in attacks.items() if isinstance(attacks, Mapping) else ():
        alone = {"name": "alone", "data": {"spec": "digits"}, "models": {"m": {"arch": "resnet-tiny"}}}
        try:
            study = Study.model_validate_json(json.dumps({**alone, "attacks": {label: given}}), strict=True)
        except (ValidationError, ValueError, TypeError):
            continue  # it is reported already
        found += [
            Problem(source.location(key), key, sentence)
            for key, sentence in impossible_attacks(study)
            if key not in reported
        ]
    return found


def _expanded(data: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with short spellings written out: ``data: digits``, ``plain: resnet18``, ``ddn:``."""
    full = {key: value for key, value in data.items() if not key.startswith("x-")}
    if isinstance(full.get("data"), str):
        full["data"] = {"spec": full["data"]}
    if isinstance(attacks := full.get("attacks"), Mapping):
        full["attacks"] = {name: _named(name, value) for name, value in attacks.items()}
    if isinstance(models := full.get("models"), Mapping):
        full["models"] = {
            name: {"arch": value} if isinstance(value, str) else value for name, value in models.items()
        }
    return full


def _named(name: str, attack: Any) -> Any:
    # An attack without settings is written 'ddn:', which YAML reads as null.
    settings = {} if attack is None else attack
    return {"attack": name, **settings} if isinstance(settings, Mapping) else settings


def _problem(error: dict[str, Any], source: Source) -> Problem:
    loc = [part for part in error["loc"] if part != "[key]"]
    key = ".".join(str(part) for part in loc)
    kind, given = error["type"], error.get("input")
    sentence = SENTENCES.get(kind) or str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    suggestion = ""
    if kind == "extra_forbidden":
        suggestion = nearest(str(loc[-1]), _siblings(loc))
    elif kind == "unknown_name":
        suggestion = error["ctx"]["near"]
    elif kind not in ("missing", "value_error") and not isinstance(given, list | dict):
        sentence += f" (got {_spelled(given)})"
    return Problem(source.location(key), key, sentence, suggestion)


def _spelled(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    return "nothing" if value is None else f"{value}"


def _siblings(loc: Sequence[str | int]) -> list[str]:
    """The settings beside an unknown one, by walking the pydantic models along its path."""
    model: type[BaseModel] | None = Study
    labelled = False
    for part in loc[:-1]:
        if model is None:
            return []
        if labelled or isinstance(part, int):
            labelled = False
            continue
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        labelled = typing.get_origin(annotation) is dict
        model = _model_in(annotation)
    return list(model.model_fields) if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in typing.get_args(annotation):
        if found := _model_in(inner):
            return found
    return None


def _line(location: str) -> int:
    tail = location.rpartition(":")[2]
    return int(tail) if tail.isdigit() else 0
