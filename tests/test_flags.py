"""Decisions of people: what follows from a list of events, and that no event is ever lost, on SQLite and PostgreSQL."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribution import flags as module
from attribution.decisions import (
    UNDO,
    Decision,
    decide,
    in_force,
    outcomes,
    standing,
)
from attribution.errors import AttributionError, InvalidInput, StoreError
from attribution.examples import Examples
from attribution.flags import Flags
from attribution.workspace import Workspace
from tests import disk

GOLDEN = Path(__file__).parent / "golden" / "flags.sqlite"
MARKUP = "[red]Ada[/red] <script>alert(1)</script> **x**"


# --- a PostgreSQL server of our own, where there is one ---------------------------------------------------------------


def _program(name: str) -> str | None:
    return shutil.which(name) or max(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default=None)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The folder of the socket of a PostgreSQL server that lives as long as the tests."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = [_program(name) for name in ("initdb", "postgres")]
    if None in programs:
        pytest.skip("no PostgreSQL server here")
    initdb, postgres = map(str, programs)
    folder = Path(tempfile.mkdtemp(prefix="whence-", dir="/tmp"))  # the name of a socket must be short
    owner = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}  # root may not
    if owner:
        os.chown(folder, 65534, 65534)
    data = folder / "data"
    made = subprocess.run(
        [initdb, "-D", data, "-U", "whence", "-A", "trust", "-E", "UTF8", "--no-sync"],
        cwd=folder, capture_output=True, text=True, **owner,  # type: ignore[call-overload]
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"PostgreSQL does not start here: {made.stderr.strip()}")
    arguments = [postgres, "-D", data, "-k", folder, "-c", "listen_addresses="]
    process = subprocess.Popen(arguments, cwd=folder, stderr=subprocess.DEVNULL, **owner)  # type: ignore[call-overload]
    try:
        _wait_for(folder)
        yield str(folder)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(folder)


def _wait_for(folder: Path) -> None:
    import psycopg

    for _ in range(300):
        try:
            psycopg.connect(host=str(folder), user="whence", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            threading.Event().wait(0.1)
    pytest.fail("the PostgreSQL server does not answer")


@pytest.fixture
def schema(server: str) -> Callable[[str], str]:
    """Makes a schema of its own and returns the URL that leads there."""
    import psycopg

    def make(name: str) -> str:
        with psycopg.connect(host=server, user="whence", dbname="postgres", autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}".encode())
        return f"postgresql+psycopg://whence@/postgres?host={server}&options={quote(f'-csearch_path={name}')}"

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A place for decisions, of either kind."""
    if request.param == "sqlite":
        return tmp_path / "flags.sqlite"
    return str(request.getfixturevalue("schema")("whence_test"))


