"""Flags: the decisions of all reviewers, as events in a database that are only ever added.

    flags = Flags.open(workspace.flags_at, project="pets")     # a file of the workspace, or a database by its URL
    event = flags.append(decide([train, test], "train:17", "relabel", who="Ada", label=3))
    flags.undo(event.number, who="Ada")
    outcomes(flags.events(), [train, test])

What `append` has returned is on the disk: it survives `kill -9` and, as far as the disk keeps its word, a power cut.
Writers take turns, so that events are numbered from 1 without gaps, in the order in which they became visible; a gap
would be a loss and is refused. The database itself refuses to change or to delete an event. SQLite (write-ahead log,
every commit flushed) serves the processes of one machine; several machines share a PostgreSQL database.

The only file that imports SQLAlchemy.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sql
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool, QueuePool

from attribution.decisions import UNDO, Decision, Event, check_text, encode, reviewer, taken_back
from attribution.errors import InvalidInput, StoreError

FORMAT = 1
PATIENCE = 30.0  # seconds to wait for other writers

_tables = sql.MetaData()
_about = sql.Table(
    "whence_about",  # format: of the tables; project: whose decisions they are
    _tables,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("value", sql.Text, nullable=False),
)
_events = sql.Table(
    "whence_events",
    _tables,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("when", sql.Text, nullable=False),
    sql.Column("example", sql.Text, nullable=False, index=True),
    sql.Column("verdict", sql.Text, nullable=False),
    sql.Column("who", sql.Text, nullable=False, index=True),
    sql.Column("label", sql.Integer),
    sql.Column("label_name", sql.Text, nullable=False),
    sql.Column("given", sql.Text, nullable=False),
    sql.Column("content", sql.Text, nullable=False),
    sql.Column("note", sql.Text, nullable=False),
    sql.Column("why", sql.Text, nullable=False),
    sql.Column("settles", sql.Boolean, nullable=False),
    sql.Column("key", sql.Text, nullable=False, unique=True),
    sql.Column("undoes", sql.Integer, sql.ForeignKey("whence_events.number"), index=True),
)
# Events are added and nothing else, whoever holds the database.
_ONLY_ADDED = {
    "sqlite": [
        f"CREATE TRIGGER whence_never_{verb} BEFORE {verb} ON whence_events "
        "BEGIN SELECT RAISE(ABORT, 'decisions are only ever added'); END"
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE FUNCTION whence_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'decisions are only ever added'; END $$",
        "CREATE TRIGGER whence_never BEFORE UPDATE OR DELETE OR TRUNCATE ON whence_events "
        "FOR EACH STATEMENT EXECUTE FUNCTION whence_refuse()",
    ],
}
_MANY = 500  # values in one IN (…)


class Flags:
    """The events of one database. Nothing is made before the first is recorded; one object serves many threads."""

    @staticmethod
    def open(where: Path | str, *, project: str = "", patience: float | None = None) -> Flags:
        """Open a SQLite file by its path, or a database by its URL: sqlite:///… or postgresql://….

        A database named by a URL holds the decisions of one project and refuses those of another. Raises
        `InvalidInput` for a URL that is none, `StoreError` for a file that is not, or not whole, what was written.
        """
        patience = PATIENCE if patience is None else patience
        if isinstance(where, Path):
            opened = Flags(_SQLite(where, "", patience))  # the file lies in the workspace, and goes with it
        else:
            opened = Flags(_database(where, project, patience))
        try:
            with opened._reading():
                return opened
        except BaseException:
            opened.close()
            raise

    def __init__(self, database: _SQLite | _PostgreSQL) -> None:
        self._database = database

    @property
    def name(self) -> str:
        """Where the decisions are, without a password, to be shown."""
        return self._database.name

    def close(self) -> None:
        self._database.engine.dispose()

    # --- adding -------------------------------------------------------------------------------------------------

    def append(self, decision: Decision) -> Event:
        """Record a decision. Once this returns, it is kept."""
        return self.append_all([decision])[0]

    def append_all(self, decisions: Sequence[Decision]) -> tuple[Event, ...]:
        """Record several decisions, all or none, and return their events in the same order.

        A decision recorded before, by its key, is the event that it was then; raises `InvalidInput` where another one
        has that key.
        """
        wanted = [_row(decision) for decision in decisions]
        with self._writing() as connection:
            known = _by_key(connection, [row["key"] for row in wanted])
            added = []
            for row in wanted:
                if row["key"] not in known:
                    added.append(row)
                    known[row["key"]] = row
                elif any(known[row["key"]][name] != value for name, value in row.items()):
                    raise InvalidInput(
                        f"The key {row['key']} was used for another decision, on {known[row['key']]['example']}.",
                        "Give every decision a key of its own.",
                    )
            _insert(connection, added)
        return tuple(_event({**known[row["key"]], **row}) for row in wanted)

    def undo(self, number: int, *, who: str, note: str = "", key: str | None = None) -> Event:
        """Take back one's own event, which may itself be an undo, by an event that names it.

        Raises `InvalidInput` where there is no such event, where it is another reviewer's, or taken back already.
        """
        with self._writing() as connection:
            return _undo(connection, number, reviewer(who), note, key)

    def undo_last(self, who: str, *, note: str = "", key: str | None = None) -> Event:
        """Take back the last decision of a reviewer that is in force; raises `InvalidInput` where there is none."""
        who = reviewer(who)
        with self._writing() as connection:
            if key is not None and (row := _by_key(connection, [key]).get(key)):
                return _undo(connection, row["undoes"], who, note, key)
            gone = _taken_back(connection)
            own = sql.select(_events.c.number).where(_events.c.who == who, _events.c.undoes.is_(None))
            for number in connection.scalars(own.order_by(_events.c.number.desc())):
                if number not in gone:
                    return _undo(connection, number, who, note, key)
        raise InvalidInput(f"{who} has no decision to take back.", "Decide first, or say whose it is: --by NAME.")

    # --- reading ------------------------------------------------------------------------------------------------

    def events(
        self, *, after: int = 0, who: str | None = None, verdict: str | None = None, example: str | None = None
    ) -> tuple[Event, ...]:
        """Events with a number above `after`, undone ones and undos too, in their order.

        What stands follows from all of them: leave the filters to views of the history. Raises `StoreError` where a
        number is missing.
        """
        asked: dict[str, str | None] = {"who": who and reviewer(who), "verdict": verdict, "example": example}
        conditions = [_events.c[name] == value for name, value in asked.items() if value is not None]
        with self._reading() as connection:
            if connection is None:
                return ()
            chosen = sql.select(_events).where(_events.c.number > after, *conditions).order_by(_events.c.number)
            try:
                found = tuple(_event(row) for row in connection.execute(chosen).mappings())
            except ValueError as error:
                raise StoreError(f"{self.name} is damaged: {error}.", _RESTORE) from error
        if not conditions:
            self._refuse_gaps(found, after)
        return found

    def _refuse_gaps(self, found: Sequence[Event], after: int) -> None:
        for expected, event in enumerate(found, after + 1):
            if event.number != expected:
                raise StoreError(f"{self.name} is damaged: event {expected} is missing.", _RESTORE)

    # --- transactions -------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Connection | None]:
        """A connection to a database of a known format; None where nothing has been recorded yet."""
        with self._database.connected(for_writing=False) as connection:
            if connection is None or not self._database.has_tables(connection):
                yield None
            else:
                self._check(_facts(connection))
                yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction in which nobody else writes, committed to the disk at the end."""
        with self._database.connected(for_writing=True) as connection:
            assert connection is not None
            self._database.begin(connection)
            self._check(_facts(connection, alone=True))
            yield connection
            connection.commit()

    def _check(self, facts: Mapping[str, str]) -> None:
        found = facts.get("format", "")
        if not found.isdecimal() or int(found) > FORMAT:
            raise StoreError(
                f"{self.name} has format {found or 'none'}; this version reads up to {FORMAT}.", "Update Whence."
            )
        ours = self._database.project
        if ours and facts.get("project", ours) != ours:
            raise InvalidInput(
                f"{self.name} holds the decisions about “{facts['project']}”, and this is “{ours}”.",
                "Name a database, or a schema, of its own in WHENCE_FLAGS_URL.",
            )


