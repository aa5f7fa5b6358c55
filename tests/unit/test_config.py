"""Settings are read, checked and named as the user wrote them, and no secret is ever shown."""

import hashlib
import os
import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from worker.config import SECRETS, Settings, unknown_settings
from worker.domain.org import Limit, Org, parse_limits
from worker.errors import ConfigError

MARKER = "s3cr3t-mArKeR"
# The contract: every setting, a value that isn't the default, and how it is read.
CONTRACT: list[tuple[str, str, object]] = [
    ("REDIS_URL", "rediss://:p@redis:6379/0", SecretStr("rediss://:p@redis:6379/0")),
    ("BROKER_URL", "amqp://u:p@mq//", SecretStr("amqp://u:p@mq//")),
    ("REPLICAS", "2", 2),
    ("DATA_DIR", "/var/lib/badges", Path("/var/lib/badges")),
    ("API_BASE_URL", "https://eu.api.capillarytech.com/", "https://eu.api.capillarytech.com"),
    ("API_PATH", "/other", "/other"),
    ("API_METHOD", "post", "POST"),
    ("AUTH", "none", "none"),
    ("BASIC_USERNAME", "till", "till"),
    ("BASIC_PASSWORD", "pw ", SecretStr("pw ")),
    ("BASIC_TOKEN", "dGlsbA==", SecretStr("dGlsbA==")),
    ("OAUTH_KEY", "key", SecretStr("key")),
    ("OAUTH_SECRET", "secret", SecretStr("secret")),
    ("INTAKE_KEYS", "one-key,another", SecretStr("one-key,another")),
    ("RATE_LIMIT", "5/second", "5/second"),
    ("BATCH_SIZE", "50", 50),
    ("BATCH_LINGER_S", "0.25", 0.25),
    ("MAX_IN_FLIGHT", "9", 9),
    ("MAX_QUEUED", "5000", 5000),
    ("HTTP_TIMEOUT_S", "12.5", 12.5),
    ("MAX_ATTEMPTS", "7", 7),
    ("RETRY_BASE_S", "0.5", 0.5),
    ("RETRY_MAX_S", "60", 60),
    ("IN_DOUBT", "Resend", "resend"),
    ("REQUEST_IDS", "Refuses", "refuses"),
    ("REQUEST_ID_HEADER", "X-Id", "X-Id"),
    ("RESULT_TTL_DAYS", "7", 7),
    ("EPOCH_UNIT", "ms", "ms"),
    ("STRICT_DATES", "true", True),
    ("HEARTBEAT_FILE", "/run/badges/alive", Path("/run/badges/alive")),
    ("LOG_FORMAT", "CONSOLE", "console"),
    ("LOG_LEVEL", "DEBUG", "debug"),
    ("CONSOLE_PUBLIC_URL", "https://ops.example/badges", "https://ops.example/badges"),
    ("CONSOLE_FLOWER_URL", "http://127.0.0.1:5555", "http://127.0.0.1:5555"),
    ("CONSOLE_SESSION_S", "60", 60),
    ("CONSOLE_UPLOAD_MAX", "1000", 1000),
    ("CONSOLE_UPLOAD_DIR", "/srv/uploads", Path("/srv/uploads")),
    ("ORGS_FILE", "/etc/orgs.toml", Path("/etc/orgs.toml")),
]
DEFAULTS = {
    "redis_url": None,
    "broker_url": None,
    "data_dir": Path(".badges"),
    "api_base_url": None,
    "api_path": "/api_gateway/v1/badges/import/customerBadges",
    "api_method": "PUT",
    "auth": "none",
    "rate_limit": "100/minute",
    "batch_size": 100,
    "batch_linger_s": 1.0,
    "max_in_flight": 4,
    "http_timeout_s": 30,
    "max_attempts": 5,
    "in_doubt": "park",
    "result_ttl_days": 30,
    "epoch_unit": "s",
    "strict_dates": False,
}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever the machine sets, and whatever lies in its folder, is out of the way."""
    for name in [name for name in os.environ if name.upper().startswith("BADGES_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """Read the settings of an environment with these ``BADGES_*``."""
    for name, value in variables.items():
        monkeypatch.setenv(f"BADGES_{name}", value)
    return Settings.load()


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return the error that this environment is refused with."""
    with pytest.raises(ConfigError) as caught:
        load(monkeypatch, **variables)
    return str(caught.value)