@pytest.fixture(autouse=True)
def _closed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connections that a test leaves open would be warned of in the next."""
    opened, opening = [], Flags.open

    def open_and_note(*arguments: Any, **options: Any) -> Flags:
        opened.append(opening(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(Flags, "open", open_and_note)
    yield
    for flags in opened:
        flags.close()


def keep(example: str = "train:0", who: str = "Ada", verdict: str = "keep", **more: Any) -> Decision:
    return Decision(example, verdict, who, **more)


# --- recording --------------------------------------------------------------------------------------------------------


def test_nothing_is_made_before_something_is_recorded(tmp_path: Path) -> None:
    flags = Flags.open(tmp_path / "flags.sqlite")
    assert flags.events() == ()
    assert list(tmp_path.iterdir()) == []


def test_what_is_recorded_is_what_was_decided_for_whoever_opens_it(where: Path | str) -> None:
    train = Examples("train", ("train:0",), np.array([0]), np.array([0]), ("f" * 16,), ("top", "middle", "bottom"))
    made = decide(
        [train], "train:0", "relabel", who=MARKUP, label=2, note="“Ä”\n'; DROP TABLE whence_events; --", settles=True,
        why={"signals": ["self-influence", "loss"], "percentile": 99.5, "index": None, "%s": "%(x)s"},
    )  # fmt: skip
    recorded = Flags.open(where).append(made)
    (found,) = Flags.open(where).events()
    assert found == recorded
    assert {name: getattr(found, name) for name in Decision.__dataclass_fields__} == vars(made)
    assert (found.number, found.undoes, found.when[-6:]) == (1, None, "+00:00")


def test_several_are_recorded_in_their_order_or_none_is(where: Path | str) -> None:
    flags = Flags.open(where)
    found = flags.append_all([keep(f"train:{i}") for i in range(1200)])
    assert [one.number for one in found] == list(range(1, 1201))
    assert flags.events() == found
    with pytest.raises(InvalidInput, match="was used for another decision, on train:0"):
        flags.append_all([keep("train:1"), keep("train:2", key=found[0].key)])
    assert flags.events() == found
    assert flags.append_all([]) == ()


def test_a_burst_that_is_sent_again_is_recorded_once(where: Path | str) -> None:
    flags = Flags.open(where)
    burst = [keep(f"train:{i}", why={"b": 1, "a": [2.5]}) for i in range(5)]
    first = flags.append_all(burst[:3])
    again = flags.append_all([*burst, burst[4]])
    assert again[:3] == first
    assert [one.number for one in again] == [1, 2, 3, 4, 5, 5]
    assert len(flags.events()) == 5


def test_events_can_be_asked_for_by_reviewer_verdict_example_and_number(where: Path | str) -> None:
    flags = Flags.open(where)
    flags.append_all([keep("a"), keep("b", "Ben"), keep("a", "Ben", "bad")])

    def numbers(**asked: Any) -> list[int]:
        return [one.number for one in flags.events(**asked)]

    assert numbers(who=" Ben ") == [2, 3]
    assert numbers(verdict="keep") == [1, 2]
    assert numbers(example="a") == [1, 3]
    assert numbers(example="a", who="Ben") == [3]
    assert numbers(after=1) == [2, 3]
    assert numbers(after=3) == []


# --- taking back ------------------------------------------------------------------------------------------------------


def test_an_undo_is_an_event_and_can_be_undone(where: Path | str) -> None:
    flags = Flags.open(where)
    flags.append(keep())
    taken = flags.undo(1, who="Ada", note="by mistake")
    assert (taken.number, taken.verdict, taken.undoes, taken.example) == (2, UNDO, 1, "train:0")
    assert (taken.note, taken.label, taken.settles) == ("by mistake", None, False)
    assert standing(flags.events()) == {}
    flags.undo(2, who="Ada")
    assert [one.number for one in in_force(flags.events())] == [1]
    flags.undo(1, who="Ada")  # and once more
    assert in_force(flags.events()) == []
    assert [one.undoes for one in flags.events()] == [None, 1, 2, 1]


def test_what_cannot_be_taken_back(where: Path | str) -> None:
    flags = Flags.open(where)
    flags.append(keep())
    with pytest.raises(InvalidInput, match=r"There is no event 7\."):
        flags.undo(7, who="Ada")
    with pytest.raises(InvalidInput, match=r"Event 1 is of Ada, who alone takes it back\."):
        flags.undo(1, who="Ben")
    with pytest.raises(InvalidInput, match=r"The reviewer has no name"):
        flags.undo(1, who=" ")
    flags.undo(1, who="Ada")
    with pytest.raises(InvalidInput, match=r"Event 1 is taken back already\."):
        flags.undo(1, who="Ada")
    with pytest.raises(InvalidInput, match=r"Ada has no decision to take back\."):
        flags.undo_last("Ada")
    assert len(flags.events()) == 2


def test_the_last_decisions_are_taken_back_one_by_one_each_reviewers_own(where: Path | str) -> None:
    flags = Flags.open(where)
    flags.append_all([keep("a"), keep("b"), keep("a", "Ben")])
    assert [flags.undo_last("Ada").undoes for _ in range(2)] == [2, 1]
    assert flags.undo_last(" Ben").undoes == 3


def test_an_undo_that_is_sent_again_takes_back_one_decision(where: Path | str) -> None:
    flags = Flags.open(where)
    flags.append_all([keep("a"), keep("b")])
    first = flags.undo_last("Ada", key="k")
    assert flags.undo_last("Ada", key="k") == first
    assert flags.undo(2, who="Ada", key="k") == first
    with pytest.raises(InvalidInput, match=r"The key k was used for another decision\."):
        flags.undo(1, who="Ada", key="k")
    assert len(flags.events()) == 3


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["a", "b", "undo"]), max_size=25))
def test_undoing_the_last_again_and_again_is_a_stack(tmp_path: Path, steps: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        flags, stack = Flags.open(Path(folder) / "flags.sqlite"), []
        for step in steps:
            if step != "undo":
                stack.append(flags.append(keep(step)))
            elif stack:
                assert flags.undo_last("Ada").undoes == stack.pop().number
        assert in_force(flags.events()) == stack
        flags.close()


# --- nothing is lost --------------------------------------------------------------------------------------------------

# Waits for the word to begin, then records one by one and says each when `append` has returned.
BURST = """
import sys
from pathlib import Path
from attribution.decisions import Decision
from attribution.flags import Flags
where, who, n, together = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
flags = Flags.open(where if "://" in where else Path(where))
print("ready", flush=True)
sys.stdin.readline()
for i in range(n):
    found = flags.append_all([Decision(f"train:{i}", "keep", who, note=f"{i}", key=f"{who} {i} {j}")
                              for j in range(together)])
    print(*(event.key for event in found), sep=",", flush=True)
