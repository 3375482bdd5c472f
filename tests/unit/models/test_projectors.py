"""Models that read images: a second file beside the model's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from arkway.cli import group
from arkway.core.errors import Misconfigured
from arkway.models.pull import pull, pull_projector
from arkway.models.store import InstalledModel, ModelStore
from tests.tools.random_gguf import write_random_gguf
from tests.tools.random_projector import write_random_projector


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and two projectors."""
    folder = tmp_path_factory.mktemp("files")
    write_random_gguf(folder / "eyes.gguf", context=512)
    write_random_projector(folder / "one.gguf")
    write_random_projector(folder / "two.gguf", seed=4)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", find_package=lambda _: None)


async def pulled(store: ModelStore, files: Path, projector: str = "one", version: str = "1") -> InstalledModel:
    model = await pull(store, f"file:{files}/eyes.gguf", name="eyes", version=version)
    return await pull_projector(store, model, f"file:{files}/{projector}.gguf") if projector else model


async def test_a_model_with_a_projector_reads_images(store: ModelStore, files: Path) -> None:
    text = await pulled(store, files, "")
    assert (text.projector, "images" in text.card.capabilities) == (None, False)
    model = await pulled(store, files)
    assert model.projector is not None
    assert model.projector.read_bytes() == (files / "one.gguf").read_bytes()
    assert model.card.capabilities == (*text.card.capabilities, "images")
    assert store.find("eyes") == model
    assert await pulled(store, files, "") == model, "a model that is pulled once more still sees"
    assert [verdict.status for verdict in store.verify()] == ["intact"]


def blobs(store: ModelStore) -> int:
    return len(list((store.root / "blobs").iterdir()))


async def test_another_projector_takes_its_place(store: ModelStore, files: Path) -> None:
    await pulled(store, files)
    model = await pulled(store, files, "two")
    assert model.projector is not None
    assert model.projector.read_bytes() == (files / "two.gguf").read_bytes()
    assert blobs(store) == 2


async def test_it_goes_with_the_last_model_that_has_it(store: ModelStore, files: Path) -> None:
    for version in ("1", "2"):
        await pulled(store, files, version=version)
    assert blobs(store) == 2
    store.remove("eyes", "1")
    left = store.find("eyes", "2")
    assert left is not None
    assert left.projector is not None
    assert left.projector.is_file()
    store.remove("eyes")
    assert blobs(store) == 0


async def test_without_its_projector_it_reads_text(store: ModelStore, files: Path) -> None:
    model = await pulled(store, files)
    assert model.projector is not None
    damaged = model.projector.read_bytes()[:-1] + b"\xff"
    model.projector.write_bytes(damaged)
    assert [verdict.status for verdict in store.verify()] == ["damaged"]
    model.projector.unlink()
    assert [verdict.status for verdict in store.verify()] == ["missing"]
    left = store.find("eyes")
    assert left is not None
    assert (left.projector, "images" in left.card.capabilities) == (None, False)


@pytest.mark.parametrize(
    ("ref", "why"),
    [
        ("file:{files}/eyes.gguf", "is no image projector: its architecture is llama"),
        ("file:{files}/none.gguf", "no source delivered"),
        ("smollm2-135m-instruct", "is no ref"),
    ],
)
async def test_what_is_no_projector(store: ModelStore, files: Path, ref: str, why: str) -> None:
    model = await pulled(store, files, "")
    with pytest.raises(Misconfigured) as refused:
        await pull_projector(store, model, ref.format(files=files))
    assert why in refused.value.message
    assert store.find("eyes") == model


async def test_a_projector_is_no_model(store: ModelStore, files: Path) -> None:
    with pytest.raises(Misconfigured, match="give it beside its model, with --mmproj"):
        await pull(store, f"file:{files}/one.gguf")
    assert store.installed() == ()


def test_the_command(tmp_path: Path, files: Path) -> None:
    words = ["--home", str(tmp_path), "pull", f"file:{files}/eyes.gguf", "--mmproj", f"file:{files}/one.gguf"]
    done = CliRunner().invoke(group, [*words, "--name", "eyes"])
    assert done.exit_code == 0, done.output
    model = ModelStore(tmp_path / "models").find("eyes")
    assert model is not None
    assert model.projector is not None
    assert "images" in model.card.capabilities
    several = CliRunner().invoke(group, [*words, "smollm2-135m-instruct"])
    assert several.exit_code == 1
    assert "one NAME only" in several.output
