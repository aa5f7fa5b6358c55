"""A profile reads a file as it was read before, or says why not; it changes no badge silently."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import workbooks
from hypothesis import given
from hypothesis import strategies as st
from support import BADGE, LONG, Outcome, badges_json, environment, in_process
from terminal import terminal

from worker.errors import ConfigError
from worker.files.columns import FIELDS, fixed_fields
from worker.operate.profiles import Profile, Profiles, from_toml
from worker.server.connection import Connection
from worker.store.queue import Queue

HEADER = "Customer No;Who;When"
LINE = "555567088;Ann;2025-09-10T15:00:00+05:30"
MAPPED = ["--map", "Customer No=customerId", "--map", "Who=", "--map", "When=earnEventDateISO"]
MAPPED += ["--set", f"badgeMetaId={BADGE}"]


class Here:
    """The command with a folder and a database of its own."""

    def __init__(self, folder: Path, env: dict[str, str], client: redis.Redis) -> None:
        self.folder, self.env, self.client = folder, env, client

    def file(self, *lines: str, name: str = "members.csv") -> Path:
        """Write a file."""
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def run(self, *arguments: object) -> Outcome:
        """Run a command."""
        return in_process(*arguments, env=self.env)

    def took(self, *arguments: object) -> tuple[int, int, int]:
        """Import, and return how many rows were accepted, duplicates and invalid."""
        said = badges_json("import", *arguments, env=self.env)
        return said["accepted"], said["duplicates"], said["invalid"]

    def saved(self) -> Path:
        """Import a file, and keep how it was read."""
        path = self.file(HEADER, LINE)
        assert self.took(path, *MAPPED, "--save-profile", "members", "--run", "first") == (1, 0, 0)
        return path


@pytest.fixture
def here(empty: Connection, client: redis.Redis, tmp_path: Path) -> Here:
    """Give the command, and an empty Redis."""
    return Here(tmp_path, environment(redis_url=empty.url), client)


def test_a_file_is_read_as_before(here: Here) -> None:
    """Columns in another order or with others beside them, names in another case: the same badges, once."""
    path = here.saved()
    assert here.took(path, "--profile", "members") == (0, 1, 0)
    moved = here.file("WHEN,extra,customer_no,Who", "2025-09-10T15:00:00+05:30,x,555567088,Ann")
    said = badges_json("import", moved, "--profile", "members", env=here.env)
    assert (said["accepted"], said["duplicates"]) == (0, 1)
    reasons = [warning["reason"] for warning in said["warnings"]]
    assert "the column “extra” isn't in the profile, and isn't read" in reasons
    book = workbooks.saved([["Members of 2025"], [], ["Who", "When", "Customer No"]])
    book["Members"].append(["Ann", "2025-09-10T15:00:00+05:30", 555567088])
    book.save(here.folder / "book.xlsx")
    assert here.took(here.folder / "book.xlsx", "--profile", "members") == (0, 1, 0)


def test_a_column_without_a_name_is_left_out_by_a_profile_too(here: Here, tmp_path: Path) -> None:
    """Once a person has said so: kept, written as a file, and taken from it."""
    file = here.file(",badgeMetaId,customerId", f"0,{BADGE},1", name="pandas.csv")
    here.run("import", file, "--map", "=", "--save-profile", "pandas")
    assert here.took(file, "--profile", "pandas")[1] == 1
    written = here.run("profiles", "export", "pandas", "--output", tmp_path / "p.toml")
    assert written.status == 0
    profile = from_toml((tmp_path / "p.toml").read_text(), "p.toml")
    assert (profile.columns[""], profile.options()) == ("", ["--map ="])


def test_a_column_that_is_missing_or_new_is_no_guess(here: Here) -> None:
    """A missing one refuses, and may be renamed by option; a new one that names a field refuses as well."""
    here.saved()
    renamed = here.file("Who;When;Customer number", "Ann;2025-09-10T15:00:00+05:30;555567088")
    refused = here.run("import", renamed, "--profile", "members")
    assert refused.status == 1
    assert "has no column “Customer No”, which its profile expects" in refused.err
    assert here.took(renamed, "--profile", "members", "--map", "Customer number=customerId") == (0, 1, 0)
    more = here.file(f"{HEADER};earnExpiresOn", f"{LINE};1767225600")
    refused = here.run("import", more, "--profile", "members")
    assert refused.status == 1
    assert "a column “earnExpiresOn” that its profile doesn't know, though it names a field" in refused.err
    assert "--map earnExpiresOn=" not in refused.err
    assert here.took(more, "--profile", "members", "--map", "earnExpiresOn=earnExpiresOn") == (1, 0, 0)
    no_customer = here.file("Who;When", "Ann;2025-09-10T15:00:00+05:30")
    assert here.run("import", no_customer, "--profile", "members", "--dry-run").status == 1


def test_a_new_column_of_dates_is_never_left_out_by_chance(here: Here) -> None:
    """The profile maps no expiry: a column that could be it has to be mapped, or said not to be."""
    here.saved()
    dated = here.file(f"{HEADER};Until", f"{LINE};2027-01-01")
    refused = here.run("import", dated, "--profile", "members")
    assert refused.status == 2
    assert "“Until” looks like a date" in refused.err


def test_a_profile_that_changed_is_never_taken_silently(here: Here) -> None:
    """What may count as another badge has to be allowed: when a profile is replaced, and when used."""
    path = here.saved()
    exported = here.folder / "members.toml"
    assert here.run("profiles", "export", "members", "-o", exported).status == 0
    assert here.run("profiles", "load", exported).status == 0  # the same again
    changed = here.file(exported.read_text().replace("earnEventDateISO", "earnExpiresOnISO"), name="c.toml")
    refused = here.run("profiles", "load", changed)
    assert refused.status == 2
    assert "may count as another badge from then on, and be issued again" in refused.err
    assert here.took(path, "--profile", "members") == (0, 1, 0)
    assert badges_json("profiles", "load", changed, "--yes", env=here.env)["changed"] is True
    refused = here.run("import", path, "--profile", "members")
    assert refused.status == 2
    assert "was changed by" in refused.err
    assert "may count as another badge now" in refused.err
    checked = here.run("import", path, "--profile", "members", "--dry-run")
    assert (checked.status, "was changed since it was last used" in checked.err) == (0, True)
    assert here.run("profiles", "load", exported, "--yes").status == 0  # as it was used
    assert here.took(path, "--profile", "members") == (0, 1, 0)
    again = here.run("import", path, *MAPPED, "--save-profile", "members")
    assert again.status == 2
    assert "would be replaced" in again.err
    assert here.run("profiles", "load", changed, "--yes").status == 0
    assert here.took(path, "--profile", "members", *MAPPED, "--yes") == (0, 1, 0)  # read as it was before
    assert here.run("import", path, "--profile", "members").status == 2
    assert here.took(path, "--profile", "members", "--yes") == (1, 0, 0)
    assert here.took(path, "--profile", "members") == (0, 1, 0)  # it is what it is now
    looked = here.run("profiles", "load", exported, "--dry-run")
    assert (looked.status, "would be replaced" in looked.err, "made by" in looked.out) == (0, True, False)


def test_a_removed_profile_is_not_replaced_silently_either(here: Here) -> None:
    """One of the same name asks first, if it makes other badges than the one that was used."""
    path = here.saved()
    exported = here.run("profiles", "export", "members").out
    same = here.file(exported, name="same.toml")
    changed = here.file(exported.replace("earnEventDateISO", "earnExpiresOnISO"), name="changed.toml")
    assert here.run("profiles", "remove", "members").status == 0
    assert badges_json("profiles", "list", env=here.env) == []
    assert here.run("profiles", "remove", "members").status == 1
    assert here.run("profiles", "load", changed).status == 0
    refused = here.run("import", path, "--profile", "members")
    assert (refused.status, "may count as another badge now" in refused.err) == (2, True)
    assert here.run("profiles", "remove", "members").status == 0
    assert here.run("profiles", "load", same).status == 0
    assert here.took(path, "--profile", "members") == (0, 1, 0)


def test_a_profile_that_changes_during_an_import_stays_as_it_was_changed(here: Here) -> None:
    """The import notes what it used, and takes nothing back; one that was removed stays so."""
    here.saved()
    profiles = Profiles(Queue(here.client), "default")
    used = profiles.named("members")
    profiles.save(replace(used, timezone="Asia/Tokyo"), "somebody")
    profiles.note_use(used)
    assert profiles.named("members").timezone == "Asia/Tokyo"
    assert profiles.named("members").is_changed
    profiles.remove("members", "somebody")
    profiles.note_use(used)
    assert profiles.all() == []


@LONG
def test_an_org_has_room_for_so_many_profiles(here: Here) -> None:
    """Those that were removed take none of it, and are forgotten in the end."""
    profiles = Profiles(Queue(here.client), "default")
    for n in range(105):
        made = Profile(f"p{n}", {"A": "customerId"})
        profiles.save(made, "somebody")
        profiles.note_use(made)
        profiles.remove(made.name, "somebody")
    assert here.client.hlen("{badges:default}/profiles") == 100
    for n in range(100):
        profiles.save(Profile(f"q{n}", {"A": "customerId"}), "somebody")
    with pytest.raises(ConfigError, match=r"may have 100 profiles: remove one first$"):
        profiles.save(Profile("more", {"A": "customerId"}), "somebody")


def test_zone_and_format_are_kept(here: Here) -> None:
    """What a file's dates are written in is shown, exported and applied; an option goes before it."""
    german = here.file(HEADER, "7;Ann;10.09.2025 15:00", name="german.csv")
    maps, dates = MAPPED, ["--date-format", "DD.MM.YYYY HH:mm", "--timezone", "+02:00"]
    assert here.took(german, *maps, *dates, "--save-profile", "members", "--run", "first") == (1, 0, 0)
    assert here.took(german, "--profile", "members") == (0, 1, 0)
    row = badges_json("profiles", "show", "members", env=here.env)
    assert (row["date_format"], row["timezone"]) == ("DD.MM.YYYY HH:mm", "+02:00")
    assert "as DD.MM.YYYY HH:mm in +02:00" in here.run("profiles", "show", "members").out
    checked = badges_json("import", german, "--profile", "members", "--dry-run", env=here.env)
    assert (checked["good"], checked["duplicates"]["before"]) == (1, 1)
    assert here.took(german, "--profile", "members", "--timezone", "+03:00", "--run", "moved") == (1, 0, 0)
    assert "--date-format 'DD.MM.YYYY HH:mm' --timezone +03:00" in here.run("run", "show", "moved").out
    american = here.file(HEADER, "7;Ann;09/10/2025 15:00", name="american.csv")
    other = ["--date-format", "MM/DD/YYYY HH:mm"]
    assert here.took(american, "--profile", "members", *other) == (0, 1, 0)
    exported = here.run("profiles", "export", "members").out
    assert 'date_format = "DD.MM.YYYY HH:mm"\ntimezone = "+02:00"' in exported
    changed = here.file(exported.replace("+02:00", "Asia/Tokyo"), name="tokyo.toml")
    assert here.run("profiles", "load", changed).status == 2
    assert badges_json("profiles", "load", changed, "--yes", env=here.env)["changed"] is True
    assert "was changed by" in here.run("import", german, "--profile", "members").err
    assert here.took(german, "--profile", "members", "--yes") == (1, 0, 0)


