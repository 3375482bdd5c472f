"""The programs of other languages that hold their SDKs, built with the toolchains this machine has.

Each is built from its locked versions into ``.cache/sdk/<name>``, with every download under ``.cache`` too, and anew
only when its sources, its locks or its toolchain have changed; two processes that want the same one wait for each
other. ``python tests/sdk/toolchains.py [program or language...]`` builds beforehand.

Where a toolchain is missing, `need` skips the test and says what is missing; with ``ARKWAY_REQUIRE_SDKS=1`` in the
environment it fails instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CACHE = ROOT / ".cache"
BUILT = CACHE / "sdk"

TOOLS = {"go": ("go",), "node": ("node", "npm"), "java": ("java", "javac", "mvn")}
VERSIONS = {"go": ("go", "version"), "node": ("node", "--version"), "java": ("java", "-version")}

BUILD_TIMEOUT_S = 1200


class Program(msgspec.Struct, frozen=True):
    """One program: what it is made of, and how. ``make`` is given the empty folder to build into."""

    language: str
    sources: tuple[Path, ...]
    make: Callable[[Path], None]
    command: Callable[[Path], list[str]]


def missing(language: str) -> str:
    """Why programs of this language cannot be built here; empty where they can."""
    absent = [tool for tool in TOOLS[language] if shutil.which(tool) is None]
    return f"{language}: {' and '.join(absent)} not found on PATH" if absent else ""


def need(language: str) -> None:
    """Skips the test where the toolchain is missing, or fails it where that is not allowed."""
    # Building beforehand happens outside of pytest.
    import pytest

    reason = missing(language)
    if reason and os.environ.get("ARKWAY_REQUIRE_SDKS") == "1":
        pytest.fail(f"{reason}, and ARKWAY_REQUIRE_SDKS=1 forbids to skip")
    if reason:
        pytest.skip(reason)


def command(name: str) -> list[str]:
    """The command that starts a program; builds it where it is missing or out of date."""
    program = PROGRAMS[name]
    place = BUILT / name
    wanted = _stamp(program)
    with _locked(name):
        stamp = place / "stamp"
        if not (stamp.exists() and stamp.read_text() == wanted):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            program.make(place)
            stamp.write_text(wanted)
    return program.command(place)


def run(*arguments: str, cwd: Path, environ: dict[str, str] | None = None) -> str:
    """Standard output of a command that has to succeed; raises RuntimeError with all it printed where it does not."""
    done = subprocess.run(
        arguments,
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} failed in {cwd}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _files(*places: Path) -> tuple[Path, ...]:
    return tuple(sorted(file for place in places for file in place.iterdir() if file.is_file()))


def _stamp(program: Program) -> str:
    # Java tells its version on standard error.
    told = subprocess.run(VERSIONS[program.language], capture_output=True, timeout=60, check=True)
    digest = hashlib.sha256(told.stdout + told.stderr)
    for source in program.sources:
        digest.update(f"\0{source.relative_to(ROOT)}\0".encode() + source.read_bytes())
    return digest.hexdigest()


@contextmanager
def _locked(name: str) -> Generator[None]:
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# Go: one folder of sources per SDK, one file of locked modules (and its sums) per version of it.

GO_CACHE = CACHE / "go"
GO_ENVIRONMENT = {
    "GOPATH": str(GO_CACHE),
    "GOMODCACHE": str(GO_CACHE / "mod"),
    "GOCACHE": str(GO_CACHE / "build"),
    "GOWORK": "off",
}
# name -> folder of its sources, file of its versions, build tags
GO_LINES = {
    "go-maas": ("maas", "go.mod", ""),
    "go-maas-2024": ("maas", "go-2024.mod", "sdk2024"),
    "go-ark": ("ark", "go.mod", ""),
    "go-ark-2024": ("ark", "go-2024.mod", "sdk2024"),
}


def go_build(name: str, output: Path, *sources: Path) -> None:
    """Builds with the locked modules of one line: its own program, or the sources named."""
    folder, versions, tags = GO_LINES[name]
    options = ["-buildvcs=false", "-mod=readonly", "-modcacherw", f"-modfile={versions}", f"-tags={tags}"]
    wanted = [str(source) for source in sources] or ["."]
    run("go", "build", *options, "-o", str(output), *wanted, cwd=HERE / "go" / folder, environ=GO_ENVIRONMENT)


def _go(name: str) -> Program:
    def make(place: Path) -> None:
        go_build(name, place / "program")

    sources = _files(HERE / "go" / GO_LINES[name][0], HERE / "go" / "lines")
    return Program("go", sources, make, lambda place: [str(place / "program")])


# Node: the program runs from a copy beside the modules that were installed for it.

NPM_CACHE = CACHE / "npm"
NPM_OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


def _make_node(place: Path) -> None:
    for source in _files(HERE / "node"):
        shutil.copy(source, place)
    run("npm", "ci", *NPM_OPTIONS, "--cache", str(NPM_CACHE), cwd=place)


def _node() -> Program:
    return Program("node", _files(HERE / "node"), _make_node, lambda place: ["node", str(place / "driver.js")])


# Java: one folder of sources per SDK, one pom per version of it; what the folders share lies above them.

MAVEN_REPOSITORY = CACHE / "m2"
JAVA = HERE / "java"
# name -> folder of its sources, file of its versions, main class
JAVA_LINES = {
    "java-maas": ("maas", "pom.xml", "MaasDriver"),
    "java-maas-2024": ("maas", "pom-2024.xml", "MaasDriver"),
    "java-ark": ("ark", "pom.xml", "ArkDriver"),
    "java-ark-2024": ("ark", "pom-2024.xml", "ArkDriver"),
    "java-control": ("control", "pom.xml", "ControlDriver"),
}
# For short runs on few cores the cheap compiler and the cheap collector are the fast ones.
JVM = (
    "java",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xmx256m",
    "-Dfile.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
)


def java_compile(name: str, output: Path, *sources: Path) -> list[str]:
    """Compiles sources into a folder with the locked jars of one line, the program of which is there already; gives
    back the command that starts a class of them, but for its name."""
    path = output / "path"
    path.write_text(f'-classpath "{output}{os.pathsep}{(BUILT / name / "jars").read_text().strip()}"\n')
    # No annotation processors: volc-sdk-java brings a lombok that Java 17 refuses.
    run("javac", f"@{path}", "-proc:none", "-encoding", "UTF-8", "-d", str(output), *map(str, sources), cwd=output)
    return [*JVM, f"@{path}"]


def _resolve(versions: Path, jars: Path) -> None:
    options = ["--batch-mode", "--quiet", "--strict-checksums", f"-Dmaven.repo.local={MAVEN_REPOSITORY}"]
    with _locked("maven"):  # its repository takes one writer at a time
        run("mvn", *options, "-f", str(versions), "dependency:build-classpath", f"-Dmdep.outputFile={jars}", cwd=JAVA)


def _java(name: str) -> Program:
    folder, versions, main_class = JAVA_LINES[name]
    sources = [file for file in _files(JAVA, JAVA / folder) if file.suffix == ".java"]

    def make(place: Path) -> None:
        _resolve(JAVA / folder / versions, place / "jars")
        java_compile(name, place, *sources)

    return Program(
        "java", (JAVA / folder / versions, *sources), make, lambda place: [*JVM, f"@{place / 'path'}", main_class]
    )


PROGRAMS: dict[str, Program] = {
    **{name: _go(name) for name in GO_LINES},
    "node": _node(),
    **{name: _java(name) for name in JAVA_LINES},
}


def main(wanted: list[str]) -> None:
    """Builds these programs (or those of these languages), or all; a missing toolchain is told and passed over."""
    unknown = set(wanted) - set(PROGRAMS) - set(TOOLS)
    if unknown:
        known = ", ".join([*TOOLS, *PROGRAMS])
        raise SystemExit(f"no such program or language: {', '.join(sorted(unknown))}; there are {known}")
    for name in _chosen(wanted):
        reason = missing(PROGRAMS[name].language)
        started_s = time.monotonic()
        where = f"left out: {reason}" if reason else " ".join(command(name))
        print(f"{name}: {where} ({time.monotonic() - started_s:.1f} s)", flush=True)


def _chosen(wanted: list[str]) -> Iterable[str]:
    return [name for name, program in PROGRAMS.items() if not wanted or {name, program.language} & set(wanted)]


if __name__ == "__main__":
    main(sys.argv[1:])