def orgs_of(tmp_path: Path, text: str) -> dict[str, Org]:
    """Read an ORGS_FILE with this text."""
    path = tmp_path / "orgs.toml"
    path.write_text(text)
    return Settings.load(orgs_file=path).orgs()


def orgs_refusal(tmp_path: Path, text: str) -> str:
    """Return the error that such an ORGS_FILE is refused with; it names the file."""
    with pytest.raises(ConfigError) as caught:
        orgs_of(tmp_path, text)
    assert "BADGES_ORGS_FILE" in str(caught.value)
    assert "orgs.toml" in str(caught.value)
    return str(caught.value)


# -- what answers mean


def test_what_answers_mean_is_told_by_one_variable_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A status or a code in the variable's name, a word in any case as its value; each is a known setting."""
    said = {"STATUS_503": "Throttled", "STATUS_408": "unavailable"}
    org = load(monkeypatch, **said, **{"CODE_9001": "busy", "CODE_X.1": "rejected"}).org("default")
    assert org.statuses == ((408, "unavailable"), (503, "throttled"))
    assert org.codes == (("9001", "busy"), ("X.1", "rejected"))
    assert unknown_settings(dict(os.environ)) == []


def test_what_answers_mean_in_a_table(tmp_path: Path) -> None:
    """Each org has its own, and inherits none."""
    orgs = orgs_of(tmp_path, '[a]\n[a.statuses]\n503 = "throttled"\n[a.codes]\n9001 = "deferred"\n[b]\n')
    assert (orgs["a"].statuses, orgs["a"].codes) == (((503, "throttled"),), (("9001", "deferred"),))
    assert orgs["b"].statuses == orgs["b"].codes == ()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("STATUS_503", "slow", "BADGES_STATUS_503 must be one of throttled, unavailable"),
        ("STATUS_503", "busy", "BADGES_STATUS_503 must be one of"),
        ("STATUS_200", "throttled", "BADGES_STATUS_200 has no meaning that could be changed"),
        ("STATUS_99", "throttled", "BADGES_STATUS_99 has no meaning .* a status is 300 to 999"),
        ("STATUS_5xx", "throttled", "BADGES_STATUS_5xx has no meaning"),
        ("CODE_1", "issued", "BADGES_CODE_1 must be one of rejected, busy, deferred"),
    ],
)
def test_a_meaning_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, words: str
) -> None:
    """By the variable's name, or the table's entry."""
    with pytest.raises(ConfigError, match=words):
        load(monkeypatch, **{name: value})
    monkeypatch.delenv(f"BADGES_{name}")
    what, _, key = name.partition("_")
    table = "statuses" if what == "STATUS" else "codes"
    expected = words.replace("BADGES_", "").replace(name, name.lower())
    assert re.search(expected, orgs_refusal(tmp_path, f'[a]\n[a.{table}]\n{key} = "{value}"\n'))


@pytest.mark.parametrize("value", ["5", "[503]", '["503"]', '"503=throttled"', "[[503]]"])
def test_meanings_that_are_no_table_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    """In whatever form; none of them is a traceback."""
    assert "statuses: must be a table, such as 503 = " in orgs_refusal(tmp_path, f"[a]\nstatuses = {value}\n")
    for wrong in (value, "throttled", "{"):
        with pytest.raises(ConfigError, match="BADGES_STATUSES"):
            load(monkeypatch, STATUSES=wrong)


# -- the environment


@pytest.mark.parametrize(("name", "value", "read"), CONTRACT, ids=[name for name, _, _ in CONTRACT])
def test_every_setting_of_the_contract_is_read(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, read: object
) -> None:
    """Each BADGES_ variable that other programs rely on changes its setting, and is a known one."""
    assert getattr(load(monkeypatch, **{name: value}), name.lower()) == read
    assert unknown_settings({f"BADGES_{name}": value}) == []