def test_who_made_it_and_when_it_was_used_is_known(here: Here) -> None:
    """In the listing, and with its mark in the provenance of a run that it read."""
    path = here.saved()
    (row,) = badges_json("profiles", "list", env=here.env)
    assert (row["date_format"], row["timezone"]) == (None, None)
    assert row["columns"] == {"Customer No": "customerId", "Who": "", "When": "earnEventDateISO"}
    assert row["set"] == {"badgeMetaId": BADGE}
    assert row["made_by"]
    assert row["made_at"] <= row["last_used_at"]
    assert here.took(path, "--profile", "members", "--run", "second") == (0, 1, 0)
    assert badges_json("profiles", "show", "members", env=here.env)["last_used_at"] > row["last_used_at"]
    other = here.file(HEADER, LINE.replace("88", "89"))
    assert here.took(other, "--profile", "members", "--run", "third") == (1, 0, 0)
    shown = here.run("run", "show", "third").out
    assert f"profile members ({row['mark']}): --map 'Customer No=customerId'" in shown
    assert "made by" in here.run("profiles", "show", "members").out
    assert here.run("profiles", "remove", "members").status == 0
    gone = here.run("import", path, "--profile", "members")
    assert gone.status == 1
    assert "has no profile “members”; it has none yet" in gone.err


