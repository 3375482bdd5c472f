"""`arkway serve --workers` on PostgreSQL: one server in several processes, whatever dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import EMBEDDING_MODEL, Home, Served
from tests.tools.client import Connection, Reply
from tests.tools.servers import Postgres
from tests.tools.waiting import PATIENCE_S, until

WORKERS = 2
OUTAGE_S = 1.0
CALL = "/api/v3/tokenization"


@pytest.fixture
def shared(home: Home, postgres_url: str) -> Home:
    """An empty home whose database is on the run's PostgreSQL."""
    home.environ |= {"ARKWAY__DATABASE__URL": postgres_url, "ARKWAY__SERVER__DRAIN_S": "5"}
    return home


def workers_of(served: Served) -> dict[int, psutil.Process]:
    return {child.pid: child for child in psutil.Process(served.process.pid).children()}


def is_replaced(served: Served, pid: int) -> bool:
    there = workers_of(served)
    return pid not in there and len(there) == WORKERS


def first_key(served: Served) -> str:
    return Path(served.said["key_file"]).read_text().strip()


def serving_process(served: Served, connection: Connection) -> int:
    """The id of the process that has taken the connection in."""
    port = connection.socket.getsockname()[1]
    for pid, process in workers_of(served).items():
        if any(there.raddr and there.raddr.port == port for there in process.net_connections("tcp")):
            return pid
    return 0


def one_to_each(served: Served, key: str, stack: ExitStack) -> dict[int, Connection]:
    """A connection to every process; nobody can choose, so they are opened until there is one."""
    found: dict[int, Connection] = {}
    for _ in range(200):
        connection = stack.enter_context(Connection(served.url, key))
        assert connection.get("/api/v3/models").status in (200, 401, 404)
        found.setdefault(serving_process(served, connection), connection)
        if len(found) == WORKERS:
            return found
    pytest.fail("one process takes all connections")


def ask(served: Served, connection: Connection) -> Reply:
    """A call that is on record."""
    return connection.post(CALL, {"model": served.endpoint(EMBEDDING_MODEL), "text": ["hello"]})


class Callers:
    """Four threads that call all the time, each over connections of its own; ``answers`` are statuses."""

    def __init__(self, served: Served, key: str) -> None:
        self.answers: list[int] = []
        self.cut = 0
        self._served, self._key = served, key
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def go_on(self, calls: int = 50) -> None:
        """Until there are so many more answers."""
        wanted = len(self.answers) + calls
        until(lambda: len(self.answers) >= wanted)

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                with Connection(self._served.url, self._key) as connection:
                    for _ in range(20):
                        self.answers.append(ask(self._served, connection).status)
                        time.sleep(0.01)
            except (OSError, ValueError):
                self.cut += 1


def settled(home: Home) -> int:
    """Calls in the database that were answered to their end."""
    with psycopg.connect(home.environ["ARKWAY__DATABASE__URL"]) as connection:
        rows = connection.execute("SELECT request_id FROM usage WHERE outcome = 'done'").fetchall()
    assert len(rows) == len(set(rows))
    return len(rows)


def test_on_sqlite_several_processes_are_refused_with_what_they_need(home: Home) -> None:
    done = home.run("serve", "--workers", "2", "--no-pull")
    assert done.returncode == 1
    assert "PostgreSQL" in done.stderr
    assert "Valkey" in done.stderr
    assert not (home.path / "arkway.db").exists()


def test_several_processes_know_the_same_keys(shared: Home) -> None:
    with shared.serving("--workers", str(WORKERS)) as served, ExitStack() as stack:
        assert served.said["pid"] == served.process.pid
        assert len(workers_of(served)) == WORKERS
        assert len(served.said["endpoints"]) == len({entry["model"] for entry in served.said["endpoints"]})
        made = shared.json("keys", "create", "--name", "new")
        each = one_to_each(served, made["secret"], stack)
        until(lambda: all(ask(served, to).status == 200 for to in each.values()))
        shared.json("keys", "revoke", made["id"])
        until(lambda: all(ask(served, to).status == 401 for to in each.values()))
        assert len(shared.json("keys", "list")) == 2, "the first key was made once"
    assert served.process.returncode == 0
    assert "limits.valkey" in served.errors
    assert "Traceback" not in served.errors