"""


def burst(where: Path | str, who: str, n: int, together: int = 1) -> subprocess.Popen[str]:
    """A process that is ready to record n times `together` decisions."""
    process = subprocess.Popen(
        [sys.executable, "-c", BURST, str(where), who, str(n), str(together)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def begin(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()


def test_four_processes_at_once_lose_nothing(where: Path | str) -> None:
    """All of them on the same examples, and none has made the database before."""
    processes = [burst(where, f"reviewer {i}", 60) for i in range(4)]
    begin(*processes)
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    found = Flags.open(where).events()
    assert [one.number for one in found] == list(range(1, 241))
    assert sorted(one.key for one in found) == sorted(f"reviewer {i} {j} 0" for i in range(4) for j in range(60))
    for who in range(4):
        assert [one.note for one in found if one.who == f"reviewer {who}"] == [str(j) for j in range(60)]


def test_two_reviewers_deciding_on_one_example_at_the_same_instant_are_both_heard(where: Path | str) -> None:
    processes = [burst(where, who, 1) for who in ("Ada", "Ben")]
    begin(*processes)
    for process in processes:
        process.communicate(timeout=60)
    (outcome,) = outcomes(Flags.open(where).events()).values()
    assert {one.who for one in outcome.opinions} == {"Ada", "Ben"}
    assert outcome.state == "decided"


@pytest.mark.parametrize("together", [1, 40])
def test_kill_9_in_a_burst_loses_nothing_that_was_recorded(where: Path | str, together: int) -> None:
    said = []
    with burst(where, "Ada", 100_000, together) as process, burst(where, "Ben", 100_000) as other:
        begin(process, other)
        assert process.stdout
        assert other.stdout
        said += [process.stdout.readline() for _ in range(25)]
        for each in (process, other):
            each.send_signal(signal.SIGKILL)
        for each in (process, other):
            each.wait()
        said += [*process.stdout, *other.stdout]
    lines = [line.strip() for line in said if line.endswith("\n")]
    told = {key for line in lines for key in line.split(",")}
    flags = Flags.open(where)
    kept = flags.events()
    assert told <= {one.key for one in kept}
    own = [one for one in kept if one.who == "Ada"]
    assert len(own) % together == 0  # what is recorded together is there together
    assert len(kept) - len(told) <= together + 1  # beside it only what was recorded and not yet told
    assert flags.append(keep(who="Cyd")).number == len(kept) + 1


def test_threads_of_one_app_share_one_object(where: Path | str) -> None:
    flags = Flags.open(where)
    threads = [
        threading.Thread(target=lambda who=f"r{i}": [flags.append(keep(who=who)) for _ in range(10)]) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.number for one in flags.events()] == list(range(1, 81))


@pytest.mark.parametrize("change", ["UPDATE whence_events SET verdict = 'bad'", "DELETE FROM whence_events"])
def test_the_database_itself_keeps_every_event_as_it_is(where: Path | str, change: str) -> None:
    flags = Flags.open(where)
    kept = flags.append(keep())
    with pytest.raises(Exception, match="decisions are only ever added"), flags._writing() as connection:
        connection.exec_driver_sql(change)
    assert flags.events() == (kept,)


def test_a_missing_event_is_noticed(tmp_path: Path) -> None:
    flags = Flags.open(tmp_path / "flags.sqlite")
    flags.append_all([keep() for _ in range(4)])
    flags.close()
    tamper(tmp_path / "flags.sqlite", "DROP TRIGGER whence_never_DELETE", "DELETE FROM whence_events WHERE number = 2")
    with pytest.raises(StoreError, match=r"flags\.sqlite is damaged: event 2 is missing\. Restore it from a copy"):
        flags.events()


def tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


# --- files that are not as they should be -----------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A file with 200 decisions, closed."""
    flags = Flags.open(tmp_path / "flags.sqlite")
    flags.append_all([keep(f"train:{i}", note="n" * 100) for i in range(200)])
    flags.close()
    assert [path.name for path in tmp_path.iterdir()] == ["flags.sqlite"]
    return tmp_path / "flags.sqlite"


