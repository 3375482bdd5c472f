from __future__ import annotations

import socket
from pathlib import Path

import pytest

from arkway.admin import doctor


def test_every_check_is_made(tmp_path: Path) -> None:
    checks = doctor.examine(tmp_path, models=["a:1"])
    assert len({check.name for check in checks}) == len(checks) == 12
    assert all(check.mend for check in checks if check.status != "ok")


def test_only_failures_make_it_unhealthy() -> None:
    warning = doctor.check_models(())
    assert (warning.status, warning.mend) == ("warn", "arkway pull")
    assert doctor.healthy([warning])
    assert not doctor.healthy([warning, doctor.check_python((3, 10, 2))])


def test_python_and_sqlite() -> None:
    assert [doctor.check_python(version).status for version in ((3, 10, 9), (3, 11, 0), (4, 0, 0))] == [
        "fail",
        "ok",
        "ok",
    ]
    assert [doctor.check_sqlite(version).status for version in ((3, 34, 1), (3, 35, 0))] == ["fail", "ok"]


def test_a_missing_library_is_found() -> None:
    def absent(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    check = doctor.check_library("libgomp.so.1", "apt-get install libgomp1", absent)
    assert (check.status, check.mend) == ("fail", "apt-get install libgomp1")
    assert doctor.check_library("libc.so.6", "").status == "ok"
    assert doctor.check_library("libnowhere.so.9", "x").status == "fail"


@pytest.mark.parametrize(
    "machine, cpuinfo, status",
    [
        ("x86_64", "processor: 0\nflags\t\t: fpu avx2 fma f16c bmi2\n", "ok"),
        ("x86_64", "processor: 0\nflags\t\t: fpu avx fma f16c\n", "fail"),
        ("x86_64", "", "warn"),
        ("aarch64", "", "ok"),
    ],
)
def test_processors(machine: str, cpuinfo: str, status: str) -> None:
    assert doctor.check_processor(machine, cpuinfo).status == status


def test_packages_are_looked_up() -> None:
    assert doctor.check_package("msgspec", "fail", "x").status == "ok"
    assert doctor.check_package("no_such_module", "warn", "x").status == "warn"


def test_pip_is_looked_up() -> None:
    assert doctor.check_pip().status == "ok"
    missing = doctor.check_pip(lambda name: None)
    assert (missing.status, "ensurepip" in missing.mend) == ("warn", True)


def test_what_the_engine_needs_is_part_of_the_whole(tmp_path: Path) -> None:
    needs = {check.name for check in doctor.examine_engine()}
    assert needs == {"libgomp.so.1", "processor", "xllamacpp"}
    assert needs < {check.name for check in doctor.examine(tmp_path, models=[])}


def test_a_busy_port_is_found() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(1)
        port = busy.getsockname()[1]
        check = doctor.check_port("127.0.0.1", port)
        assert (check.status, str(port) in check.found) == ("warn", True)
    assert doctor.check_port("127.0.0.1", port).status == "ok"


def test_the_data_directory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert "will be made" in doctor.check_home(home).found
    home.mkdir(mode=0o700)
    assert doctor.check_home(home).status == "ok"
    home.chmod(0o755)
    assert doctor.check_home(home).mend == f"chmod 700 {home}"
    check = doctor.check_home(Path("/proc/1/nowhere"))
    assert check.status == "fail"


def test_disk_and_clock(tmp_path: Path) -> None:
    sizes = (1 << 20, 1 << 30, 1 << 40)
    assert [doctor.check_disk(tmp_path, size).status for size in sizes] == ["fail", "warn", "ok"]
    now = 1_800_000_000.0
    assert doctor.check_clock(now, now).status == "ok"
    assert doctor.check_clock(0.0, 0.0).status == "fail"
    assert doctor.check_clock(now, now + 200_000).status == "warn"
    assert doctor.free_bytes(tmp_path / "not" / "there") > 0