def answered(connection: Connection) -> dict[str, float]:
    """Calls of `ask` answered by each process, by its number, as ``/metrics`` over this connection tells."""
    text = connection.get("/metrics").body.decode()
    return {
        sample.labels["process"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "arkway_requests_total" and sample.labels["operation"] == "tokenization"
    }


def test_metrics_are_everybodys_whichever_is_asked(shared: Home, valkey_url: str) -> None:
    shared.environ["ARKWAY__LIMITS__VALKEY"] = valkey_url
    with shared.serving("--workers", str(WORKERS)) as served, ExitStack() as stack:
        key = first_key(served)
        each = one_to_each(served, key, stack)
        shared.json("limits", "set", "--project", "default", "--rpm", "1000")
        for calls, connection in zip((3, 5), each.values(), strict=True):
            assert [ask(served, connection).status for _ in range(calls)] == [200] * calls
        told = [answered(connection) for connection in each.values()]
        assert told[0] == told[1]
        assert sorted(told[0].values()) == [3, 5]
        victim, survivor = each
        os.kill(victim, signal.SIGKILL)
        until(partial(is_replaced, served, victim))
        assert list(answered(each[survivor]).values()) == [5]


def test_a_killed_process_is_replaced_and_its_calls_are_on_record(shared: Home) -> None:
    with shared.serving("--workers", str(WORKERS)) as served:
        callers = Callers(served, first_key(served))
        for _ in range(3):
            callers.go_on()
            victim = next(iter(workers_of(served)))
            os.kill(victim, signal.SIGKILL)
            until(partial(is_replaced, served, victim))
        callers.go_on()
        callers.stop()
    assert set(callers.answers) == {200}
    drained(shared, served)
    # An answer that was cut off may be settled as done all the same: its end was on the way.
    assert len(callers.answers) <= settled(shared) <= len(callers.answers) + callers.cut
    assert "ended by signal 9" in served.errors


def drained(home: Home, served: Served) -> None:
    """A stop that was not given the time for it leaves calls to the next start, and says so."""
    said = served.errors
    for _ in range(5):
        if not list((home.path / "journal").rglob("*.log")):
            return
        assert "keeps calls for the next start" in said
        with home.serving("--workers", str(WORKERS)) as again:
            assert again.process.poll() is None
        said = again.errors
    pytest.fail("the journal is never empty")


def check_outage(home: Home, server: Postgres, away_s: float) -> str:
    """Nobody notices but /readyz, and afterwards every answer is on record once; what was seen, in words."""
    home.environ |= {"ARKWAY__DATABASE__URL": server.database(), "ARKWAY__SERVER__DRAIN_S": "5"}
    with home.serving("--workers", str(WORKERS)) as served, Connection(served.url, "") as anybody:
        callers = Callers(served, first_key(served))
        callers.go_on()
        server.stop()
        until(lambda: anybody.get("/readyz").json()["status"] == "degraded")
        assert anybody.get("/readyz").status == 200
        assert "usage waits in the journal" in anybody.get("/readyz").json()["warnings"][0]
        time.sleep(away_s)
        callers.go_on()
        server.start()
        began_s = time.monotonic()
        until(lambda: anybody.get("/readyz").json()["status"] == "ok")
        back_s = time.monotonic() - began_s
        callers.go_on()
        callers.stop()
        until(lambda: settled(home) == len(callers.answers))
    assert set(callers.answers) == {200}
    assert callers.cut == 0
    assert served.process.returncode == 0
    calls = len(callers.answers)
    return f"away for {away_s:g} s, {calls} calls, all answered and settled once, ready {back_s:.1f} s after"


def test_an_outage_of_the_database_is_not_seen_by_callers(home: Home, own_postgres: Postgres) -> None:
    assert check_outage(home, own_postgres, OUTAGE_S)


@pytest.mark.long
def test_an_outage_of_a_minute_is_not_seen_by_callers(home: Home, own_postgres: Postgres) -> None:
    said = check_outage(home, own_postgres, 60.0)
    print(said)
    assert said


def test_processes_end_when_the_one_that_watches_is_killed(shared: Home) -> None:
    with shared.serving("--workers", str(WORKERS)) as served:
        processes = list(workers_of(served).values())
        served.process.kill()
        assert psutil.wait_procs(processes, PATIENCE_S)[1] == []


def test_one_process_takes_in_what_several_have_left(shared: Home) -> None:
    with shared.serving("--workers", str(WORKERS)) as served:
        key = first_key(served)
        callers = Callers(served, key)
        until(lambda: len(callers.answers) > 100)
        for process in [psutil.Process(served.process.pid), *workers_of(served).values()]:
            process.kill()
        callers.stop()
    left = {path.parent.name for path in (shared.path / "journal").rglob("*.log")}
    assert left == {"journal", "2"}
    with shared.serving() as alone, Connection(alone.url, key) as connection:
        assert ask(alone, connection).status == 200
    drained(shared, alone)
    assert len(callers.answers) < settled(shared) <= len(callers.answers) + callers.cut + 1