def assert_refused_and_kept(path: Path, says: str) -> None:
    """Reading and writing are refused in one sentence, and no byte changes."""
    before = disk.everything(path.parent)
    for use in (lambda: Flags.open(path).events(), lambda: Flags.open(path).append(keep())):
        with pytest.raises(StoreError, match=says):
            use()
    assert disk.everything(path.parent) == before


@pytest.mark.parametrize("left", [0, 1, 17, 100, 4096, 8192, 20_000, -4096, -1, -50])
def test_a_truncated_file_is_refused_and_left_alone(recorded: Path, left: int) -> None:
    os.truncate(recorded, left if left >= 0 else recorded.stat().st_size + left)
    says = "is empty: what was in it is lost" if left == 0 else "is damaged, cut short, or no database"
    assert_refused_and_kept(recorded, rf"flags\.sqlite {says}.*Restore it from a copy, or move it away")


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = disk.write_text(tmp_path / "flags.sqlite", "dear diary, " * 1024)
    assert_refused_and_kept(path, r"flags\.sqlite is damaged, cut short, or no database")


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    tamper(tmp_path / "flags.sqlite", "CREATE TABLE diary (day TEXT)")
    assert_refused_and_kept(tmp_path / "flags.sqlite", r"flags\.sqlite is another program's database\.")


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "flags.sqlite").mkdir()
    assert_refused_and_kept(tmp_path / "flags.sqlite", r"flags\.sqlite is not a file\.")


def test_a_newer_format_is_refused_and_left_alone(recorded: Path) -> None:
    tamper(recorded, "UPDATE whence_about SET value = '2' WHERE name = 'format'")
    before = recorded.read_bytes()
    for use in (lambda: Flags.open(recorded).events(), lambda: Flags.open(recorded).append(keep())):
        with pytest.raises(StoreError, match=r"flags\.sqlite has format 2; this version reads up to 1\. Update Whence"):
            use()
    assert recorded.read_bytes() == before


def test_a_log_without_its_file_is_not_begun_anew(recorded: Path) -> None:
    flags = Flags.open(recorded)
    flags.append(keep())
    recorded.unlink()
    assert_refused_and_kept(recorded, r"flags\.sqlite is gone; decisions may be in flags\.sqlite-wal beside it\.")
    with pytest.raises(StoreError, match="is gone"):
        flags.append(keep())


def test_a_file_that_was_put_in_the_place_of_another_is_the_one_that_is_used(recorded: Path, tmp_path: Path) -> None:
    copy = shutil.copy(recorded, tmp_path / "copy")
    flags = Flags.open(recorded)
    assert len(flags.events()) == 200
    Path(copy).replace(recorded)
    assert flags.append(keep()).number == 201
    assert len(Flags.open(recorded).events()) == 201


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    flags = Flags.open(tmp_path / "nowhere" / "flags.sqlite")
    assert flags.events() == ()
    with pytest.raises(StoreError, match=r"There is no folder .*nowhere for flags\.sqlite\."):
        flags.append(keep())