def test_the_contract_has_every_setting() -> None:
    """One that is added is added to it as well; meanings have variables, and tests, of their own."""
    fields = {name.upper() for name in Settings.model_fields}
    assert {name for name, _, _ in CONTRACT} == fields - {"NAME", "STATUSES", "CODES"}, "add it to CONTRACT"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_bounded_setting_says_what_it_must_be(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A number says what it counts, a text that has a form shows one."""
    bounds = Settings.model_fields[name].metadata
    if any(getattr(bound, "pattern", None) for bound in bounds):
        said = refusal(monkeypatch, **{name.upper(): "no such \u20ac"})
        assert f"BADGES_{name.upper()}: must be" in said, "say its form in _FORMS of worker/config.py"
    elif bounds:
        said = refusal(monkeypatch, **{name.upper(): "x"})
        assert " number of " in said, "say its unit in _UNITS of worker/config.py, or in its name (_s, _days)"


def test_defaults_are_the_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any setting the program runs, embedded, at 100 requests a minute; empty means not set."""
    empty = {name: "" for name, _, _ in CONTRACT}
    for settings in (Settings.load(), load(monkeypatch, **empty)):
        assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS


def test_the_environment_cannot_rename_the_default_org(monkeypatch: pytest.MonkeyPatch) -> None:
    """BADGES_NAME is no setting: the org of the environment is the one called default."""
    settings = load(monkeypatch, NAME="other")
    assert settings.name == settings.org("default").name == "default"
    assert len(unknown_settings({"BADGES_NAME": "other"})) == 1


def test_no_file_is_read_that_no_setting_names(tmp_path: Path) -> None:
    """A .env that happens to lie there is not ours."""
    (tmp_path / ".env").write_text("BADGES_BATCH_SIZE=3\n")
    assert Settings.load().batch_size == 100


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("API_METHOD", "PATCH", "must be PUT or POST"),
        ("API_PATH", "no/slash", "must be a path that begins with /"),
        ("API_PATH", "/with blank", "and holds no spaces"),
        ("AUTH", "digest", "must be none, basic or oauth"),
        ("RATE_LIMIT", "fast", "is no limit; write 100/minute"),
        ("BATCH_SIZE", "0", "must be a whole number of jobs from 1 to 1000"),
        ("BATCH_SIZE", "many", "must be a whole number of jobs from 1 to 1000"),
        ("BATCH_SIZE", "1.5", "must be a whole number of jobs from 1 to 1000"),
        ("BATCH_LINGER_S", "-1", "must be a number of seconds from 0 to 3600"),
        ("BATCH_LINGER_S", "nan", "must be a number of seconds from 0 to 3600"),
        ("MAX_IN_FLIGHT", "0", "from 1 to 1000"),
        ("MAX_QUEUED", "999", "from 1000 to 1000000000000"),
        ("HTTP_TIMEOUT_S", "0", "must be a number of seconds above 0, at most 600"),
        ("HTTP_TIMEOUT_S", "inf", "must be a number of seconds above 0, at most 600"),
        ("MAX_ATTEMPTS", "0", "from 1 to 1000"),
        ("RETRY_BASE_S", "0", "above 0, at most 3600"),
        ("RETRY_MAX_S", "nan", "above 0, at most 86400"),
        ("IN_DOUBT", "guess", "must be park, check, same_request or resend"),
        ("RESULT_TTL_DAYS", "inf", "above 0, at most 36500"),
        ("RESULT_TTL_DAYS", "0", "above 0, at most 36500"),
        ("EPOCH_UNIT", "us", "must be s, ms or as_given"),
        ("STRICT_DATES", "perhaps", "must be true or false"),
        ("LOG_FORMAT", "xml", "must be json or console"),
        ("LOG_LEVEL", "loud", "must be debug, info, warning or error"),
        ("BASIC_TOKEN", "line\nbreak", "must be the Basic token alone"),
        ("BASIC_TOKEN", "é", "must be the Basic token alone"),
    ],
)
def test_a_wrong_value_is_refused_by_the_settings_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    """An error names the variable as it was written, what it may be, and doesn't hide another."""
    assert re.fullmatch(f"BADGES_{name}: .*{re.escape(words)}.*", refusal(monkeypatch, **{name: value}))
    both = refusal(monkeypatch, **{name: value}, API_BASE_URL="nonsense")
    assert f"BADGES_{name}: " in both
    assert "BADGES_API_BASE_URL: " in both


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("BADGES_RATELIMIT", "BADGES_RATE_LIMIT"),
        ("BADGES_BATCHSIZE", "BADGES_BATCH_SIZE"),
        ("BADGES_XYZZY", ""),
    ],
)
def test_an_unknown_variable_is_reported_with_what_was_meant(written: str, meant: str) -> None:
    """A misspelt variable changes nothing, so somebody must say so."""
    (said,) = unknown_settings({written: "1", "PATH": "/bin", "BADGES_BATCH_SIZE": "5", "RATE_LIMIT": "1"})
    assert said == f"{written} is no setting" + (f"; did you mean {meant}?" if meant else "")


