"""Connections to PostgreSQL, and its errors in the words of `arkway.core.errors`. No password ever gets into one."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from arkway.core.errors import Misconfigured, StoreUnavailable

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.types.string import StrDumper
except ImportError as missing:
    raise Misconfigured(
        "a PostgreSQL database needs its driver, which is not installed: pip install 'arkway[postgres]'"
    ) from missing

FORM = "postgresql://user:password@host:5432/name (characters such as @ : / ? # in the password as %40 %3A %2F %3F %23)"
CONNECT_S = 5
IDLE_IN_TRANSACTION_S = 30
# A peer that has vanished without a word is noticed within about ten seconds.
KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
AWAY = "the database cannot be reached just now"
NOT_AVAILABLE = "55P03"
READ_ONLY = "25006"


class _Text(StrDumper):
    """PostgreSQL's text cannot hold the character NUL, and a caller may send one: it becomes U+FFFD."""

    def dump(self, obj: str) -> bytes | bytearray | memoryview | None:
        return super().dump(obj.replace("\0", "\ufffd"))


class Link:
    """Where the database is. Raises Misconfigured for a URL that cannot be read.

    ``name`` tells it to people: database, host and port.
    """

    def __init__(self, url: str, *, busy_s: float, application: str = "arkway") -> None:
        self._known: dict[str, str | int] = _parsed(url)
        self._busy_s, self._application = busy_s, application
        host = self._known.get("host", "localhost")
        port = self._known.get("port")
        self.name = f"`{self._known.get('dbname', '')}` at {host}{f':{port}' if port else ''}"

    def engine(self) -> sa.Engine:
        """Makes connections as `connect` does."""
        return sa.create_engine("postgresql+psycopg://", creator=self.connect, poolclass=NullPool)

    def connect(self) -> psycopg.Connection:
        """A new connection. Raises StoreUnavailable."""
        defaults: dict[str, str | int] = {
            "connect_timeout": CONNECT_S,
            "target_session_attrs": "read-write",
            **KEEPALIVE,
        }
        fixed = {"application_name": self._application, "client_encoding": "UTF8"}
        try:
            known = make_conninfo("", **{**defaults, **self._known, **fixed})
            connection = psycopg.connect(known, autocommit=True)
        except psycopg.Error as error:
            raise StoreUnavailable(f"the database {self.name} cannot be reached: {self._reason(error)}") from None
        connection.adapters.register_dumper(str, _Text)
        with translated():
            connection.execute(_SESSION, (str(round(self._busy_s * 1000)), str(IDLE_IN_TRANSACTION_S * 1000)))
        connection.autocommit = False
        return connection

    def _reason(self, error: psycopg.Error) -> str:
        text = " ".join(str(error).split())
        password = str(self._known.get("password") or "")
        return text.replace(password, "***") if password else text


# A waiter for a lock gives up; a process that was stopped within a transaction does not hold its locks for ever. What
# is deleted from the journal has to be on the database's disk.
_SESSION = b"""
SELECT set_config('lock_timeout', %s, false), set_config('idle_in_transaction_session_timeout', %s, false),
       set_config('synchronous_commit',
                  CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
                  ELSE current_setting('synchronous_commit') END, false)
"""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Errors of the driver become StoreUnavailable, with a sentence that callers may see."""
    try:
        yield
    except (sa.exc.DBAPIError, psycopg.Error) as error:
        raise StoreUnavailable(said(error)) from error


def said(error: BaseException | None) -> str:
    """What to say of an error: nothing of a row and nothing of the way to the server."""
    if isinstance(error, sa.exc.DBAPIError):
        return AWAY if error.connection_invalidated else said(error.orig)
    if not isinstance(error, psycopg.Error):
        return str(error)
    if error.sqlstate == NOT_AVAILABLE:
        return "another process has kept the database locked for too long; try again in a moment"
    return AWAY if is_lost(error) else f"the database refused: {error.diag.message_primary or error}"


def is_lost(error: BaseException | None) -> bool:
    """Whether the connection is of no use any more: cut, or to a server that has become a standby."""
    if isinstance(error, sa.exc.DBAPIError):
        return error.connection_invalidated or is_lost(error.orig)
    return isinstance(error, psycopg.Error) and (error.sqlstate == READ_ONLY or _is_of_the_connection(error))


def driver_of(connection: sa.Connection) -> psycopg.Connection:
    """The driver's own object behind SQLAlchemy's."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def cut(connection: psycopg.Connection) -> None:
    """End the connection from another thread, at once: whoever waits for its answer gets an error."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as ours:
        ours.shutdown(socket.SHUT_RDWR)


def _is_of_the_connection(error: psycopg.Error) -> bool:
    """Class 57P: the server goes down, or an operator has ended the connection; 08: it broke; none: so the driver."""
    state = error.sqlstate
    return isinstance(error, psycopg.OperationalError) and (state is None or state.startswith(("57P", "08", "25P03")))


def _parsed(url: str) -> dict[str, str | int]:
    """The parts of the URL, as libpq takes them. Raises Misconfigured, which shows nothing of it."""
    wrong = Misconfigured(f"the setting `database.url` cannot be read; it has the form {FORM}")
    scheme, _, rest = url.partition("://")
    try:
        parts = conninfo_to_dict(f"{scheme.removesuffix('+psycopg')}://{rest}")
    except psycopg.ProgrammingError:
        raise wrong from None
    known = {name: value for name, value in parts.items() if value is not None}
    ports = str(known.get("port", "")).replace(",", "")
    if "@" in str(known.get("host", "")) or (ports and not ports.isdecimal()):
        raise wrong
    return known