def test_a_locked_file_is_waited_for_and_then_named(recorded: Path) -> None:
    flags = Flags.open(recorded, patience=0.2)
    other = sqlite3.connect(recorded, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    says = r"flags\.sqlite has been in use by another process for 0\.2 seconds .*Nothing was recorded; try again\."
    with pytest.raises(StoreError, match=says):
        flags.append(keep())
    assert len(flags.events()) == 200  # reading waits for nobody
    other.execute("COMMIT")
    other.close()
    assert flags.append(keep()).number == 201


def as_a_guest(do: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function as somebody who is not root, in a child where need be."""
    return disk.ask_child(_as_nobody, do, *arguments) if os.geteuid() == 0 else do(*arguments)


def _as_nobody(do: Callable[..., Any], *arguments: Any) -> Any:
    Flags.open(Path("/nowhere/flags.sqlite"))  # loads what nobody may not read: Python itself may be root's
    os.setuid(65534)
    return do(*arguments)


def read_and_try_to_write(path: Path) -> tuple[int, str]:
    """How many events are read, and what is said when one is to be added."""
    flags = Flags.open(path)
    try:
        flags.append(keep())
    except AttributionError as error:
        return len(flags.events()), str(error)
    return len(flags.events()), ""


@pytest.fixture
def closed_folder(recorded: Path) -> Iterator[Path]:
    """The recorded file in a folder that all may enter and nobody may write to."""
    folder = Path(tempfile.mkdtemp(prefix="whence-", dir="/tmp"))
    path = Path(shutil.copy(recorded, folder / "flags.sqlite"))
    path.chmod(0o444)
    folder.chmod(0o555)
    yield path
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_file_that_may_not_be_written_is_read_and_stays(closed_folder: Path) -> None:
    before = closed_folder.read_bytes()
    n, said = as_a_guest(read_and_try_to_write, closed_folder)
    assert n == 200
    assert said.startswith(f"{closed_folder} may not be written (attempt to write a readonly database). Nothing was")
    assert closed_folder.read_bytes() == before


def test_a_file_that_may_not_be_written_in_a_folder_that_may(closed_folder: Path) -> None:
    closed_folder.parent.chmod(0o777)
    n, said = as_a_guest(read_and_try_to_write, closed_folder)
    assert (n, "may not be written" in said) == (200, True)


def test_a_file_cannot_be_made_where_nothing_may_be_written(closed_folder: Path) -> None:
    n, said = as_a_guest(read_and_try_to_write, closed_folder.with_name("other.sqlite"))
    assert n == 0
    assert "other.sqlite cannot be opened" in said


def test_golden_decisions_open_for_ever(tmp_path: Path) -> None:
    flags = Flags.open(Path(shutil.copy(GOLDEN, tmp_path / "flags.sqlite")))
    events = flags.events()
    first = events[0]
    assert (first.example, first.verdict, first.who, first.label, first.label_name, first.given, first.content) == (
        "train:0", "relabel", "Ada", 1, "middle", "top", "0123456789abcdef",
    )  # fmt: skip
    assert (first.note, first.key, first.settles, first.undoes) == ("“Ä” <b>", "a", False, None)
    assert first.why == {"signals": ["self-influence"], "method": "tracin", "index": "abc"}
    assert [(one.number, one.who, one.example, one.verdict, one.undoes) for one in events[1:]] == [
        (2, "Ada", "train:1", "keep", None),
        (3, "Ada", "train:2", "bad", None),
        (4, "Ada", "train:3", "skip", None),
        (5, "Ada", "train:4", "flag", None),
        (6, "Ben", "train:0", "keep", None),
        (7, "Ben", "train:1", "bad", None),
        (8, "Ben", "train:2", "keep", None),
        (9, "Ben", "train:2", "undo", 8),
        (10, "Ben", "train:2", "undo", 9),
        (11, "Ada", "train:0", "undo", 1),
    ]
    assert {id_: outcome.state for id_, outcome in outcomes(events).items()} == {
        "train:0": "decided", "train:1": "decided", "train:2": "disputed", "train:3": "open", "train:4": "open",
    }  # fmt: skip
    assert flags.append(keep()).number == 12


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("flags", r"The address of the decisions is no URL\. Use sqlite:"),
        ("mysql://a:secret@b/c", r"in SQLite or PostgreSQL, not in mysql\."),
        ("sqlite://", r"sqlite:// names no file that lasts\."),
        ("sqlite:///:memory:", r"sqlite:///:memory: names no file that lasts\."),
        ("postgresql://a:secret@b:port/c", r"The address of the decisions is no URL\."),
    ],
)
def test_an_address_that_leads_nowhere(url: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        Flags.open(url)
    assert "secret" not in str(refused.value)


def test_a_file_can_be_named_by_url_and_odd_paths_are_paths(tmp_path: Path) -> None:
    odd = tmp_path / "a b?c#d%20é"
    odd.mkdir()
    Flags.open(odd / "flags.sqlite").append(keep())
    assert [path.name for path in odd.glob("*.sqlite")] == ["flags.sqlite"]
    Flags.open(f"sqlite:///{tmp_path}/by-url.sqlite").append(keep())
    assert len(Flags.open(tmp_path / "by-url.sqlite").events()) == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_named_by_url_is_of_one_project(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path}/flags.sqlite"
    if kind == "postgresql":
        url = request.getfixturevalue("schema")("whence_pets")
    Flags.open(url, project="pets").append(keep())
    assert len(Flags.open(url, project="pets").events()) == 1
    with pytest.raises(InvalidInput, match=r"holds the decisions about “pets”, and this is “cars”\."):
        Flags.open(url, project="cars")


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(
        StoreError, match=r"The decisions in postgresql://ada:\*\*\*@/x\?host=.* cannot be used"
    ) as found:
        Flags.open(f"postgresql://ada:secret@/x?host={tmp_path}")
    assert "secret" not in str(found.value)


def test_without_psycopg_a_postgresql_address_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InvalidInput, match=r"PostgreSQL needs the library psycopg .*pip install 'psycopg\[binary\]'"):
        Flags.open("postgresql://ada@nowhere/x")


def test_a_postgresql_writer_that_waits_too_long_is_told(schema: Callable[[str], str]) -> None:
    url = schema("whence_locked")
    first, second = Flags.open(url), Flags.open(url, patience=0.2)
    first.append(keep())
    with first._writing():
        with pytest.raises(StoreError, match=r"canceling statement due to lock timeout.*Nothing was recorded"):
            second.append(keep())
        assert len(second.events()) == 1
    assert second.append(keep()).number == 2


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A project file and its workspace, not to be changed."""
    return disk.built(tmp_path_factory.mktemp("stripes"))


@pytest.fixture
def workspace(built: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("WHENCE_FLAGS_URL", raising=False)
    monkeypatch.setenv("LOGNAME", "login")
    return Path(shutil.copytree(built[1], tmp_path / "work"))


def ask(*arguments: object, workspace: Path) -> Any:
    """The JSON that a command prints; nothing may be on standard error."""
    answer = disk.whence(*arguments, "--workspace", workspace, "--json")
    assert answer.err == ""
    return answer.json()


def assert_refused(says: str, *arguments: object, workspace: Path) -> None:
    """One sentence, exit code 2."""
    answer = disk.whence(*arguments, "--workspace", workspace)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert says in answer.err


def test_flags_come_back_as_they_were_given(workspace: Path) -> None:
    (given,) = ask(
        "flag", "train:0", "--label", "middle", "--by", MARKUP, "--note", "[bold]looks[/bold] <b>", workspace=workspace
    )
    assert (given["event"], given["verdict"], given["label"], given["label_row"]) == (1, "relabel", "middle", 1)
    assert (given["by"], given["note"], given["given"]) == (MARKUP, "[bold]looks[/bold] <b>", "top")
    manifest = Workspace(workspace)
    current = {"run": manifest.current("runs"), "index": manifest.current("indexes")}
    assert {key: given["why"][key] for key in current} == current
    assert given["why"]["data"]
    (listed,) = ask("flags", workspace=workspace)
    assert listed == given | {"state": "decided", "stale": None}
    table = disk.whence("flags", "--workspace", workspace).out
    assert "[bold]" in table
    assert "[red]Ada" in table


def test_without_a_verdict_examples_are_flagged_by_the_login_name(workspace: Path) -> None:
    found = ask("flag", "train:3", "test:4", "train:3", workspace=workspace)
    assert [(row["id"], row["verdict"], row["by"]) for row in found] == [
        ("train:3", "flag", "login"), ("test:4", "flag", "login"),
    ]  # fmt: skip


def test_disagreements_are_listed_until_they_are_settled(workspace: Path) -> None:
    ask("flag", "train:0", "train:1", "--verdict", "keep", "--by", "Ada", workspace=workspace)
    ask("flag", "train:0", "--verdict", "bad", "--by", "Ben", workspace=workspace)
    found = ask("flags", "--disagreements", workspace=workspace)
    assert [(row["id"], row["by"], row["verdict"]) for row in found] == [
        ("train:0", "Ada", "keep"), ("train:0", "Ben", "bad"),
    ]  # fmt: skip
    assert len(ask("flags", "--by", "Ada", workspace=workspace)) == 2
    assert [row["id"] for row in ask("flags", "--verdict", "bad", workspace=workspace)] == ["train:0"]
    ask("flag", "train:0", "--verdict", "bad", "--by", "Cyd", "--settle", workspace=workspace)
    assert ask("flags", "--disagreements", workspace=workspace) == []
    assert disk.whence("flags", "--disagreements", "--workspace", workspace).out == "none\n"


def test_decisions_are_taken_back_by_id_by_number_and_the_last(workspace: Path) -> None:
    ask("flag", "train:0", "train:1", "train:2", "--by", "Ada", workspace=workspace)
    assert ask("unflag", "train:0", "--by", "Ada", workspace=workspace)[0]["undoes"] == 1
    assert ask("unflag", "--last", "--by", "Ada", workspace=workspace)[0]["undoes"] == 3
    assert ask("unflag", "--event", 4, "--by", "Ada", workspace=workspace)[0]["undoes"] == 4
    assert [row["id"] for row in ask("flags", workspace=workspace)] == ["train:0", "train:1"]
    history = ask("flags", "--all", workspace=workspace)
    assert [(row["event"], row["undoes"], row["taken_back"]) for row in history] == [
        (1, None, False), (2, None, False), (3, None, True), (4, 1, True), (5, 3, False), (6, 4, False),
    ]  # fmt: skip
    assert [row["event"] for row in ask("flags", "--all", "--verdict", "undo", workspace=workspace)] == [4, 5, 6]


def test_what_the_command_line_refuses(workspace: Path) -> None:
    refused = functools.partial(assert_refused, workspace=workspace)
    refused("There is no example “train:99” in the data. Ids look like train:0", "flag", "train:0", "train:99")
    refused("There is no class “side”. Use top, middle, bottom.", "flag", "train:0", "--label", "side")
    refused("The reviewer has no name.", "flag", "train:0", "--by", " ")
    refused("“drop” is no verdict.", "flag", "train:0", "--verdict", "drop")
    refused("“undo” is no verdict.", "flags", "--verdict", "undo")
    refused("Disagreements are between standing decisions.", "flags", "--all", "--disagreements")
    refused("It is not clear what is taken back.", "unflag")
    refused("It is not clear what is taken back.", "unflag", "train:0", "--last")
    refused("login has no decision on train:0.", "unflag", "train:0")
    refused("There is no event 1.", "unflag", "--event", 1)
    assert ask("flags", "--all", workspace=workspace) == []


def test_nothing_can_be_decided_before_there_are_data(tmp_path: Path) -> None:
    assert_refused("There is no loaded data in", "flag", "train:0", workspace=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_decision_about_changed_data_is_listed_as_stale(built: tuple[Path, Path], tmp_path: Path) -> None:
    project = disk.write_project(tmp_path)
    work = tmp_path / "work"
    assert disk.whence("train", project, "--workspace", work).code == 0
    ask("flag", "train:0", "train:1", "--verdict", "bad", workspace=work)
    disk.write_project(tmp_path, "TRAIN.pictures[1] += 1")
    assert disk.whence("train", project, "--workspace", work).code == 0
    assert [(row["id"], row["state"], row["stale"]) for row in ask("flags", workspace=work)] == [
        ("train:0", "decided", None), ("train:1", "open", "Its content has changed since."),
    ]  # fmt: skip


def test_a_damaged_or_locked_file_is_one_sentence_and_exit_code_2(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("flag", "train:0", workspace=workspace)
    path = workspace / "flags.sqlite"
    with monkeypatch.context() as patch:
        patch.setattr(module, "PATIENCE", 0.1)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert_refused("has been in use by another process for 0.1 seconds", "flag", "train:1", workspace=workspace)
        other.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    for arguments in (["flags"], ["flag", "train:1"], ["unflag", "--last"]):
        assert_refused("flags.sqlite is damaged, cut short, or no database", *arguments, workspace=workspace)
    assert path.read_bytes() == whole[:5000]


def test_the_environment_names_another_database(workspace: Path, tmp_path: Path, where: Path | str,
                                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    url = where if isinstance(where, str) else f"sqlite:///{where}"
    monkeypatch.setenv("WHENCE_FLAGS_URL", url)
    ask("flag", "train:0", workspace=workspace)
    assert not (workspace / "flags.sqlite").exists()
    assert len(Flags.open(url, project="stripes").events()) == 1
    with pytest.raises(InvalidInput, match="“stripes”"):
        Flags.open(url, project="other")


def test_the_json_of_an_event_is_json_for_whoever_reads_it(workspace: Path) -> None:
    Flags.open(Workspace(workspace).flags_at).append(keep(why={"signals": ["loss"], "n": 3}))
    answer = disk.whence("flags", "--json", "--workspace", workspace)
    assert json.loads(answer.out)[0]["why"] == {"signals": ["loss"], "n": 3}
