from __future__ import annotations

from arkway.backends.engine.client import Candidate, Frame, Position
from arkway.backends.engine.tokenlog import Gap, Known, TokenLog

EMOJI = "😀".encode()


def frame(sent: bytes, count: int, token: int = 1) -> Frame:
    top = [Candidate(token, "", -0.5, list(sent))]
    return Frame(
        tokens_predicted=count, completion_probabilities=[Position(token, "", -0.5, list(sent), top_logprobs=top)]
    )


def octets(entries: list[Known | Gap]) -> list[bytes]:
    return [entry.octets if isinstance(entry, Gap) else entry.entry.chosen.octets for entry in entries]


def test_one_entry_a_token() -> None:
    log = TokenLog(1)
    assert octets(log.feed(frame(b"Hel", 1), b"Hel")) == [b"Hel"]
    assert octets(log.feed(frame(b"lo", 2), b"lo")) == [b"lo"]
    assert log.feed(frame(b"", 3), b"") == []
    assert log.gaps == 0


def test_a_token_passed_over_leaves_a_gap_with_its_octets() -> None:
    log = TokenLog(0)
    entries = log.feed(frame(EMOJI, 3), EMOJI[3:])
    assert entries[0] == Gap(EMOJI[:3], 2)
    assert octets(entries) == [EMOJI[:3], EMOJI[3:]]
    assert log.gaps == 1


def test_entries_wait_for_text_that_a_stop_string_holds_back() -> None:
    log = TokenLog(0)
    assert log.feed(frame(b"", 1), b"st") == []
    assert octets(log.feed(frame(b"step", 2), b"ep")) == [b"st", b"ep"]


def test_a_stop_string_cuts_the_last_entry() -> None:
    log = TokenLog(0)
    assert octets(log.feed(frame(b"one", 1), b"one")) == [b"one"]
    assert log.feed(frame(b" fi", 2), b" fine") == []
    assert octets(log.close()) == [b" fi"]


def test_tokens_of_the_stop_string_itself_show_nothing() -> None:
    log = TokenLog(0)
    assert log.feed(frame(b"", 1), b"EN") == []
    assert log.feed(frame(b"", 2), b"D") == []
    assert log.close() == []
