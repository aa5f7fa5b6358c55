"""Writes the reference pages of ``deploy/docs`` from the code: ``python tests/pages.py``.

``unit/test_docs.py`` compares them with what is there. What a log event means is written by hand, in the
page itself, and kept.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from conventions import LogEvent, log_events
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from simulation.mutations import MUTATIONS, Mutation

from worker.cli import shapes
from worker.cli.root import cli
from worker.config import PREFIX, SECRETS, SPELLED, Settings
from worker.domain.org import CODE_MEANINGS, Org
from worker.vendor import codes
from worker.web import metrics

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "deploy/docs"
MODULES = sorted((ROOT / "worker").rglob("*.py"))
LINE = 120
UNKNOWN = "?"
MADE = "<!-- Made from the code by tests/pages.py, which overwrites changes. -->"

# What a meaning does, of each in ``CODE_MEANINGS``.
SIGNALS = {
    "throttled": "back into the queue; the gate closes until Retry-After, and the learned rate falls",
    "unauthorized": "the token is refreshed once; if that doesn't help, the org pauses: `auth`",
    "misconfigured": "back into the queue; the org pauses: `config`",
    "unavailable": "back into the queue; the gate closes, and probes with one job at a time",
    "too_large": "back into the queue; batches are half as large, for an hour",
    "refused": "the batch is split until the culprit stands alone with the vendor's error",
    "in_doubt": "the jobs are in doubt; the gate probes with one job at a time",
    "busy": "the vendor is at work for that customer: the job waits and is sent again; no attempt is spent",
    "deferred": "the job waits and is sent again; an attempt is spent",
    "rejected": "a dead letter `rejected`",
}


def page(title: str, intro: str, *parts: str) -> str:
    """Return a page: its title, where it comes from, what it is about, and the rest."""
    return "\n\n".join([f"# {title}", MADE, paragraph(intro), *(part.rstrip("\n") for part in parts)]) + "\n"


def paragraph(text: str) -> str:
    """Return text in lines that fit."""
    return textwrap.fill(" ".join(text.split()), LINE - 2, break_long_words=False, break_on_hyphens=False)


def items(rows: Iterable[tuple[str, str]]) -> str:
    """Return a list: what something is, then its meaning. A table's lines could not be broken."""
    return "\n".join(
        textwrap.fill(
            f"- {name}: {' '.join(text.split())}" if text else f"- {name}",
            LINE - 2,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, text in rows
    )


def settings_page() -> str:
    """Return every setting: those of the process, then those that each org has."""
    own = {name: field for name, field in Settings.model_fields.items() if name not in Org.model_fields}
    of_org = {name: field for name, field in Org.model_fields.items() if name != "name"}
    return page(
        "Settings",
        f"""In the environment each name has the prefix `{PREFIX}`. A secret can also be given by file: the
        same name with `_FILE` behind it names the file, and goes behind the setting itself. `ORGS_FILE` is
        a TOML file with a table for each further org, `[name]`, which holds the second list's names in lower
        case and inherits nothing from the environment; the environment describes the org `default`.""",
        "## The process",
        items(_setting(name, field) for name, field in own.items()),
        "## Each org",
        items(_setting(name, field) for name, field in of_org.items()),
        "## A file of orgs",
        '```toml\n[spring]\napi_base_url = "https://eu.api.capillarytech.com"\nauth = "basic"\n'
        'basic_username = "till"\nbasic_password_file = "/run/secrets/spring"\nrate_limit = "60/minute"\n```',
        "In a password that is part of a URL `/` is written `%2F`, `#` `%23` and `@` `%40`.",
    )


def _setting(name: str, field: FieldInfo) -> tuple[str, str]:
    choices = " ".join(f"`{choice}`" for choice in _choices(field.annotation))
    default = str(field.default).lower() if isinstance(field.default, bool) else field.default
    said = [
        choices,
        f"default `{default}`" if default not in (None, ()) else "",
        "secret" if name in SECRETS else "",
    ]
    notes = "; ".join(filter(None, said))
    shown = SPELLED.get(name, name.upper())
    return f"`{shown}`{f' ({notes})' if notes else ''}", f"{field.description or UNKNOWN}."


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def commands_page() -> str:
    """Return every command with its arguments and options."""
    parts = []
    for name, command in commands():
        usage = " ".join([name, *(_usage(param) for param in command.params if _is_argument(param))])
        parts += [f"## badges {name}", f"`badges {usage} [OPTIONS]`"]
        parts += [_flowing(command.help or "")]
        options = [_option(param) for param in command.params if not getattr(param, "hidden", False)]
        parts += [items(options)] if options else []
    return page(
        "Commands",
        """Every command as its `--help` describes it. How a command ends is said in
        [exit-codes](exit-codes.md), what it prints with `--json` in [json-shapes](json-shapes.md).""",
        *parts,
    )


def commands() -> Iterator[tuple[str, Any]]:
    """Yield each command with its name, those of a group with the group's before it."""
    for name, command in typer.main.get_group(cli).commands.items():
        group: Mapping[str, Any] | None = getattr(command, "commands", None)
        if group is None:
            yield name, command
        else:
            yield from ((f"{name} {its}", one) for its, one in group.items())


def _is_argument(param: Any) -> bool:
    return str(param.param_type_name) == "argument"


def _usage(param: Any) -> str:
    name = param.metavar or param.name.upper()
    return name if param.required else f"[{name}]"


def _option(param: Any) -> tuple[str, str]:
    text = param.help or ""
    if _is_argument(param):
        return f"`{param.metavar or param.name.upper()}`", text
    names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    if not getattr(param, "is_flag", False):
        names += f" {param.metavar or param.name.upper()}"
    if param.default not in (None, False, "", (), []) and "[default" not in text:
        text += f" [default: {getattr(param.default, 'value', param.default)}]"
    return names, text


def _flowing(text: str) -> str:
    return "\n\n".join(paragraph(part) for part in text.split("\n\n"))


def metrics_page() -> str:
    """Return every metric family."""
    rows = [(f"`{name}` ({kind}{_labels(labels)})", text) for name, kind, text, labels in metrics.families()]
    return page(
        "Metrics",
        """`badges metrics` serves these at `/metrics`, and `/healthz`, which says whether Redis answers. They
        are read from Redis at each scrape, so it doesn't matter where it runs, nor how often. A counter's
        name ends with `_total` in the text format.""",
        items(rows),
    )


def _labels(labels: Sequence[str]) -> str:
    return f"; {', '.join(labels)}" if labels else ""


def log_events_page() -> str:
    """Return every event of the log; what one means is taken from the page as it is."""
    file = DOCS / "log-events.md"
    known = dict(re.findall(r"^- `([a-z._]+)` \(.*?\): ((?:.|\n  )+)$", _text_of(file), re.MULTILINE))
    found = log_events(MODULES)
    rows = [(_event(name, event), known.get(name, UNKNOWN)) for name, event in found.items()]
    return page(
        "Log events",
        """Each line of the log has an `event`, a `level`, a `timestamp`, a `logger`, and the fields named
        here; lines about a batch also have `org` and `batch`. The meanings are written by hand, the rest is
        made from the code.""",
        items(rows),
    )


def _event(name: str, event: LogEvent) -> str:
    fields = f"; {', '.join(event.fields)}" if event.fields else ""
    return f"`{name}` ({' or '.join(event.levels)}{fields})"


def _text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def answer_codes_page() -> str:
    """Return what statuses and codes mean."""
    return page(
        "Answer codes",
        """What the vendor's statuses and error codes mean for the org and for its jobs. The body is read
        before the status, because codes also come inside a 200 or 201.""",
        "## Meanings",
        items((f"`{name}`", SIGNALS.get(name, UNKNOWN)) for name in CODE_MEANINGS),
        "## HTTP statuses",
        "A status of 300 to 399 is `misconfigured`, and any that isn't listed here `in_doubt`.",
        items((str(status), f"`{meaning}`") for status, meaning in sorted(codes.STATUSES.items())),
        "## Error codes",
        "The error of one item that isn't listed here is `rejected`.",
        items((code, f"`{codes.CODES[code]}`") for code in sorted(codes.CODES, key=lambda it: (len(it), it))),
    )


def json_shapes_page() -> str:
    """Return what each command prints with ``--json``, key by key."""
    parts = []
    for command in shapes.SHAPES:
        schema = TypeAdapter(shapes.SHAPES[command]).json_schema(schema_generator=_Printed)
        parts += [f"## badges {command}", "\n".join(_keys(schema, schema.get("$defs", {}), 0))]
    return page(
        "JSON shapes",
        """What commands print with `--json`: one JSON value; `--jsonl` prints an array's items, one a
        line. `badges schema COMMAND` prints the JSON Schema. Keys may be added in later versions; none is
        removed, renamed or given another type. A key marked "optional" may be missing.""",
        *parts,
    )


class _Printed(GenerateJsonSchema):
    """Of a dataclass every key is printed, also one that has a default."""

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: FBT001 - Pydantic's way
        return field["type"] == "dataclass-field" or super().field_is_required(field, total)


def _keys(schema: Mapping[str, Any], defs: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Yield a line for each key of an object, or of an array's items; below it those of its value."""
    shape = _resolved(schema, defs)
    if depth == 0 and shape.get("type") == "array":
        yield "An array of:"
        yield ""
    shape = _innermost(shape, defs)
    required = shape.get("required", ())
    for name, value in shape.get("properties", {}).items():
        optional = "" if name in required else ", optional"
        yield textwrap.fill(
            f"- `{name}`: {_type(value, defs)}{optional}",
            LINE - 2,
            initial_indent="  " * depth,
            subsequent_indent="  " * (depth + 1),
        )
        yield from _keys(value, defs, depth + 1)


def _innermost(shape: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object that an array holds, or that may also be null."""
    for held in (shape.get("items"), *shape.get("anyOf", ())):
        if held and (found := _innermost(_resolved(held, defs), defs)).get("properties"):
            return found
    return shape


def _resolved(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    ref = schema.get("$ref")
    found: Mapping[str, Any] = defs[ref.rpartition("/")[2]] if ref else schema
    return found


def _type(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    shape = _resolved(schema, defs)
    if "anyOf" in shape:
        return " or ".join(_type(one, defs) for one in shape["anyOf"])
    if "enum" in shape:
        return " or ".join(f"`{one}`" for one in shape["enum"])
    kind = str(shape.get("type", "any"))
    if kind == "array":
        return f"array of {_type(shape.get('items', {}), defs)}"
    values = shape.get("additionalProperties")
    if kind == "object" and isinstance(values, Mapping):
        return f"object of {_type(values, defs)}"
    return kind


def guards_page() -> str:
    """Return every guard that the simulation takes out, with its place and its promise."""
    rows = ["| guard | where | promise that breaks without it |", "|---|---|---|"]
    rows += [f"| {one.name} | {_place(one)} | {one.promise} |" for one in MUTATIONS]
    return page(
        "Guards",
        f"""What the promises rest on: {len(MUTATIONS)} guards. The [simulation](simulation.md) takes out one
        after the other (`tests/simulation/run.py --mutations`), and within 3,000 rounds the promise beside it
        breaks. A guard that nothing misses would be superfluous.""",
        "\n".join(rows),
    )


def _place(mutation: Mutation) -> str:
    if mutation.python:
        owner, method, _ = mutation.python
        return f"`{owner.__name__}.{method}`"
    return ", ".join(dict.fromkeys("shared" if one == "*" else f"`{one}.lua`" for one, *_ in mutation.lua))


PAGES: Mapping[str, Callable[[], str]] = {
    "settings": settings_page,
    "commands": commands_page,
    "metrics": metrics_page,
    "log-events": log_events_page,
    "answer-codes": answer_codes_page,
    "json-shapes": json_shapes_page,
    "guards": guards_page,
}


def main() -> None:
    """Write every page that differs."""
    for name, make in PAGES.items():
        file, text = DOCS / f"{name}.md", make()
        if text != _text_of(file):
            file.write_text(text, encoding="utf-8")
            print(f"{file.relative_to(ROOT)} is written")


if __name__ == "__main__":
    main()
