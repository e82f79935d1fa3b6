"""The commands init and schema: a study file to begin with, and its JSON Schema."""

from pathlib import Path
from typing import Annotated

import typer

from secateur.cli.options import PlugIns, plug_in
from secateur.cli.output import print_json, say
from secateur.errors import UserError


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("study.yaml"),
    preset: Annotated[str, typer.Option(help="digits, thesis or thesis-literal.")] = "digits",
) -> None:
    """Write a commented study file to start from."""
    from secateur.config import preset as preset_text

    text = preset_text(preset).replace("THIS", str(path))
    try:
        # Mode x never overwrites a file that somebody has edited.
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path} exists already", hint="name another file") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    say(f"{path}: {text.splitlines()[0].removeprefix('# ')}")
    say(f"next: secateur plan {path}")


def schema(plugin: PlugIns = None) -> None:
    """Print the JSON Schema of study files, for editors."""
    from secateur.config import study_schema

    plug_in(plugin)
    print_json(study_schema())


COMMANDS = (init, schema)
