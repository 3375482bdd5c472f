"""The child process: what it may not do, how it ends, and that its parent does not notice."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from arkway.core.errors import BackendUnavailable, BadRequest, Misconfigured
from arkway.knowledge.chunking import chunk
from arkway.knowledge.parsing import Cancelled, Limits, Unreadable, chunks_in_child, landlock, parse_in_child
from arkway.knowledge.parsing.frames import Failure, Unequipped, framed
from tests.tools.waiting import until
from tests.unit.knowledge.parsing.files import docx, paragraph, pdf, xlsx_members, xlsx_rows, zipped

TEXT = "方舟。".encode()
PATIENT = Limits(wall_s=120, cpu_s=60)


def scripted(source: str) -> tuple[str, ...]:
    return (sys.executable, "-c", source)


def refused(command: Sequence[str], limits: Limits = PATIENT) -> Unreadable:
    with pytest.raises(Unreadable) as raised:
        parse_in_child("a.txt", TEXT, limits, command=command)
    return raised.value


@pytest.mark.parametrize(
    "name, body, markdown",
    [
        ("a.txt", TEXT, "方舟。"),
        ("a.docx", docx(paragraph("方舟。")), "方舟。"),
        ("a.pdf", pdf([["方舟。"]]), "方舟。"),
        ("a.xlsx", zipped(xlsx_members({"表": xlsx_rows([["方舟。"]])})), "## 表\n\n方舟。"),
    ],
)
def test_what_the_child_reads_arrives(name: str, body: bytes, markdown: str) -> None:
    assert parse_in_child(name, body, PATIENT).markdown == markdown


def test_the_child_can_make_the_chunks_as_well() -> None:
    body = ("# 手册\n\n" + "一句话说一件事。" * 100).encode()
    parsed, chunks = chunks_in_child("a.md", body, "d" * 32, PATIENT, chunk_limit=200)
    whole = parse_in_child("a.md", body, PATIENT)
    assert chunks == chunk(whole, "d" * 32, 200)
    assert parsed == msgspec.structs.replace(whole, markdown="", outline=())
    assert len(chunks) > 3


def test_a_large_file_goes_through_both_ways() -> None:
    text = "一二三四五六七八九十。\n" * 200_000
    assert parse_in_child("a.txt", text.encode(), PATIENT).markdown == text


def test_a_refusal_arrives_with_its_reason_and_is_the_callers_fault() -> None:
    with pytest.raises(Unreadable, match="remove the password") as raised:
        parse_in_child("a.pdf", pdf([["x"]], sealed=True), PATIENT)
    assert isinstance(raised.value, BadRequest)
    assert (raised.value.reason, raised.value.field) == ("encrypted", "file")


@pytest.mark.parametrize("name, body", [("a.exe", b"x"), ("a.txt", b""), ("a.txt", b"123")])
def test_what_is_refused_by_name_and_size_starts_no_process(name: str, body: bytes) -> None:
    with pytest.raises(Unreadable):
        parse_in_child(name, body, Limits(upload_bytes=2), command=("/nonexistent/python",))


def test_a_file_that_wants_more_memory_than_there_is() -> None:
    far = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    with pytest.raises(Unreadable, match="more than 512 MiB of memory") as raised:
        parse_in_child("a.xlsx", zipped(xlsx_members({"a": far})), PATIENT)
    assert raised.value.reason == "memory"


def test_python_code_out_of_memory_says_so() -> None:
    limits = Limits(memory_bytes=96 * 1024 * 1024, text_bytes=1 << 30, wall_s=120)
    with pytest.raises(Unreadable, match="more than 96 MiB of memory to read; split it") as raised:
        parse_in_child("a.txt", b"x" * (90 * 1024 * 1024), limits)
    assert raised.value.reason == "memory"


def test_the_limit_of_processor_time_ends_it() -> None:
    quadratic = b"<!--" * 300_000  # the standard library's HTML parser looks for each comment's end to the end
    with pytest.raises(Unreadable, match="more than 1 s of processor time") as raised:
        parse_in_child("a.html", quadratic, Limits(cpu_s=1, wall_s=120))
    assert raised.value.reason == "time"


def test_a_child_that_hangs_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    source = f"""
import os, subprocess, sys, time
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(note)!r}, "w").write(f"{{os.getpid()}} {{other.pid}}")
time.sleep(600)
"""
    cancelled = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        parsing = pool.submit(parse_in_child, "a.txt", TEXT, PATIENT, cancelled=cancelled, command=scripted(source))
        until(lambda: note.exists() and len(note.read_text().split()) == 2)
        cancelled.set()
        with pytest.raises(Cancelled):
            parsing.result(60)
    child, grandchild = map(int, note.read_text().split())
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    until(lambda: is_gone(grandchild))


def is_gone(pid: int) -> bool:
    """Whether the process has ended; one that its new parent has not buried yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_the_deadline_ends_a_child_that_neither_reads_nor_answers() -> None:
    body = b"x" * 1_000_000  # more than a pipe holds
    with pytest.raises(Unreadable, match=r"takes too long to read, more than 20 s of processor time or 0\.5 s in all"):
        parse_in_child("a.txt", body, Limits(wall_s=0.5), command=scripted("import time; time.sleep(600)"))