# -- the vendor's URL


@pytest.mark.parametrize(
    "url",
    [
        "https://eu.api.capillarytech.com",
        "https://eu.api.capillarytech.com:8443/prefix",
        "http://127.0.0.1:8080",
        "http://127.8.9.10",
        "http://localhost:1",
        "http://LOCALHOST",
        "http://[::1]:8080",
    ],
)
def test_a_safe_base_url_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Credentials travel over https, or stay on this machine."""
    assert load(monkeypatch, API_BASE_URL=url + "/").api_base_url == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://eu.api.capillarytech.com", "must be https://"),
        ("http://localhost.example.com", "must be https://"),
        ("http://127.0.0.1.example.com", "must be https://"),
        ("http://10.0.0.1", "must be https://"),
        ("http://0.0.0.0", "must be https://"),
        ("http://[::2]", "must be https://"),
        (f"https://user:{MARKER}@host", "must not hold credentials; use BADGES_BASIC_USERNAME"),
        (f"https://{MARKER}@host", "must not hold credentials"),
        (f"https://:{MARKER}@host", "must not hold credentials"),
        (f"https://host?token={MARKER}", "without ? and #"),
        (f"https://host#{MARKER}", "without ? and #"),
        ("ftp://host", "must be a URL such as"),
        ("eu.api.capillarytech.com", "must be a URL such as"),
        ("https://", "must be a URL such as"),
        (f"https://user:{MARKER}@[::1", "must be a URL such as"),
        (f"https://{MARKER}\u2100@host", "must be a URL such as"),
        ("https://host:port", "must be a URL such as"),
        ("https://host:99999", "must be a URL such as"),
        ("https://ho st", "must be a URL such as"),
        ("https://host\n", "must be a URL such as"),
    ],
)
def test_an_unsafe_base_url_is_refused(monkeypatch: pytest.MonkeyPatch, url: str, words: str) -> None:
    """Plain http, credentials and what is no host's URL are refused, without quoting the URL."""
    said = refusal(monkeypatch, API_BASE_URL=url)
    assert said.startswith("BADGES_API_BASE_URL: ")
    assert words in said
    assert MARKER not in said


# -- credentials


@pytest.mark.parametrize("password", ["hunter2", "", "päss wörd", "a" * 500, "with:colon"])
def test_the_basic_header_is_the_vendors(password: str) -> None:
    """doc: base64(username:md5hex(password)); the setting is the plain password."""
    org = Org(basic_username="till.01", basic_password=SecretStr(password))
    kind, _, token = org.basic_header.partition(" ")
    digest = hashlib.md5(password.encode(), usedforsecurity=False).hexdigest()
    assert kind == "Basic"
    assert b64decode(token).decode() == f"till.01:{digest}"


def test_a_password_that_is_no_utf8_is_hashed_byte_for_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an environment holds need not be text; the vendor's hash is of bytes."""
    password = os.fsdecode(b"caf\xe9")
    settings = load(monkeypatch, AUTH="basic", BASIC_USERNAME="till", BASIC_PASSWORD=password)
    digest = hashlib.md5(b"caf\xe9", usedforsecurity=False).hexdigest()
    assert b64decode(settings.basic_header[6:]).decode() == f"till:{digest}"


