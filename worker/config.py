"""Settings: read once from ``BADGES_*`` and ``ORGS_FILE``, checked, and handed down from there.

Nothing else in the program looks at the environment. A secret may be given by file (``BADGES_X_FILE``
for ``BADGES_X``); secrets are ``SecretStr`` from here on, so that no log, error or ``repr`` shows them.
"""

from __future__ import annotations

import difflib
import os
import re
import time
import tomllib
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from worker.domain.faults import words_of
from worker.domain.numbers import invisible_in
from worker.domain.org import DEFAULT_ORG, Org
from worker.errors import ConfigError

PREFIX = "BADGES_"
FAULT_EVERY_S = 10.0
# What answers mean, each in a variable of its own.
_MEANINGS = {"statuses": re.compile(r"STATUS_(.+)"), "codes": re.compile(r"CODE_(.+)")}
SPELLED = {"statuses": "STATUS_<status>", "codes": "CODE_<code>"}


class Settings(Org, BaseSettings):
    """All of ``BADGES_*``: what the process needs, and the org ``default``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    redis_url: SecretStr | None = Field(
        default=None,
        description="Where Redis is: `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or "
        "`redis+cluster://`. Without it the embedded server is used",
    )
    broker_url: SecretStr | None = Field(
        default=None,
        description="Celery's broker: any of those but a Cluster, or `amqp://`, `amqps://`. "
        "Without it the same Redis",
    )
    replicas: int = Field(
        default=0,
        ge=0,
        le=9,
        description="Replicas that must confirm what is accepted, and each claim before its call",
    )
    data_dir: Path = Field(
        default=Path(".badges"),
        description="Where the embedded server keeps its data; refused where others may write",
    )
    orgs_file: Path | None = Field(default=None, description="A TOML file with a table for each further org")
    heartbeat_file: Path | None = Field(
        default=None, description="Touched every 2 seconds as long as nothing in the worker is stuck"
    )
    log_format: Literal["json", "console"] = Field(default="json", description="How log lines are written")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged"
    )

    console_public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$",
        description="The URL at which a proxy on this machine shows `badges console`, with its sub-path",
    )
    console_flower_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$",
        description="Where Flower is, which `badges console` then links to by batch",
    )
    console_session_s: float = Field(
        default=43_200,
        ge=60,
        le=31_536_000,
        description="Seconds that a session of the console lasts after it was last used",
    )

    console_upload_max: int = Field(
        default=1 << 30,
        ge=1,
        le=1 << 40,
        description="Bytes of an uploaded file, at most",
    )
    console_upload_dir: Path | None = Field(
        default=None,
        description="Where uploaded files lie, for a day at most; console and workers must "
        "both see it; refused where all may write. Without it, `uploads` in `DATA_DIR`",
    )

    @field_validator("name", mode="before")
    @classmethod
    def _is_the_default(cls, _: object) -> str:
        """Take no ``BADGES_NAME``: an org other than this one has a table in ``ORGS_FILE``."""
        return DEFAULT_ORG

    @property
    def uploads(self) -> Path:
        """Where files lie that were uploaded to the console."""
        return self.console_upload_dir or self.data_dir / "uploads"

    @field_validator("log_format", "log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read what was passed, then the environment, then the files that ``BADGES_*_FILE`` name."""
        return (
            init_settings,
            env_settings,
            *(_Read(settings_cls, read) for read in (_secret_files, _meanings, _emptied)),
        )

    @classmethod
    def load(cls, **values: Any) -> Settings:
        """Read the environment (``values`` win over it).

        Raises:
            ConfigError: a setting is wrong; every one that is, by its name.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error, PREFIX)) from None
        except SettingsError:  # of the tables alone: no other setting is read as JSON
            raise ConfigError(
                f"{PREFIX}STATUSES or {PREFIX}CODES can't be read: write {PREFIX}STATUS_503=throttled or "
                f"{PREFIX}CODE_9001=busy, a variable for each"
            ) from None

    def orgs(self) -> dict[str, Org]:
        """Return every org by name: ``default`` from the environment, the others from ``ORGS_FILE``.

        A table stands for itself: it inherits nothing from the environment, least of all credentials. One
        that is named ``default`` goes only with an environment that says nothing of that org. The file, and
        those that hold secrets, are read again when they have changed. While that fails, the orgs stay as
        they were read last, and the log repeats an error about it.

        Raises:
            ConfigError: a file can't be read, or a table is wrong, and it is the first time.
        """
        return _orgs_of(self).read()

    def org(self, name: str) -> Org:
        """Return one org.

        Raises:
            ConfigError: there is no org of that name.
        """
        orgs = self.orgs()
        if name not in orgs:
            raise ConfigError(f"there is no org {name!r}; configured: {', '.join(sorted(orgs))}")
        return orgs[name]


SECRETS = tuple(
    name for name, field in Settings.model_fields.items() if SecretStr in get_args(field.annotation)
)
# Settings that an error's own words name: as variables in the environment, in lower case in a table.
_NAMED = re.compile(rf"\b(?:(?:{'|'.join(Settings.model_fields).upper()})\b|STATUS_\w+|CODE_[\w.-]+)")


class _Read(PydanticBaseSettingsSource):
    """What a function reads, since it isn't one variable a setting."""

    def __init__(self, settings_cls: type[BaseSettings], read: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(settings_cls)
        self._read = read

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(self._read())


def _emptied() -> dict[str, str]:
    """Return what is switched off by being empty; everywhere else an empty variable is none."""
    name = "request_id_header"
    return {name: ""} if os.environ.get(f"{PREFIX}{name.upper()}") == "" else {}


def _meanings() -> dict[str, dict[str, str]]:
    """Return what answers mean: ``BADGES_STATUS_503`` and ``BADGES_CODE_9001``."""
    found: dict[str, dict[str, str]] = {}
    for name, value in os.environ.items():
        for field, form in _MEANINGS.items():
            if value and (its := form.fullmatch(name.removeprefix(PREFIX))) and name.startswith(PREFIX):
                found.setdefault(field, {})[its[1]] = value
    return found


class _Orgs:
    """The orgs as they were last read without a fault: a file saved half-way stops no delivery."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._orgs: dict[str, Org] = {}
        self._said_at = -FAULT_EVERY_S

    def read(self) -> dict[str, Org]:
        """Return all of them by name."""
        file = self._settings.orgs_file
        try:
            default = _default_org(self._settings, tuple(_secret_files().items()))
            others = _orgs_file(file).read() if file else {}
            _refuse_two_defaults(self._settings, others)
            self._orgs = {DEFAULT_ORG: default} | others
        except ConfigError as error:
            if not self._orgs:
                raise
            self._say(error)
        return self._orgs

    def _say(self, error: ConfigError) -> None:
        if time.monotonic() - self._said_at >= FAULT_EVERY_S:
            self._said_at = time.monotonic()
            import structlog  # noqa: PLC0415 - it would load rich into every service that enqueues

            structlog.get_logger().error("settings.unreadable", reason=str(error), using="what was read last")


def _refuse_two_defaults(settings: Settings, others: Mapping[str, Org]) -> None:
    said = settings.model_fields_set & Org.model_fields.keys()
    if DEFAULT_ORG in others and said:
        raise ConfigError(
            f"BADGES_ORGS_FILE {settings.orgs_file} has a table [{DEFAULT_ORG}], and "
            f"{PREFIX}{min(said).upper()} is given as well, which is of that org: keep one of the two"
        )


_orgs_of = lru_cache(maxsize=8)(_Orgs)


@lru_cache(maxsize=8)
def _default_org(settings: Settings, secrets: tuple[tuple[str, str], ...]) -> Org:
    values = {name: getattr(settings, name) for name in Org.model_fields}
    try:
        return Org(**values | {name: secret for name, secret in secrets if name in Org.model_fields})
    except ValidationError as error:
        raise ConfigError(_explain(error, PREFIX)) from None


def _secret_files() -> dict[str, str]:
    """Read what ``BADGES_*_FILE`` name; a variable that holds the secret itself goes before its file."""
    variables = {name: f"{PREFIX}{name.upper()}_FILE" for name in SECRETS}
    given = {name for name in SECRETS if os.environ.get(f"{PREFIX}{name.upper()}")}  # which wins
    return {
        name: _read_secret(os.environ[variable], variable)
        for name, variable in variables.items()
        if os.environ.get(variable) and name not in given
    }


def unknown_settings(environ: Mapping[str, str]) -> list[str]:
    """Say which ``BADGES_*`` variables nobody reads, with the name that was probably meant."""
    known = {name.upper() for name in Settings.model_fields if name != "name"}
    known |= {f"{name.upper()}_FILE" for name in SECRETS}
    names = sorted(name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX))
    names = [name for name in names if not any(form.fullmatch(name) for form in _MEANINGS.values())]
    return [f"{PREFIX}{n} is no setting{_meant(n, known, PREFIX)}" for n in names if n not in known]


def _meant(name: str, known: set[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def _read_secret(path: object, setting: str) -> str:
    if not isinstance(path, str):
        raise ConfigError(f"{setting} must be the path of a file")
    try:
        secret = _text_of(Path(path)).strip()
    except OSError as error:
        raise ConfigError(f"{setting}: {path} can't be read: {error.strerror}") from None
    except ValueError:  # its words would quote what is in the file
        raise ConfigError(f"{setting}: {path} can't be read: it is no UTF-8 text") from None
    if not secret:
        raise ConfigError(f"{setting}: {path} is empty")
    if len(secret.splitlines()) > 1:
        raise ConfigError(f"{setting}: {path} has more than one line: it must hold the secret alone")
    if not secret.isprintable():
        hint = invisible_in(secret) or ": it holds a control character"
        raise ConfigError(f"{setting}: {path} can't be used{hint}")
    return secret


def _text_of(path: Path) -> str:
    """Read a file; a byte order mark, which some editors write, is no part of it."""
    return path.read_text(encoding="utf-8").lstrip("\ufeff")


class _OrgsFile:
    """``ORGS_FILE`` as it was last read; read again when it, or a secret's file that it names, changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._as_of: dict[str, tuple[int, ...]] = {}
        self._found: dict[str, Org] | ConfigError = {}

    def read(self) -> dict[str, Org]:
        """Return its orgs by name."""
        if not self._as_of or self._as_of != {file: _stamp(file) for file in self._as_of}:
            as_of = {str(self._path): _stamp(str(self._path))}
            try:
                tables = _read_tables(self._path)
                for table in tables.values():
                    as_of |= {str(f): _stamp(str(f)) for name, f in table.items() if name.endswith("_file")}
                self._found = {name: _org_of(self._path, name, table) for name, table in tables.items()}
            except ConfigError as error:
                self._found = error
            self._as_of = as_of
        if isinstance(self._found, ConfigError):
            raise ConfigError(str(self._found))
        return self._found


_orgs_file = cache(_OrgsFile)


def _stamp(file: str) -> tuple[int, ...]:
    try:
        found = os.stat(file)  # noqa: PTH116 - of any kind of file, a switched link included
    except (OSError, ValueError):  # reading it reports that
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read_tables(path: Path) -> dict[str, dict[str, Any]]:
    try:
        tables = tomllib.loads(_text_of(path))
    except UnicodeDecodeError:
        raise ConfigError(f"BADGES_ORGS_FILE {path} can't be read: it is no UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"BADGES_ORGS_FILE {path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"BADGES_ORGS_FILE {path} can't be read: {error}") from None
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"BADGES_ORGS_FILE {path}: {name!r} must be a table, [{name}], with settings in it"
            )
    return tables


def _org_of(path: Path, name: str, table: Mapping[str, Any]) -> Org:
    where = f"BADGES_ORGS_FILE {path}, [{name}]"
    if "name" in table:
        raise ConfigError(f"{where}: name: is no setting; the table's own name is the org's")
    try:
        return Org.model_validate(_with_secrets(table, where) | {"name": name})
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error, '')}") from None