def test_without_a_terminal_a_profile_is_named_and_not_taken(here: Here) -> None:
    """Only where its columns are the file's, and never with options of one's own."""
    path = here.saved()
    hinted = here.run("import", path)
    assert hinted.status == 1
    assert "profile members was made for these columns: --profile members takes it" in hinted.err
    assert "members takes it" not in here.run("import", path, "--no-profile").err
    more = here.file(f"{HEADER};More", f"{LINE};x")
    assert "members takes it" not in here.run("import", more).err
    assert here.run("import", path, "--no-profile", "--profile", "members").status == 2
    assert here.run("import", path, *MAPPED, "--dry-run", "--save-profile", "x").status == 2
    assert here.run("import", path, *MAPPED, "--save-profile", "no name").status == 2


def at_terminal(here: Here, *arguments: object, answers: list[tuple[str, str]]) -> tuple[int, str]:
    """Run a command at a terminal, with an answer to each question; return how it ended, and what it said."""
    with terminal(*arguments, env=here.env) as screen:
        for question, answer in answers:
            screen.until(question)
            screen.type(answer)
        return screen.end(), screen.shown


def test_a_format_is_proposed_at_a_terminal(here: Here) -> None:
    """With samples, and taken if a person says so, with a zone that is asked for; elsewhere it is exit 2."""
    path = here.file("badgeMetaId,customerId,earnEventDate", f"{BADGE},7,31.12.2025", f"{BADGE},8,01.12.2025")
    assert here.run("import", path).status == 2
    question, zone = "Are they written as DD.MM.YYYY?", "In which time zone"
    status, shown = at_terminal(here, "import", path, answers=[(question, "n")])
    assert (status, "1 accepted" in shown) == (1, False)
    assert "earnEventDate has dates such as “31.12.2025”, “01.12.2025”" in shown
    status, shown = at_terminal(here, "import", path, answers=[(question, "y"), (zone, "Nowhere")])
    assert (status, "there is no time zone “Nowhere”" in shown) == (2, True)
    answers = [(question, "y"), (zone, "Europe/Berlin")]
    status, shown = at_terminal(here, "import", path, "--dry-run", answers=answers)
    assert (status, "2025-12-31T00:00:00+01:00" in shown) == (0, True)
    status, shown = at_terminal(here, "import", path, "--run", "asked", answers=answers)
    assert (status, "2 accepted" in shown) == (0, True)
    assert "--date-format DD.MM.YYYY --timezone Europe/Berlin" in here.run("run", "show", "asked").out
    both = here.file("badgeMetaId,customerId,earnEventDate", f"{BADGE},7,01/02/2025", name="both.csv")
    assert at_terminal(here, "import", both, answers=[])[0] == 2


