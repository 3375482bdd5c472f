"""Which questions ask for the web, measured on lists, and how a bot's own words change it."""

from __future__ import annotations

from pathlib import Path

import pytest

from arkway.search.lexicon import asks_for_weather, asks_the_web

QUESTIONS = Path(__file__).parent / "questions"


def questions(kind: str) -> list[str]:
    files = sorted(QUESTIONS.glob(f"{kind}-*.txt"))
    return [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line]


def test_questions_that_time_changes_ask_for_the_web() -> None:
    every = questions("timebound")
    missed = [question for question in every if not asks_the_web(question)]
    assert len(every) == 195
    assert len(missed) <= 0.05 * len(every), missed


def test_questions_that_it_does_not_change_do_not() -> None:
    every = questions("timeless")
    wrong = [question for question in every if asks_the_web(question)]
    assert len(every) == 215
    assert len(wrong) <= 0.02 * len(every), wrong


@pytest.mark.parametrize(
    "question",
    ["五一假期怎么放", "2026年国庆放几天", "https://example.com/a 讲了什么", "打开 www.gov.cn",
    "看example.com的介绍", "_x.example.com", "a-" * 60 + "b.com", "see docs.python.org please",
     "LATEST NEWS", "iPhone的price of多少", "有没有news可看", "What's the STOCK PRICE of Apple", "Ａ股？今天"],
)  # fmt: skip
def test_what_asks_for_the_web(question: str) -> None:
    assert asks_the_web(question)


@pytest.mark.parametrize(
    "question", ["", " ", "为什么天空是蓝色的", "版本 2.2024.1", "node.js 是什么", "当前目录怎么切换"]
)
def test_what_does_not(question: str) -> None:
    assert not asks_the_web(question)


def test_a_bots_own_words_ask_too() -> None:
    assert not asks_the_web("飞船的状态")
    assert asks_the_web("飞船的状态", ("飞船",))
    assert asks_the_web("Status of the SHIP", ("ship",))
    assert not asks_the_web("飞船的状态", ("", "  "))


def test_a_bots_own_words_take_back_what_is_built_in() -> None:
    assert asks_the_web("今天头条的接口怎么调用")
    assert not asks_the_web("今天头条的接口怎么调用", ("-今天头条",))
    assert asks_the_web("今天头条今天的新闻", ("-今天头条",))
    assert asks_the_web("今天", ("-",))


def test_only_the_beginning_of_a_long_question_is_looked_at() -> None:
    assert not asks_the_web("啊" * 2000 + "今天的新闻")


@pytest.mark.parametrize(
    "question",
    ["北京天气", "明天会下雨吗", "上海今天多少度", "广州空气质量怎么样", "出门要带伞吗", "去三亚穿什么", "PM2.5 是多少",
     "weather in Paris", "伦敦的weather怎么样", "Is it going to rain tomorrow?", "Will it be sunny?", "how cold is it"],
)  # fmt: skip
def test_what_asks_for_the_weather(question: str) -> None:
    assert asks_for_weather(question)


@pytest.mark.parametrize(
    "question",
    ["你好", "采样温度怎么设置", "雪糕的做法", "今天的新闻", "What is the sampling temperature?", "brainstorm"],
)
def test_what_does_not_ask_for_the_weather(question: str) -> None:
    assert not asks_for_weather(question)
