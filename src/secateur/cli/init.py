"""The commands init and schema: a study file to begin with, and its JSON Schema."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from secateur.cli.completion import data_names, model_names, preset_names
from secateur.cli.images import chosen_size
from secateur.cli.options import PlugIns, plug_in
from secateur.cli.output import print_json, say
from secateur.cli.targets import Mean, Resize, Std, check_statistics
from secateur.errors import UserError
from secateur.registry import of_own_file


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("study.yaml"),
    preset: Annotated[
        str | None,
        typer.Option(
            help="digits, thesis or thesis-literal; digits by default.", autocompletion=preset_names
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Your network instead: FILE.py:FUNCTION or a name.",
            autocompletion=model_names,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", "-d", help="With --model: its images, as folder:DIR.", autocompletion=data_names
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", help="With --model: its weights, or a pruned folder.")
    ] = None,
    robust: Annotated[
        bool, typer.Option("--robust", help="With --model: it was trained adversarially.")
    ] = False,
    resize: Resize = None,
    mean: Mean = None,
    std: Std = None,
) -> None:
    """Write a commented study file to start from, of a preset or of your own network."""
    from secateur.config import preset as preset_text
    from secateur.config.presets import own_study

    own = {"--data": data, "--weights": weights, "--robust": robust or None, "--mean": mean, "--std": std}
    own["--resize"] = resize
    given = [option for option, value in own.items() if value is not None]
    if model is None and given:
        raise UserError(f"{given[0]} needs --model", hint="secateur init study.yaml --model net.py:build ...")
    if model is not None and (preset is not None or data is None):
        raise UserError(
            "--model needs --data, and no --preset",
            hint=f"secateur init {quote(str(path))} --model {quote(model)} --data folder:DIR",
        )
    named = Path(model.rpartition(":")[0]) if model is not None and of_own_file(model) else None
    for needed in (named, weights):
        if needed is not None and not needed.exists():
            raise UserError(f"there is no file '{needed}'", hint="paths start at the working directory")
    if model is not None and data is not None:
        _refuse_unknown(model, data)
    if model is None or data is None:
        text, option = preset_text(preset or "digits").replace("THIS", str(path)), ""
    else:
        text = own_study(
            str(path),
            model=model,
            data=data,
            weights=None if weights is None else str(weights),
            robust=robust,
            normalise=_normalisation(mean, std),
            size=chosen_size(resize, model),
        )
        option = "" if named is None else f" --plugin {quote(str(named))}"
    try:
        # Mode x never overwrites a file that somebody has edited.
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path} exists already", hint="name another file") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    say(f"{path}: {text.splitlines()[0].removeprefix('# ')}")
    say(f"next: secateur plan {quote(str(path))}{option}")


def schema(plugin: PlugIns = None) -> None:
    """Print the JSON Schema of study files, for editors."""
    from secateur.config import study_schema

    plug_in(plugin)
    print_json(study_schema())


COMMANDS = (init, schema)


def _refuse_unknown(model: str, data: str) -> None:
    """Refuse a network or images that no command would find. A file of the user's is read, not run."""
    import ast

    from secateur.config.values import known_model
    from secateur.data import open_dataset

    source, _, function = model.rpartition(":")
    if model.endswith(".py"):
        raise UserError(f"'{model}' is a file: name the function in it", hint=f"write {model}:FUNCTION")
    if of_own_file(model):
        try:
            parts = list(ast.walk(ast.parse(Path(source).read_text(encoding="utf-8"))))
        except (SyntaxError, ValueError) as error:
            raise UserError(f"'{source}' cannot be read as Python: {error}") from error
        names = {getattr(part, kind, None) for part in parts for kind in ("id", "name", "asname")}
        if not names & {function, "*"}:
            raise UserError(f"'{source}' has no function '{function}'", hint="write FILE.py:FUNCTION")
    else:
        try:
            known_model(model)
        except ValueError as error:
            raise UserError(str(error)) from None
    open_dataset(data)


def _normalisation(mean: str | None, std: str | None) -> str | None:
    """The statistics as a study writes them."""
    found = check_statistics(mean, std)
    return None if found is None else f"{{mean: {[*found[0]]}, std: {[*found[1]]}}}"
