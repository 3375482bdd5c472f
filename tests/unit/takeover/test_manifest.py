"""Files are changed and put back byte for byte, whenever somebody pulls the plug."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from arkway.core.errors import Misconfigured
from arkway.takeover.manifest import Manifest, Restored
from tests.unit.takeover.killing import killed_at_every_step

NOW_S = 1_800_000_000
OLD_NS = 1_600_000_000_123_456_789
AS_IT_WAS = b"authorities\r\n\x00\xff"


class Scene:
    """A file in an environment, and a folder of ours."""

    def __init__(self, folder: Path) -> None:
        self.manifest = Manifest(folder / "home" / "takeover")
        self.environment = folder / "environment"
        self.environment.mkdir(parents=True)
        self.file = self.environment / "cacert.pem"
        self.file.write_bytes(AS_IT_WAS)
        self.file.chmod(0o640)
        os.utime(self.file, ns=(OLD_NS, OLD_NS))

    def change(self, content: bytes = b"more") -> None:
        with self.manifest.alone():
            self.manifest.change(self.file, content, target="python", ca_sha256="CA", now_s=NOW_S)

    def restore(self, *, force: bool = False, forget: bool = False) -> tuple[Restored, ...]:
        with self.manifest.alone():
            return self.manifest.restore(force=force, forget=forget)

    def is_as_it_was(self) -> bool:
        found = self.file.stat()
        same = (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o640, OLD_NS)
        alone = [each.name for each in self.environment.iterdir()] == [self.file.name]
        return same and alone and self.file.read_bytes() == AS_IT_WAS

    def outcome(self) -> str:
        (restored,) = self.restore()
        return restored.outcome


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def leftovers(manifest: Manifest, folder: Path) -> list[Path]:
    """What is left of a manifest that has nothing to do any more."""
    assert manifest.entries() == ()
    return [each for each in folder.rglob("*") if each.is_file() and each.name != "manifest.lock"]


def test_a_change_is_undone_with_mode_and_time(scene: Scene) -> None:
    scene.change(b"more")
    assert scene.file.read_bytes() == b"more"
    assert stat.S_IMODE(scene.file.stat().st_mode) == 0o640
    assert scene.file.stat().st_mtime_ns != OLD_NS
    assert scene.outcome() == "restored"
    assert scene.is_as_it_was()
    assert scene.restore() == ()


def test_what_is_written_down_is_enough_to_do_it_by_hand(scene: Scene) -> None:
    scene.change(b"more")
    (entry,) = scene.manifest.entries()
    assert entry.before is not None
    assert (entry.path, entry.target, entry.at_s) == (str(scene.file), "python", NOW_S)
    assert entry.before.sha256 == hashlib.sha256(AS_IT_WAS).hexdigest()
    assert entry.after_sha256 == hashlib.sha256(b"more").hexdigest()
    (backup,) = (scene.manifest._folder / "backups").iterdir()
    assert (backup.name, backup.read_bytes()) == (entry.id, AS_IT_WAS)


def test_a_kill_at_any_step_of_a_change_can_be_undone(tmp_path: Path) -> None:
    scenes: list[Scene] = []

    def act() -> None:
        scenes[-1].change()

    scenes.append(Scene(tmp_path / "0"))
    for step in killed_at_every_step(act):
        scenes[-1].restore()
        assert scenes[-1].is_as_it_was(), step
        assert leftovers(scenes[-1].manifest, scenes[-1].manifest._folder) == []
        scenes.append(Scene(tmp_path / str(step)))
    assert len(scenes) > 10


def test_a_kill_at_any_step_of_a_restoration_can_be_gone_on_with(tmp_path: Path) -> None:
    scenes: list[Scene] = []

    def act() -> None:
        scenes[-1].restore()

    def changed(name: str) -> Scene:
        made = Scene(tmp_path / name)
        made.change()
        return made

    scenes.append(changed("0"))
    for step in killed_at_every_step(act):
        scenes[-1].restore()
        assert scenes[-1].is_as_it_was(), step
        assert leftovers(scenes[-1].manifest, scenes[-1].manifest._folder) == []
        scenes.append(changed(str(step)))
    assert len(scenes) > 10


def test_a_kill_at_any_step_of_a_second_change_keeps_the_first_state(tmp_path: Path) -> None:
    scenes: list[Scene] = []

    def act() -> None:
        scenes[-1].change(b"yet more")

    def changed(name: str) -> Scene:
        made = Scene(tmp_path / name)
        made.change()
        return made

    scenes.append(changed("0"))
    for step in killed_at_every_step(act):
        scenes[-1].restore()
        assert scenes[-1].is_as_it_was(), step
        scenes.append(changed(str(step)))
    assert len(scenes) > 20


def test_a_file_that_was_made_is_removed(scene: Scene) -> None:
    made = scene.environment / "bundle.pem"
    with scene.manifest.alone():
        scene.manifest.change(made, b"bundle", target="bundle", ca_sha256="CA", now_s=NOW_S)
    assert made.read_bytes() == b"bundle"
    assert scene.outcome() == "restored"
    assert scene.is_as_it_was()


@pytest.mark.parametrize("gone", [False, True])
def test_what_somebody_else_changed_is_left_alone_and_said(scene: Scene, gone: bool) -> None:
    scene.change()
    if gone:
        scene.file.unlink()
    else:
        scene.file.write_bytes(b"theirs")
    for _ in range(2):
        with pytest.raises(Misconfigured, match="changed by somebody else") as caught:
            scene.restore()
        assert str(scene.file) in caught.value.message
        assert "--force" in caught.value.message
    assert gone != scene.file.exists()
    scene.restore(force=True)
    assert scene.is_as_it_was()


def test_it_can_be_forgotten(scene: Scene) -> None:
    scene.change()
    scene.file.write_bytes(b"theirs")
    assert [each.outcome for each in scene.restore(forget=True)] == ["forgotten"]
    assert scene.file.read_bytes() == b"theirs"
    assert leftovers(scene.manifest, scene.manifest._folder) == []


def test_one_that_is_left_alone_does_not_keep_the_others(scene: Scene) -> None:
    other = scene.environment / "other.pem"
    other.write_bytes(b"other")
    scene.change()
    with scene.manifest.alone():
        scene.manifest.change(other, b"changed", target="python", ca_sha256="CA", now_s=NOW_S)
    scene.file.write_bytes(b"theirs")
    with pytest.raises(Misconfigured):
        scene.restore()
    assert other.read_bytes() == b"other"
    assert [entry.path for entry in scene.manifest.entries()] == [str(scene.file)]


def test_an_environment_that_is_gone_needs_nothing(scene: Scene) -> None:
    scene.change()
    scene.file.unlink()
    scene.environment.rmdir()
    assert scene.outcome() == "gone"
    assert not scene.environment.exists()


def test_others_who_share_the_file_see_nothing_of_it(scene: Scene, tmp_path: Path) -> None:
    shared = tmp_path / "cache.pem"
    os.link(scene.file, shared)
    scene.change()
    assert shared.read_bytes() == AS_IT_WAS


def test_a_damaged_backup_is_not_put_back(scene: Scene) -> None:
    scene.change()
    (backup,) = (scene.manifest._folder / "backups").iterdir()
    backup.write_bytes(b"damaged")
    with pytest.raises(Misconfigured, match="damaged and not put back"):
        scene.restore()
    assert scene.file.read_bytes() == b"more"


def test_a_damaged_manifest_is_said(scene: Scene) -> None:
    scene.change()
    (scene.manifest._folder / "manifest.json").write_bytes(b"{")
    with pytest.raises(Misconfigured, match="which files were changed"):
        scene.restore()


def test_a_folder_is_not_changed(scene: Scene) -> None:
    with pytest.raises(Misconfigured, match="is no file"), scene.manifest.alone():
        scene.manifest.change(scene.environment, b"", target="python", ca_sha256="CA", now_s=NOW_S)
    assert scene.manifest.entries() == ()


@pytest.mark.skipif(os.getuid() == 0, reason="to root every folder is open")
def test_a_folder_that_cannot_be_written_to_leaves_nothing_behind(scene: Scene) -> None:
    scene.environment.chmod(0o500)
    with pytest.raises(Misconfigured, match="nothing was changed"):
        scene.change()
    scene.environment.chmod(0o700)
    assert scene.manifest.entries() == ()
    assert scene.is_as_it_was()