@pytest.mark.parametrize(
    "source, reason",
    [
        ("import os; os.kill(os.getpid(), 9)", "killed"),
        ("import os; os.abort()", "memory"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "time"),
        ("raise SystemExit(3)", "killed"),
        ("print('Traceback')", "killed"),
        ("import sys; sys.stdout.buffer.write((5).to_bytes(8, 'big') + b'short')", "killed"),
        ("import sys; sys.stdout.buffer.write((900).to_bytes(8, 'big') + b'short')", "killed"),
        ("while True: print('x' * 100000)", "killed"),
    ],
)
def test_a_child_that_ends_without_an_answer(source: str, reason: str) -> None:
    error = refused(scripted(source), Limits(wall_s=120, text_bytes=1_000_000))
    assert error.reason == reason
    assert "split it" in error.message


def test_a_child_cannot_say_more_than_a_sentence() -> None:
    answer = framed(Failure("broken", "x" * 100_000))
    error = refused(scripted(f"import sys, zlib; sys.stdout.buffer.write({answer[:40]!r} + b'x' * {len(answer) - 40})"))
    assert len(error.message) <= 1000


def test_without_the_extra_it_says_what_to_install() -> None:
    answer = framed(Unequipped("mammoth"))
    with pytest.raises(Misconfigured, match=r"pip install 'arkway\[knowledge\]'"):
        parse_in_child("a.txt", TEXT, command=scripted(f"import sys; sys.stdout.buffer.write({answer!r})"))


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(BackendUnavailable, match="no process could be started"):
        parse_in_child("a.txt", TEXT, command=("/nonexistent/python",))


def test_the_child_knows_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ARKWAY_SECRET", "hidden")
    note = tmp_path / "environment"
    refused(scripted(f"import os; open({str(note)!r}, 'w').write(' '.join(os.environ))"))
    assert set(note.read_text().split()) <= {"PYTHONPATH", "LD_LIBRARY_PATH", "LC_CTYPE"}  # the last is Python's own


CONFINED = """
import os, resource, socket, sys
from arkway.knowledge.parsing.confinement import confine
from arkway.knowledge.parsing.parsed import Limits
import msgspec
answers = os.fdopen(os.dup(1), "wb")
isolated = confine(Limits())
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10).close()
    reached = True
except OSError:
    reached = False
try:
    with open(sys.argv[2], "wb", buffering=0) as out:
        written = out.write(b"x")
except OSError:
    written = 0
def readable(path):
    try:
        with open(path, "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False
try:
    if sys.argv[3] == "True":
        os.execv("/bin/true", ["true"])  # there would be no answer
except OSError:
    pass
files = [readable(path) for path in ("/etc/passwd", msgspec.__file__)]
if os.getuid() == 0:  # no limit of processes holds root
    os.setuid(65534)
try:
    pid = os.fork()
    started = pid >= 0
    if pid == 0:
        os._exit(0)
except OSError:
    started = False
names = ("AS", "CPU", "CORE", "FSIZE", "NPROC")
limits = {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))[0] for name in names}
told = {"isolated": isolated, "reached": reached, "written": written, "limits": limits, "started": started}
answers.write(msgspec.msgpack.encode({**told, "files": files}))
"""


class Found(msgspec.Struct):
    isolated: bool
    reached: bool
    written: int
    limits: dict[str, int]
    started: bool
    files: list[bool]


def test_a_confined_process_has_limits_no_files_and_where_allowed_no_network(tmp_path: Path) -> None:
    has_landlock = landlock.version() > 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        told = (port, str(tmp_path / "file"), str(has_landlock))
        out = subprocess.check_output([*scripted(CONFINED), *told], timeout=60)
    found = msgspec.msgpack.decode(out, type=Found)
    assert found.reached is not (found.isolated or landlock.version() >= 4)
    assert found.written == 0
    assert found.limits == {"AS": 512 * 1024 * 1024, "CPU": 20, "CORE": 0, "FSIZE": 0, "NPROC": 0}
    assert not found.started
    assert found.files == [not has_landlock, True]  # somebody's, and a library's


def test_many_at_a_time_leave_nothing_behind() -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda n: parse_in_child(f"{n}.txt", f"第{n}篇。".encode(), PATIENT).markdown, range(12)))
    assert texts == [f"第{n}篇。" for n in range(12)]
    assert len(os.listdir("/proc/self/fd")) == open_before