def _with_secrets(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    files = {f"{name}_file": name for name in SECRETS if name in Org.model_fields}
    read = {files[k]: _read_secret(v, f"{where}: {k}") for k, v in table.items() if k in files}
    return read | {k: v for k, v in table.items() if k not in files}


# What a number counts, where its name doesn't end in it; and how texts are written that have a form.
_UNITS = {
    "batch_size": "jobs",
    "max_queued": "jobs",
    "max_in_flight": "calls",
    "max_attempts": "attempts",
    "replicas": "replicas",
    "console_upload_max": "bytes",
}
_FORMS = {
    "console_public_url": "must be a URL such as https://badges.example.com/console",
    "console_flower_url": "must be a URL such as https://flower.example.com",
    "request_id_header": "must be the name of a header: letters, digits and dashes, 64 at most",
}


def _unit_of(name: str) -> str:
    by_ending = "seconds" if name.endswith("_s") else "days" if name.endswith("_days") else ""
    return _UNITS.get(name, by_ending)


def _explain(error: ValidationError, prefix: str) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in problem["loc"])
        field = Settings.model_fields.get(name)
        bounds = field.metadata if field else ()
        words = words_of(problem, kind=field and field.annotation, bounds=bounds, unit=_unit_of(name))
        if problem["type"] == "string_pattern_mismatch":
            words = _FORMS.get(name, "has another form")
        if problem["type"] == "extra_forbidden":
            words = f"is no setting of an org{_meant(name, set(Org.model_fields) - {'name'})}"
        words = _NAMED.sub(lambda found: prefix + found[0] if prefix else found[0].lower(), words)
        lines.append(f"{prefix}{name.upper() if prefix else name}: {words}" if name else words)
    return "; ".join(lines)