def test_a_profile_is_proposed_at_a_terminal(here: Here) -> None:
    """It is shown, and taken if a person says so."""
    path = here.saved()
    question = "Read the file with this profile?"
    status, shown = at_terminal(here, "import", path, answers=[(question, "y")])
    assert (status, "1 duplicate" in shown, "profile members, mark" in shown) == (0, True, True)
    status, shown = at_terminal(here, "import", path, "--dry-run", answers=[(question, "y")])
    assert (status, "1 row is good" in shown) == (0, True)
    assert at_terminal(here, "import", path, "--no-profile", answers=[])[0] == 1


def test_a_workbook_with_dates_as_people_type_them_is_read_as_agreed(here: Here) -> None:
    """At a terminal: the zone of its dates is asked for and kept, and next month's workbook proposed so."""

    def written(name: str, *rows: list[Any]) -> Path:
        workbooks.saved([["Members of the month"], [], *rows]).save(here.folder / name)
        return here.folder / name

    day, zone = dt.datetime(2025, 12, 24, 18, 30), "In which time zone"  # noqa: DTZ001 - as cells are
    first = written("november.xlsx", ["Kunde", "Verliehen am"], [7001, day], ["Total", 1])
    mapped = ["--map", "Kunde=customerId", "--map", "Verliehen am=earnEventDateISO"]
    mapped += ["--set", f"badgeMetaId={BADGE}"]
    options = [first, *mapped, "--save-profile", "monthly", "--run", "nov"]
    status, shown = at_terminal(here, "import", *options, answers=[(zone, "Europe/Berlin")])
    assert (status, "1 accepted" in shown, "--profile monthly" in shown) == (0, True, True)
    again = written("december.xlsx", ["VERLIEHEN AM", "kunde"], [day, 7001], [day, 7002])
    question = "Read the file with this profile?"
    status, shown = at_terminal(here, "import", again, "--dry-run", answers=[(question, "y")])
    assert (status, "2025-12-24T18:30:00+01:00" in shown) == (0, True)
    status, shown = at_terminal(here, "import", again, "--run", "dec", answers=[(question, "y")])
    assert (status, "1 accepted" in shown, "1 duplicate" in shown) == (0, True, True)
    assert "profile monthly" in here.run("run", "show", "dec").out
    assert at_terminal(here, "import", again, answers=[(question, "n")])[0] != 0