@pytest.mark.parametrize("written", ["dGlsbDpoYXNo", "Basic dGlsbDpoYXNo", " dGlsbDpoYXNo\n"])
def test_a_ready_token_is_sent_as_it_is(written: str) -> None:
    """A token wins over username and password, and may be pasted with the word before it."""
    org = Org(
        auth="basic", basic_token=SecretStr(written), basic_username="till", basic_password=SecretStr("p")
    )
    assert org.basic_header == "Basic dGlsbDpoYXNo"


@pytest.mark.parametrize(
    ("given_", "needed"),
    [
        ({"AUTH": "basic"}, "BADGES_BASIC_USERNAME and BADGES_BASIC_PASSWORD, or BADGES_BASIC_TOKEN"),
        ({"AUTH": "basic", "BASIC_USERNAME": "till"}, "BADGES_BASIC_PASSWORD"),
        ({"AUTH": "basic", "BASIC_PASSWORD": MARKER}, "BADGES_BASIC_USERNAME"),
        ({"AUTH": "oauth"}, "BADGES_OAUTH_KEY and BADGES_OAUTH_SECRET"),
        ({"AUTH": "oauth", "OAUTH_KEY": MARKER}, "BADGES_OAUTH_SECRET"),
    ],
)
def test_half_credentials_are_refused(
    monkeypatch: pytest.MonkeyPatch, given_: dict[str, str], needed: str
) -> None:
    """A way to log in without all that it takes is told at start, in the names of the environment."""
    said = refusal(monkeypatch, **given_)
    assert said.startswith(f"BADGES_AUTH={given_['AUTH']} needs ")
    assert needed in said
    assert MARKER not in said


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_be_given_by_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """BADGES_X_FILE is BADGES_X read from a file, its line end stripped; the variable itself wins."""
    path = tmp_path / "secret"
    path.write_text(f"{MARKER}\n")
    variable = f"{name.upper()}_FILE"
    assert getattr(load(monkeypatch, **{variable: str(path)}), name).get_secret_value() == MARKER
    assert unknown_settings({f"BADGES_{variable}": "x"}) == []
    found = load(monkeypatch, **{name.upper(): "direct"})
    assert getattr(found, name).get_secret_value() == "direct"
    if name in Org.model_fields:
        assert getattr(found.org("default"), name).get_secret_value() == "direct"


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\ufeff \r\n", "is empty"),  # a Redis of the environment's own isn't the embedded one
        (f"{MARKER}\r\nmore\r\n", "has more than one line: it must hold the secret alone"),
        (f"{MARKER}\u200b\n", "can't be used: it holds an invisible character (U+200B)"),
        (f"{MARKER}\0x", "can't be used: it holds a control character"),
    ],
)
def test_a_secret_file_without_one_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: str, words: str
) -> None:
    """Rather than that another server, or another password, is taken than was meant."""
    path = tmp_path / "secret"
    path.write_bytes(content.encode())
    said = refusal(monkeypatch, **{f"{name.upper()}_FILE": str(path)})
    assert said == f"BADGES_{name.upper()}_FILE: {path} {words}"


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("content", [None, b"\xff\xfe" + MARKER.encode()], ids=["missing", "no text"])
def test_a_secret_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: bytes | None
) -> None:
    """The error names variable and path, never what is in the file."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    said = refusal(monkeypatch, **{f"{name.upper()}_FILE": str(path)})
    assert said.startswith(f"BADGES_{name.upper()}_FILE: {path} can't be read: ")
    assert MARKER not in said


def representations(model: Org) -> Iterator[str]:
    """Show an org in every way that a log, a report or a debugger might."""
    yield from (repr(model), str(model), f"{model}", model.model_dump_json(), str(model.model_dump()))
    yield repr(vars(model))
    yield repr(model.model_copy())
    yield str(list(model))


def test_no_representation_shows_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With every credential set to one marker, nothing that shows settings or orgs holds it."""
    table = "".join(f'{name} = "{MARKER}"\n' for name in SECRETS if name in Org.model_fields)
    (tmp_path / "orgs.toml").write_text(f'[other]\nauth = "oauth"\n{table}')
    settings = load(
        monkeypatch,
        **{name.upper(): MARKER for name in SECRETS},
        AUTH="oauth",
        ORGS_FILE=str(tmp_path / "orgs.toml"),
    )
    for model in (settings, *settings.orgs().values()):
        assert model.oauth_secret
        assert model.oauth_secret.get_secret_value() == MARKER
        assert not [shown for shown in representations(model) if MARKER in shown]


