from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkway.core.chat import Provenance, Usage
from arkway.ports import Attempt, Outcome, Settlement
from arkway.stores.framing import (
    SECTOR_BYTES,
    BadLine,
    Opened,
    Record,
    Settled,
    Spent,
    frame,
    is_spent,
    is_torn,
    unframed,
    used,
    without_gaps,
)

counts = st.integers(0, 1 << 53)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
usages = st.builds(Usage, counts, counts, counts, counts, st.sampled_from(get_args(Provenance)))
settlements = st.builds(
    Settlement,
    st.sampled_from(get_args(Outcome)),
    usages,
    counts,
    st.integers(-1, 10**9),
    st.integers(-1, 10**9),
    texts,
)
attempts = st.builds(
    Attempt, texts, texts, texts, texts, texts, texts, texts, texts, texts, counts, estimate_tokens=counts
)
records = st.one_of(
    st.builds(Opened, attempts), st.builds(Spent, texts, counts, counts), st.builds(Settled, texts, settlements)
)


@given(records)
def test_a_record_comes_back_from_its_line(record: Record) -> None:
    line = frame(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert unframed(line[:-1]) == record


@given(records)
def test_a_checkpoint_is_known_by_its_looks(record: Record) -> None:
    assert is_spent(frame(record)) == isinstance(record, Spent)


@given(st.lists(records, max_size=5), st.integers(0, 2000))
def test_unused_room_is_no_part_of_a_file(written: list[Record], room: int) -> None:
    content = b"".join(map(frame, written))
    assert used(content + bytes(room)) == content
    assert without_gaps(content) == content


@given(records, records, st.data())
def test_a_zero_that_is_no_sector_stays_what_it_is(first: Record, second: Record, data: st.DataObject) -> None:
    """A gap is zeros up to the start of a sector; anything else is damage, which is not made good."""
    content = frame(first) + frame(second)
    at = data.draw(st.integers(0, len(content) - 2).filter(lambda place: (place + 1) % SECTOR_BYTES))
    broken = content[:at] + b"\0" + content[at + 1 :]
    assert without_gaps(broken) == broken


@given(records, st.data())
def test_one_changed_octet_is_noticed(record: Record, data: st.DataObject) -> None:
    line = bytearray(frame(record)[:-1])
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadLine):
        unframed(bytes(line))


@given(records, st.data())
def test_a_cut_line_is_torn(record: Record, data: st.DataObject) -> None:
    line = frame(record)
    assert is_torn(line[: data.draw(st.integers(0, len(line) - 1))])


@given(records, records)
def test_two_records_without_the_line_feed_between_them_are_not_torn(first: Record, second: Record) -> None:
    assert not is_torn(frame(first)[:-1] + b"\x00" + frame(second))


def test_a_record_of_a_later_version_is_not_called_damage() -> None:
    import zlib

    payload = b'{"t":"refund","attempt_id":"a"}'
    with pytest.raises(BadLine, match="this version does not know"):
        unframed(b"%08x %b" % (zlib.crc32(payload), payload))