def test_a_check_names_the_profile_that_fits(here: Here) -> None:
    """Where nobody can be asked, as an import does."""
    path = here.saved()
    hinted = here.run("import", path, "--dry-run")
    assert (hinted.status, "--profile members takes it" in hinted.err) == (1, True)
    assert "members takes it" not in here.run("import", path, "--dry-run", "--no-profile").err


def test_who_kept_or_removed_a_profile_is_in_the_audit_trail(here: Here) -> None:
    """By import, by load, and by remove; with its mark."""
    here.saved()
    (row,) = badges_json("profiles", "list", env=here.env)
    exported = here.file(here.run("profiles", "export", "members").out, name="members.toml")
    assert here.run("profiles", "load", exported).status == 0
    assert here.run("profiles", "remove", "members").status == 0
    entries = badges_json("audit", env=here.env)
    assert [(one["action"], one["which"], one["by"]) for one in entries] == [
        ("profile", {"profile": "members", what: row["mark"]}, row["made_by"])
        for what in ("removed", "saved_as", "saved_as")
    ]
    assert "members" in here.run("audit").out


def test_profiles_belong_to_an_org(here: Here) -> None:
    """Another org hasn't them, and gets them by export and load."""
    path = here.saved()
    orgs = here.file("[other]", 'api_base_url = "http://127.0.0.1:1"', name="orgs.toml")
    env = here.env | {"BADGES_ORGS_FILE": str(orgs)}
    assert in_process("import", path, "--org", "other", "--profile", "members", env=env).status == 1
    exported = in_process("profiles", "export", "members", env=env).out
    copy = here.file(exported, name="copy.toml")
    assert in_process("profiles", "load", copy, "--org", "other", env=env).status == 0
    assert in_process("import", path, "--org", "other", "--profile", "members", env=env).status == 0