@pytest.mark.parametrize("wrong", sorted({name for name, _, _ in CONTRACT} - {"RATE_LIMIT", "BASIC_TOKEN"}))
@pytest.mark.parametrize("value", ["", "x", "-1", "http://h"], ids=["empty", "x", "minus", "url"])
def test_no_error_shows_a_secret(monkeypatch: pytest.MonkeyPatch, wrong: str, value: str) -> None:
    """With every credential set to the marker, or what was meant as one, no error holds it."""
    secret = {name.upper(): MARKER for name in SECRETS} | {"BASIC_TOKEN": f"{MARKER} {MARKER}"}
    assert MARKER not in refusal(monkeypatch, **(secret | {wrong: value + MARKER}))
    with pytest.raises(ValidationError) as raw:
        Settings()
    assert MARKER not in str(raw.value) + repr(raw.value)


@given(
    st.sampled_from(sorted(set(Org.model_fields) - {"rate_limit", "name"})),
    st.integers() | st.text(max_size=9),
)
def test_no_orgs_error_shows_a_secret(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    """In a table as well: whatever else is wrong with it, its credentials stay out of the error."""
    values = {secret: MARKER for secret in SECRETS if secret in Org.model_fields}
    with pytest.raises(ValidationError) as raw:
        Org.model_validate(
            values | {"basic_token": f"{MARKER}\n{MARKER}", "unheard_of": MARKER} | {name: value}
        )
    assert MARKER not in str(raw.value)
    path = tmp_path_factory.mktemp("orgs") / "orgs.toml"
    lines = [f'{secret} = ["{MARKER}"]\n' for secret in values]
    path.write_text(f"[a]\n{''.join(lines)}unheard_of = '{MARKER}'\n")
    with pytest.raises(ConfigError) as caught:
        Settings.load(orgs_file=path).orgs()
    assert MARKER not in str(caught.value)


# -- limits


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("100/minute", [(100, 60)]),
        ("100/minute,5/second", [(5, 1), (100, 60)]),
        (" 100 / Minutes , 5/SECOND ", [(5, 1), (100, 60)]),
        ("1/day,2/hours,3/minute", [(3, 60), (2, 3600), (1, 86400)]),
        ("1/second,2/second", [(1, 1), (2, 1)]),
    ],
)
def test_limits_are_read(text: str, limits: list[tuple[int, int]]) -> None:
    """Several limits hold at once, shortest window first, however they are spelt."""
    assert parse_limits(text) == tuple(Limit(*limit) for limit in limits)
    assert Org(rate_limit=text).limits == parse_limits(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0/minute",
        "-1/minute",
        "100",
        "100/",
        "/minute",
        "1.5/second",
        "100/fortnight",
        "100 per minute",
        "100/minute,",
        "100/minute;5/second",
        "\u0661\u0660/minute",
        "9" * 5000 + "/minute",
    ],
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    """A limit that isn't understood is never taken for none; the error shows how to write it."""
    with pytest.raises(ValueError, match="100/minute"):
        parse_limits(text)
    with pytest.raises(ConfigError, match=r"BADGES_RATE_LIMIT: .*is no limit; write 100/minute"):
        Settings.load(rate_limit=text)


@given(
    st.lists(
        st.tuples(st.integers(1, 10**6), st.sampled_from(["second", "minute", "hour", "day"])), min_size=1
    )
)
def test_any_limits_come_back_sorted(parts: list[tuple[int, str]]) -> None:
    """No limit is lost, whatever their number and order."""
    limits = parse_limits(", ".join(f"{count}/{window}" for count, window in parts))
    assert sorted(limit.count for limit in limits) == sorted(count for count, _ in parts)
    windows = [limit.window_s for limit in limits]
    assert windows == sorted(windows)


