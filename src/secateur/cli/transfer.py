"""The command transfer: test each network's adversarial examples on every other network of a run."""

from pathlib import Path
from typing import Annotated

import typer

from secateur.cli.attack_settings import attack_settings
from secateur.cli.completion import criterion_names, norm_names, setting_names
from secateur.cli.options import AttackName, Folder, Json, Limit, PlugIns, plug_in, refuse_file
from secateur.cli.output import bar, note, print_json, print_table, say

SHOWN = 12


def transfer(
    folder: Folder,
    name: AttackName = "ddn",
    norm: Annotated[
        str | None,
        typer.Option(
            help="L0, L0-pixels, L1, L2 or Linf; the attack's own by default.", autocompletion=norm_names
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Iterations.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A setting of the attack, as in gamma=0.05.", autocompletion=setting_names
        ),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model. May be repeated.")] = None,
    criterion: Annotated[
        list[str] | None,
        typer.Option(help="Only this criterion. May be repeated.", autocompletion=criterion_names),
    ] = None,
    sparsity: Annotated[list[float] | None, typer.Option(help="Only this sparsity. May be repeated.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Only this fine-tuning. May be repeated.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Only this seed. May be repeated.")] = None,
    scale: Annotated[float, typer.Option(help="Factor applied to every perturbation.")] = 1.0,
    limit: Limit = None,
    plugin: PlugIns = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write to; FOLDER/transfer by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Test each network's adversarial examples on every other one: dense, pruned, other seeds.

    The networks come from a run folder. Dense networks of the chosen models and seeds are always included.
    """
    from secateur.report.transfer import transfer_table, write_transfer
    from secateur.transfer import NetworkFilter
    from secateur.transfer import transfer as put

    refuse_file(out)
    plug_in(plugin)
    where = NetworkFilter(model, criterion, sparsity, arm, seed)
    settings = attack_settings(norm, steps, set_ or [])
    with bar("networks attacked", quiet=as_json) as tick:
        found = put(folder, name, where=where, scale=scale, limit=limit, on_progress=tick, **settings)
    record = found.to_json()
    for path in write_transfer(record, out or folder / "transfer"):
        note(f"wrote {path}")
    if as_json:
        print_json(record)
        return
    table = transfer_table(record)
    # A network's own examples always fool it; those rows say nothing.
    others = [row for row in table.rows if row[0] != row[1]]
    print_table(table.title, table.columns, others[:SHOWN])
    if len(others) > SHOWN:
        say(f"{len(others) - SHOWN} more pairs in the files")


COMMANDS = (transfer,)