def test_what_is_set_for_all_rows_has_no_column(here: Here) -> None:
    """A value that a row has itself is never overwritten, in a table and in JSON."""
    both = here.file("badgeMetaId,customerId", f"{BADGE},7")
    refused = here.run("import", both, "--set", f"badgeMetaId={BADGE}")
    assert refused.status == 1
    assert "a column badgeMetaId, which is set for all rows" in refused.err
    assert here.took(both, "--map", "badgeMetaId=", "--set", f"badgeMetaId={BADGE}") == (1, 0, 0)
    lines = here.file('{"customerId": 8}', f'{{"customerId": 9, "badgeMetaId": "{BADGE}"}}', name="a.jsonl")
    assert here.took(lines, "--set", f"badgeMetaId={BADGE}") == (1, 0, 1)
    for wrong in ("badgeMetaId", "badge=x", "job_id=x", "customerId="):
        assert here.run("import", both, "--set", wrong).status == 2
    bad = here.run("import", here.file("customerId", "7"), "--set", "badgeMetaId=two words", "--dry-run")
    assert bad.status == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = 1\n[columns]\na = ""', "must have a name"),
        ('name = "x"', "columns"),
        ('name = "x"\n[columns]\n', "1 to 500 columns"),
        ('name = "x y"\n[columns]\na = ""', "no name for a profile"),
        ('name = "x"\n[columns]\na = "nothing"', "there is no field"),
        ('name = "x"\n[columns]\na = 5', "table of texts"),
        ('name = "x"\nzone = "UTC"\n[columns]\na = ""', "“zone”"),
        ('name = "x"\n[columns]\na = ""\n[set]\njob_id = "1"', "every row can have"),
        ('name = "x"\ndate_format = 5\n[columns]\na = ""', "must be texts"),
        ('name = "x"\ndate_format = "DD"\n[columns]\na = ""', "is no format"),
        ('name = "x"\ndate_format = "DD.MM.YYYY"\n[columns]\na = ""', "has no zone"),
        ('name = "x"\ntimezone = "Europe/Berln"\n[columns]\na = ""', "did you mean Europe/Berlin"),
        ("[columns", "is no profile"),
        ("a" * 200_000, "longer than"),
    ],
)
def test_a_file_that_is_no_profile_says_why(text: str, words: str) -> None:
    """Nothing of it is taken."""
    with pytest.raises(ConfigError, match=words):
        from_toml(text, "x.toml")


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda it: it == it.strip() and "=" not in it and it.casefold() != "org"
)


@given(
    st.dictionaries(NAMES, st.just(""), min_size=1, max_size=4),
    st.sampled_from([{}, {"badgeMetaId": 'a"b\\c'}, {"earnExpiresOn": "1705828011"}]),
)
def test_what_is_exported_is_loaded(columns: dict[str, str], fixed: dict[str, str]) -> None:
    """Whatever the columns are called."""
    profile = Profile("x", columns, fixed_fields(f"{name}={value}" for name, value in fixed.items()))
    try:
        loaded = from_toml(profile.to_toml(), "x.toml")
    except ConfigError as error:
        assert "mapped twice" in str(error)  # noqa: PT017 - two names that mean the same
    else:
        assert (loaded.columns, loaded.fixed, loaded.mark) == (columns, fixed, profile.mark)


def test_the_mark_is_of_what_decides_which_badge_a_row_is() -> None:
    """Order, case and ignored columns don't; fields and what is set do."""
    one = Profile("x", {"A b": "customerId", "B": "", "C": FIELDS[0]})
    assert one.mark == Profile("y", {"C": FIELDS[0], "a_B": "customerId"}).mark
    assert one.mark != Profile("x", {"A b": FIELDS[0], "C": "customerId"}).mark
    assert one.mark != Profile("x", one.columns, {"earnExpiresOn": "1705828011"}).mark
    assert one.mark != Profile("x", one.columns, timezone="Europe/Berlin").mark
    assert one.mark != Profile("x", one.columns, date_format="epoch").mark