# -- the file of orgs


def test_each_table_is_an_org(tmp_path: Path) -> None:
    """ORGS_FILE has a table per org, with the settings' names in lower case."""
    secret = tmp_path / "secret"
    secret.write_text("from a file\n")
    orgs = orgs_of(
        tmp_path,
        f"""
        [brand-a]
        api_base_url = "https://apac.api.capillarytech.com/"
        auth = "BASIC"
        basic_username = "till"
        basic_password_file = "{secret}"
        rate_limit = "10/second"
        batch_size = 7
        ["b.2"]
        in_doubt = "resend"
        """,
    )
    assert sorted(orgs) == ["b.2", "brand-a", "default"]
    assert all(org.name == name for name, org in orgs.items())
    a = orgs["brand-a"]
    assert (a.api_base_url, a.auth, a.batch_size) == ("https://apac.api.capillarytech.com", "basic", 7)
    assert a.basic_password == SecretStr("from a file")
    assert (orgs["b.2"].in_doubt, orgs["b.2"].batch_size) == ("resend", 100)


def test_a_table_inherits_nothing_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One org's credentials and limits are never another's by accident."""
    (tmp_path / "orgs.toml").write_text("[a]\n")
    variables = {name: value for name, value, _ in CONTRACT if name not in {"ORGS_FILE", "AUTH"}}
    settings = load(monkeypatch, **variables, AUTH="oauth", ORGS_FILE=str(tmp_path / "orgs.toml"))
    assert settings.org("a") == Org(name="a")
    assert settings.org("default").oauth_key == SecretStr("key")
    assert set(settings.org("a").model_dump()) == set(Org.model_fields)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = 1", "'a' must be a table, [a]"),
        ("[[a]]\n", "'a' must be a table"),
        ("[a]\nbatchsize = 5", "[a]: batchsize: is no setting of an org; did you mean batch_size?"),
        ("[a]\nBATCH_SIZE = 5", "BATCH_SIZE: is no setting of an org"),
        ("[a]\nredis_url = 'redis://h'", "redis_url: is no setting of an org"),
        ("[a]\nredis_url_file = '/etc/passwd'", "redis_url_file: is no setting of an org"),
        ("[a]\nname = 'b'", "[a]: name: is no setting"),
        ("[a]\nbatch_size = 0", "[a]: batch_size: must be a whole number of jobs from 1 to 1000"),
        ("[a]\nbatch_linger_s = nan", "[a]: batch_linger_s: "),
        ("[a]\nrate_limit = 100", "[a]: rate_limit: must be text"),
        ("[a]\nrate_limit = '100/x'", "rate_limit: '100/x' is no limit"),
        ("[a]\napi_base_url = 'http://h'", "api_base_url: must be https"),
        ("[a]\nauth = 'basic'", "[a]: auth=basic needs basic_username and basic_password, or basic_token"),
        ("[a]\nbasic_password_file = '/nowhere'", "[a]: basic_password_file: /nowhere can't be read"),
        ("[a]\nbasic_password_file = 5", "[a]: basic_password_file must be the path of a file"),
        ("[a]\nbasic_password_file = '\\u0000'", "basic_password_file: "),
        ('[a]\nbasic_password_file = "\\u0000"', "basic_password_file: "),
        ("[A]\n", "an org's name is 1 to 32 of a-z 0-9 . _ -"),
        ("['a b']\n", "an org's name is"),
        ("['{a}']\n", "an org's name is"),
        ("[" + "a" * 33 + "]\n", "an org's name is"),
        (f"[a]\nbasic_password = {MARKER}\n", "can't be read: Invalid value"),
        ("[a]\n[a]\n", "can't be read: "),
    ],
)
def test_a_wrong_table_is_refused_by_its_name(tmp_path: Path, text: str, words: str) -> None:
    """An error in the file names the file, the table and the setting, as they are written there."""
    said = orgs_refusal(tmp_path, text)
    assert words in said
    assert "BADGES_" not in said.removeprefix("BADGES_ORGS_FILE")
    assert MARKER not in said


@pytest.mark.parametrize("content", [None, b"\xff\xfe[a]"], ids=["missing", "no text"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    """A file that isn't there, or is no text, is an error of that setting."""
    path = tmp_path / "orgs.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(f"BADGES_ORGS_FILE {path} can't be read")):
        Settings.load(orgs_file=path).orgs()


