"""How text becomes words, with rjieba and without."""

from __future__ import annotations

import subprocess
import sys

import pytest

from arkway.knowledge.words import LONGEST_WORD, analyzer, pairs, terms, words

WITHOUT_RJIEBA = """
import sys
sys.modules["rjieba"] = None
from arkway.knowledge.words import analyzer, words
assert analyzer() == "bigrams/1", analyzer()
assert words("如何安装Debian系统 核") == ["何安", "安装", "debian", "系统", "核"], words("如何安装Debian系统 核")
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("如何在Debian系统中安装K8s集群？", ["debian", "系统", "安装", "k8s", "集群"]),
        ("中国科学院", ["中国", "科学", "学院", "科学院", "中国科学院"]),
        ("ＡＢＣ１２３ ﬁle", ["abc123", "file"]),
        ("GPT-4o, node.js; c++ a_b", ["gpt", "4o", "node", "js", "c", "b"]),
        ("カタカナ 한국어", ["カタ", "タカ", "カナ", "한국", "국어"]),
        ("Éclair cafe\u0301 हिन्दी Straße", ["éclair", "café", "हिन्दी", "straße"]),
        ("的 了 the of 你好", []),
        ("\0\ud83d🙂…", []),
        ("", []),
    ],
)
def test_text_becomes_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_question_has_each_word_once() -> None:
    assert terms("apples, pears and APPLES") == ["apples", "pears"]


def test_no_word_is_longer_than_the_limit() -> None:
    assert words("x" * 1000) == ["x" * LONGEST_WORD]


def test_words_have_nothing_in_them_that_an_index_would_split_at() -> None:
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x30000)]))
    found = words(every)
    assert len(found) > 1000
    assert all(not set(word) & set(" \t\n'\"\\&|!():*<>_-.,@/") for word in found)
    assert all(word.isprintable() and word == word.strip() for word in found if word.isascii())


def test_pairs_of_a_short_run_are_the_run() -> None:
    assert (pairs("一"), pairs("一二"), pairs("一二三")) == (["一"], ["一二"], ["一二", "二三"])


def test_the_analyzer_is_named_with_its_version() -> None:
    name, _, rules = analyzer().rpartition("/")
    assert name.startswith("rjieba-")
    assert rules == "1"


def test_without_rjieba_han_characters_become_pairs() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_RJIEBA], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
