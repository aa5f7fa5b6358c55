"""The command ``badges schema``: what programs may rely on."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import shapes, tables
from worker.cli.output import say_json

schemas_cli = typer.Typer()


@schemas_cli.command("schema")
def schema(
    command: Annotated[
        list[str] | None, typer.Argument(help="Such as: run show. Without one, all there are are listed.")
    ] = None,
) -> None:
    """Print the JSON Schema of what a command prints with --json.

    A line of --jsonl is an item of that array. Keys may be added in later versions; none is taken away, or
    gets another name or type.
    """
    if not command:
        for name in shapes.SHAPES:
            tables.out.print(name)
        return
    name = " ".join(command).replace(" --json", "")
    if name not in shapes.SHAPES:
        raise typer.BadParameter(
            f"no command {name!r} prints JSON; those that do: {', '.join(shapes.SHAPES)}"
        )
    say_json(shapes.schema(name))