def test_an_unknown_org_is_named_beside_those_there_are(tmp_path: Path) -> None:
    """Who mistypes an org sees which there are."""
    path = tmp_path / "orgs.toml"
    path.write_text("[zeta]\n[alpha]\n")
    with pytest.raises(ConfigError, match="there is no org 'beta'; configured: alpha, default, zeta"):
        Settings.load(orgs_file=path).org("beta")


@pytest.mark.parametrize("change", [{"batch_size": 5}, {"basic_token": SecretStr("x")}])
def test_settings_do_not_change(change: dict[str, Any]) -> None:
    """What was checked at start can't be changed behind the check's back."""
    org = Org()
    for name, value in change.items():
        with pytest.raises(ValidationError):
            setattr(org, name, value)


def test_a_changed_file_of_orgs_or_secrets_is_read_anew(tmp_path: Path) -> None:
    """Without a restart; one that didn't change isn't read again."""
    orgs, secret = tmp_path / "orgs.toml", tmp_path / "secret"
    orgs.write_text(f'[a]\nbasic_token_file = "{secret}"\nauth = "basic"\n')
    secret.write_text("first")
    settings = Settings(orgs_file=orgs)
    before = settings.orgs()["a"]
    assert before.basic_header == "Basic first"
    assert settings.orgs()["a"] is before
    secret.write_text("another")
    assert settings.orgs()["a"].basic_header == "Basic another"
    orgs.write_text(orgs.read_text() + "[b]\n")
    assert set(settings.orgs()) == {"default", "a", "b"}
    orgs.write_text("[b]\n")
    assert set(settings.orgs()) == {"default", "b"}


def test_a_secret_of_the_default_org_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``BADGES_*_FILE`` name may be mended while the program runs."""
    secret = tmp_path / "secret"
    secret.write_text("first")
    monkeypatch.setenv("BADGES_BASIC_TOKEN_FILE", str(secret))
    settings = Settings.load(auth="basic")
    secret.write_text("another")
    assert settings.orgs()["default"].basic_header == "Basic another"


def test_a_byte_order_mark_is_no_part_of_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some editors write one, or two: it would be part of a password, and an ORGS_FILE would be refused."""
    secret, orgs = tmp_path / "secret", tmp_path / "orgs.toml"
    secret.write_text("\ufeff\ufeffpass\n", encoding="utf-8")
    orgs.write_text(
        f'\ufeff[acme]\napi_base_url = "https://a.example"\nbasic_username = "u"\n'
        f'basic_password_file = "{secret}"\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("BADGES_ORGS_FILE", str(orgs))
    password = Settings.load().orgs()["acme"].basic_password
    assert password
    assert password.get_secret_value() == "pass"
    monkeypatch.setenv("BADGES_ORGS_FILE", str(tmp_path / "utf16.toml"))
    (tmp_path / "utf16.toml").write_bytes("[acme]".encode("utf-16"))
    with pytest.raises(ConfigError, match=r"can't be read: it is no UTF-8 text$"):
        Settings.load().orgs()


def test_an_org_is_described_in_one_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A table [default] beside what the environment says of that org is refused; by itself it is taken."""
    (file := tmp_path / "orgs.toml").write_text('[default]\nrate_limit = "77/minute"\n')
    assert str(load(monkeypatch, ORGS_FILE=str(file)).org("default").limits[0]).startswith("77")
    with pytest.raises(ConfigError, match=r"has a table \[default\], and BADGES_BATCH_SIZE is given as well"):
        load(monkeypatch, ORGS_FILE=str(file), BATCH_SIZE="7").orgs()
