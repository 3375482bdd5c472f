"""The tree of errors: its drawing is true, and its messages are safe."""

from __future__ import annotations

import re

from arkway.core import errors as e


def test_the_drawing_shows_every_class_and_no_other() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", e.__doc__ or "")) | {"ArkwayError"}
    assert drawn == {name for name, kind in vars(e).items() if isinstance(kind, type)}


def test_leaves_are_all_that_can_be_raised() -> None:
    leaves = e.leaves()
    drawn = [kind for kind in vars(e).values() if isinstance(kind, type)]
    inner = {parent for kind in drawn for parent in kind.__bases__}
    assert sorted(leaves, key=str) == sorted({*drawn} - inner | {e.BadRequest, e.RateLimited}, key=str)
    assert not {e.ArkwayError, e.CallerError, e.Refused, e.PlatformError} & set(leaves)


def test_hostile_names_are_cut_before_they_are_shown() -> None:
    long = "x" * 100_000
    for error in (e.EndpointNotFound(long), e.RouteNotFound(long), e.UnsupportedEncoding(long)):
        assert len(error.message) < 500
    assert len(e.MethodNotAllowed(long, long, ("GET",)).message) < 500


def test_a_platform_error_of_our_own_tells_nothing() -> None:
    assert "internal error" in e.InternalError().message
    assert e.InternalError().field == ""
