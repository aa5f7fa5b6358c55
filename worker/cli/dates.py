"""The options that say how a file's dates are written, and in which time zone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from worker.domain.localdates import DateFormat, read_zone
from worker.files.dated import Dating

DateFormatOption = Annotated[
    list[str] | None,
    typer.Option(
        "--date-format",
        metavar="FORMAT",
        help="How dates are written: DD/MM/YYYY HH:mm, iso or epoch. May be repeated.",
    ),
]
TimezoneOption = Annotated[
    str | None,
    typer.Option("--timezone", metavar="ZONE", help="Of dates without one: Europe/Berlin or +02:00."),
]


def dating(date_formats: Sequence[str] | None, timezone: str | None) -> Dating:
    """Read both options.

    Raises:
        typer.BadParameter: one of them means nothing.
    """
    try:
        form = DateFormat.parse(" or ".join(date_formats)) if date_formats else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--date-format") from None
    try:
        zone = None if timezone is None else read_zone(timezone)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timezone") from None
    return Dating(form, zone)