# --- rows -------------------------------------------------------------------------------------------------------------


def _row(decision: Decision) -> dict[str, Any]:
    kept = {name: getattr(decision, name) for name in Decision.__dataclass_fields__}
    return {**kept, "why": encode(decision.why), "undoes": None}


def _event(row: Mapping[Any, Any]) -> Event:
    return Event(**{**row, "why": json.loads(row["why"])})


def _by_key(connection: Connection, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The rows that are recorded under these keys."""
    found = {}
    for start in range(0, len(keys), _MANY):
        chosen = sql.select(_events).where(_events.c.key.in_(keys[start : start + _MANY]))
        found.update({row["key"]: dict(row) for row in connection.execute(chosen).mappings()})
    return found


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Number the rows, say when, and add them."""
    if not rows:
        return
    last = connection.scalar(sql.select(sql.func.max(_events.c.number))) or 0
    when = datetime.now(UTC).isoformat(timespec="microseconds")
    for number, row in enumerate(rows, last + 1):
        row.update(number=number, when=when)
    connection.execute(sql.insert(_events), rows)


def _taken_back(connection: Connection) -> set[int]:
    undos = sql.select(_events.c.number, _events.c.undoes).where(_events.c.undoes.is_not(None))
    return taken_back((number, undoes) for number, undoes in connection.execute(undos.order_by(_events.c.number)))


def _undo(connection: Connection, number: int, who: str, note: str, key: str | None) -> Event:
    check_text(note, "note")
    taken = connection.execute(sql.select(_events).where(_events.c.number == number)).mappings().first()
    if taken is None:
        raise InvalidInput(f"There is no event {number}.", "Take a number from `flags --all`.")
    # As a flag is recorded, but for what it says: this also makes the key.
    row = {**_row(Decision(taken["example"], "flag", who, note=note)), "verdict": UNDO, "undoes": number}
    if key is not None:
        check_text(key, "key")
        if before := _by_key(connection, [key]).get(key):
            if any(before[name] != row[name] for name in ("verdict", "who", "undoes")):
                raise InvalidInput(f"The key {key} was used for another decision.", "Give every undo a key of its own.")
            return _event(before)
        row["key"] = key
    if taken["who"] != who:
        raise InvalidInput(
            f"Event {number} is of {taken['who']}, who alone takes it back.", "Decide otherwise instead; both are kept."
        )
    if number in _taken_back(connection):
        raise InvalidInput(f"Event {number} is taken back already.", "To have it again, take back that undo.")
    _insert(connection, [row])
    return _event(row)


def _facts(connection: Connection, *, alone: bool = False) -> dict[str, str]:
    """What the database says of itself. PostgreSQL lets one transaction at a time have these rows `alone`."""
    chosen = sql.select(_about.c.name, _about.c.value).order_by(_about.c.name)
    found = connection.execute(chosen.with_for_update() if alone else chosen)
    return {row.name: row.value for row in found}


def _make_tables(connection: Connection, project: str) -> None:
    _tables.create_all(connection)
    for statement in _ONLY_ADDED[connection.dialect.name]:
        connection.exec_driver_sql(statement)
    facts = {"format": str(FORMAT)} | ({"project": project} if project else {})
    connection.execute(sql.insert(_about), [{"name": name, "value": value} for name, value in facts.items()])


# --- the two kinds of database ----------------------------------------------------------------------------------------

_RESTORE = "Restore it from a copy, or move it away to begin anew; nothing was changed."
_URLS = "Use sqlite:////path/flags.sqlite or postgresql://user@host/database."


def _database(url: str, project: str, patience: float) -> _SQLite | _PostgreSQL:
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
    except (ArgumentError, ValueError) as error:  # whose own text may repeat a password
        raise InvalidInput("The address of the decisions is no URL.", _URLS) from error
    if kind == "postgresql":
        return _PostgreSQL(parsed, project, patience)
    if kind != "sqlite":
        raise InvalidInput(f"Decisions are kept in SQLite or PostgreSQL, not in {kind}.", _URLS)
    if parsed.database in (None, "", ":memory:") or parsed.query:
        raise InvalidInput(f"{url} names no file that lasts.", _URLS)
    return _SQLite(Path(str(parsed.database)), project, patience)


class _SQLite:
    """A file. It is made whole beside its place and put there, so that an empty or a short one is never ours."""

    def __init__(self, path: Path, project: str, patience: float) -> None:
        self.path, self.name, self.project = path.absolute(), str(path), project
        self._patience = patience
        self.engine = self._engine()

    def _engine(self) -> Engine:
        pool = QueuePool if self._may_write() else NullPool  # what is read as unchanging is opened anew each time
        engine = sql.create_engine("sqlite://", creator=self._connect, poolclass=pool)

        @sql.event.listens_for(engine, "connect")
        def note_file(connection: Any, record: Any) -> None:
            record.info["file"] = self._file()

        return engine

    def _may_write(self) -> bool:
        return all(os.access(path, os.W_OK) for path in (self.path.parent, self.path) if path.exists())

    def _connect(self) -> sqlite3.Connection:
        unchanging = not self._may_write() and not self._has_log()
        address = f"file:{quote(str(self.path))}?mode=rw{'&immutable=1' if unchanging else ''}"
        connection = sqlite3.connect(
            address, uri=True, timeout=self._patience, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")  # a commit returns when the disk has it
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only now the file is looked into
            self._refuse_part_of_a_page(connection)
            return connection
        except BaseException:
            connection.close()
            raise

    def _file(self) -> tuple[int, int] | None:
        with suppress(OSError):
            found = self.path.stat()
            return found.st_dev, found.st_ino
        return None

    @contextmanager
    def connected(self, *, for_writing: bool) -> Iterator[Connection | None]:
        with self._told():
            if not self._is_there():
                if not for_writing:
                    yield None
                    return
                with self._turn():
                    if not self._is_there():  # or another process was first
                        self._make()
            connection = self.engine.connect()
            if connection.info["file"] != self._file():  # another file has this name since
                connection.close()
                self.engine.dispose()
                connection = self.engine.connect()
            with connection:
                yield connection
                if for_writing and connection.info["file"] != self._file():
                    raise StoreError(
                        f"{self.name} was removed or replaced while a decision was written.", "Decide once more."
                    )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Be the one who is next to write: whoever has locked the folder.

        SQLite's own waiting is a matter of luck: who has just written is the first to write again, and beside three
        busy processes a fourth was seen to wait for ten seconds. Here it finds the place of the next one taken.
        """
        if not self.path.parent.is_dir():
            raise StoreError(f"There is no folder {self.path.parent} for {self.path.name}.", "Make it first.")
        folder, until = os.open(self.path.parent, os.O_RDONLY), time.monotonic() + self._patience
        try:
            while not _is_locked(folder):
                if time.monotonic() > until:
                    raise StoreError(f"{self.name} {_BUSY[0].format(self._patience)}.", _BUSY[1])
                time.sleep(0.001)
            yield
        finally:
            os.close(folder)

    def _is_there(self) -> bool:
        """Whether there is a file; raises `StoreError` for what is left of one."""
        if not self.path.exists() and not self._has_log():
            return False
        if not self.path.exists():  # asked once more: another process may have made both in between
            raise StoreError(f"{self.name} is gone; decisions may be in {self.path.name}-wal beside it.", _RESTORE)
        if not self.path.is_file():
            raise StoreError(f"{self.name} is not a file.", "Name another place for the decisions.")
        if self.path.stat().st_size == 0:  # SQLite would take it for a new one
            raise StoreError(f"{self.name} is empty: what was in it is lost.", _RESTORE)
        return True

    def _has_log(self) -> bool:
        """Whether there are events that only the write-ahead log has."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return log.exists() and log.stat().st_size > 0

    def _refuse_part_of_a_page(self, connection: sqlite3.Connection) -> None:
        """SQLite would read zeros for what is missing of the last page.

        Looked at from outside: to open and close the file ourselves would give up SQLite's locks on it.
        """
        (page,), size = connection.execute("PRAGMA page_size").fetchone(), self.path.stat().st_size
        if size % page and not self._has_log():
            raise StoreError(f"{self.name} {_NOT_OURS[0]} ({size:,} bytes).", _RESTORE)

    def _make(self) -> None:
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
        try:
            engine = sql.create_engine("sqlite://", creator=lambda: sqlite3.connect(draft), poolclass=NullPool)
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                _make_tables(connection, self.project)
                connection.commit()
            _flush(draft)
            draft.rename(self.path)
            _flush(self.path.parent)
        finally:
            for end in ("", "-wal", "-shm"):
                draft.with_name(draft.name + end).unlink(missing_ok=True)

    def begin(self, connection: Connection) -> None:
        with self._turn():
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def has_tables(self, connection: Connection) -> bool:
        names = sql.select(sql.func.count()).select_from(sql.text("sqlite_master"))
        if not connection.scalar(names.where(sql.text("name in ('whence_about', 'whence_events')"))):
            raise StoreError(f"{self.name} is another program's database.", "Name another place for the decisions.")
        return True

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what SQLite refuses, and the disk, into one sentence."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            code = (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF
            if code not in _SQLITE_SAYS and "decode to UTF-8" not in str(cause):
                raise
            says, hint = _SQLITE_SAYS.get(code, _NOT_OURS)
            raise StoreError(f"{self.name} {says.format(self._patience)} ({cause}).", hint) from error
        except OSError as error:
            raise StoreError(f"{self.name} cannot be written: {error.strerror}.", _MAY_WRITE) from error


_MAY_WRITE = "Nothing was recorded; give the right to write there, or name another place in WHENCE_FLAGS_URL."
_BUSY = "has been in use by another process for {:.3g} seconds", "Nothing was recorded; try again."
_NOT_OURS = "is damaged, cut short, or no database", _RESTORE
_SQLITE_SAYS = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PERM: ("cannot be used", _MAY_WRITE),
    sqlite3.SQLITE_READONLY: ("may not be written", _MAY_WRITE),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", _MAY_WRITE),
    sqlite3.SQLITE_IOERR: ("cannot be used: the disk fails", "Nothing was recorded; see to the disk first."),
    sqlite3.SQLITE_FULL: ("has no room left", "Nothing was recorded; free some space and try again."),
    sqlite3.SQLITE_CORRUPT: _NOT_OURS,
    sqlite3.SQLITE_NOTADB: _NOT_OURS,
}


def _is_locked(number: int) -> bool:
    """Lock an open file or folder for ourselves, if nobody else has."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flush(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class _PostgreSQL:
    """A server. Writers take turns by a lock on the rows that say what the tables are."""

    def __init__(self, url: URL, project: str, patience: float) -> None:
        self.name, self.project = url.render_as_string(hide_password=True), project
        self._patience, self._found = patience, False
        waits = {"connect_timeout": max(1, round(patience))}
        try:
            self.engine = sql.create_engine(
                url, connect_args=waits, pool_pre_ping=True, isolation_level="READ COMMITTED"
            )
        except (ImportError, NoSuchModuleError) as error:
            raise InvalidInput(
                f"PostgreSQL needs the library psycopg ({error}).", "Run `pip install 'psycopg[binary]'`."
            ) from error

    @contextmanager
    def connected(self, *, for_writing: bool) -> Iterator[Connection | None]:
        with self._told(), self.engine.connect() as connection:
            yield connection

    def begin(self, connection: Connection) -> None:
        milliseconds = round(1000 * self._patience)
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")
        connection.exec_driver_sql("SET LOCAL synchronous_commit = on")  # a commit returns when the disk has it
        if not self.has_tables(connection):  # one process makes them, the others wait and find them
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('whence'))")
            if not self.has_tables(connection):
                _make_tables(connection, self.project)

    def has_tables(self, connection: Connection) -> bool:
        self._found = self._found or sql.inspect(connection).has_table("whence_events")
        return self._found

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn a server that cannot be reached, or will not write, into one sentence."""
        try:
            yield
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None) or ""
            if state and not state.startswith(_POSTGRESQL_SAYS):
                raise
            first = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
            raise StoreError(
                f"The decisions in {self.name} cannot be used: {first}.", "Nothing was recorded; see to the server."
            ) from error


# Beginnings of the SQLSTATEs that are the server's or its keeper's: connection, read-only, login, no such database or
# table, no right, resources, locks, shutdown, disk.
_POSTGRESQL_SAYS = ("08", "25", "28", "3D", "3F", "42501", "42P01", "53", "55", "57", "58")
