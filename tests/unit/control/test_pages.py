"""ListEndpoints: every condition by itself and together, pages and their order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from arkway.control.fields import LIST, Reader
from arkway.control.shape import Seen, page, whole
from arkway.core.errors import InvalidField
from arkway.core.limit import Rates
from arkway.core.model import Endpoint, Tag
from arkway.wire.fields import read

BASE = Endpoint("ep-0", "zero", "skylark", "1", "running", "default", "default", 1000)


def endpoint(number: int, **changes: Any) -> Seen:
    made = msgspec.structs.replace(BASE, id=f"ep-{number}", created_at=1000 + number, **changes)
    return Seen(made, Rates(), "not installed" if made.model_name == "gone" else "")


ALL = [
    endpoint(1, name="Orders", tags=(Tag("team", "a"), Tag("stage", "test"))),
    endpoint(2, name="orders of 2024", model_version="2", tags=(Tag("team", "b"),)),
    endpoint(3, name="bills", status="stopped", updated_at=5000),
    endpoint(4, name="alpha", model_name="gone", model_version="", tags=(Tag("team"),)),
]


def listed(body: dict[str, Any]) -> dict[str, Any]:
    return page(ALL, read(LIST, body)[0], Reader())


def ids(body: dict[str, Any]) -> list[int]:
    return [int(item["Id"].removeprefix("ep-")) for item in listed(body)["Items"]]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [4, 3, 2, 1]),
        ({"Ids": ["ep-1", "ep-4", "ep-9"]}, [4, 1]),
        ({"Ids": []}, [4, 3, 2, 1]),
        ({"Ids": None}, [4, 3, 2, 1]),
        ({"Name": "ORDERS"}, [2, 1]),
        ({"Statuses": ["Running"]}, [2, 1]),
        ({"Statuses": ["Stopped", "Abnormal"]}, [4, 3]),
        ({"FoundationModelName": "skylark"}, [3, 2, 1]),
        ({"FoundationModelName": "sky"}, []),
        ({"ModelVersions": ["2"]}, [2]),
        ({"CustomModelIds": ["cm-1"]}, []),
        ({"EndpointModelTypes": ["FoundationModel"]}, [4, 3, 2, 1]),
        ({"EndpointModelTypes": ["CustomModel"]}, []),
        ({"Name": "orders", "ModelVersions": ["1"]}, [1]),
    ],
)
def test_conditions(conditions: dict[str, Any], expected: list[int]) -> None:
    assert ids({"Filter": conditions}) == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([{"Key": "team"}], [4, 2, 1]),
        ([{"Key": "team", "Values": []}], [4, 2, 1]),
        ([{"Key": "team", "Values": ["a", "b"]}], [2, 1]),
        ([{"Key": "team", "Values": ["a"]}, {"Key": "stage"}], [1]),
        ([{"Key": "stage", "Values": ["live"]}], []),
        ([], [4, 3, 2, 1]),
    ],
)
def test_tags(filters: list[Any], expected: list[int]) -> None:
    assert ids({"TagFilters": filters}) == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ({"SortOrder": "Asc"}, [1, 2, 3, 4]),
        ({"SortOrder": "Desc"}, [4, 3, 2, 1]),
        ({"SortBy": "Name", "SortOrder": "Asc"}, [1, 4, 3, 2]),
        ({"SortBy": "UpdateTime"}, [3, 4, 2, 1]),
        ({"PageSize": 3}, [4, 3, 2]),
        ({"PageSize": 3, "PageNumber": 2}, [1]),
        ({"PageSize": 3, "PageNumber": 3}, []),
        ({"PageSize": 1, "PageNumber": 10**9}, []),
    ],
)
def test_order_and_pages(order: dict[str, Any], expected: list[int]) -> None:
    assert ids(order) == expected
    assert listed(order)["TotalCount"] == 4


def test_those_of_one_second_are_told_in_one_order() -> None:
    same = [
        msgspec.structs.replace(seen, endpoint=msgspec.structs.replace(seen.endpoint, created_at=7)) for seen in ALL
    ]
    down = page(same, {"SortOrder": "Desc"}, Reader())["Items"]
    up = page(same, {"SortOrder": "Asc"}, Reader())["Items"]
    assert [item["Id"] for item in up] == [item["Id"] for item in reversed(down)] == ["ep-1", "ep-2", "ep-3", "ep-4"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"PageNumber": 0}, "PageNumber"),
        ({"PageSize": 101}, "PageSize"),
        ({"PageSize": "10"}, "PageSize"),
        ({"SortBy": "Colour"}, "SortBy"),
        ({"SortOrder": "asc"}, "SortOrder"),
        ({"Filter": []}, "Filter"),
        ({"Filter": {"Ids": "ep-1"}}, "Filter.Ids"),
        ({"Filter": {"Ids": [1]}}, "Filter.Ids[0]"),
        ({"TagFilters": ["team"]}, "TagFilters[0]"),
        ({"TagFilters": [{"Key": "a"}, {"Key": "b", "Values": [None]}]}, "TagFilters[1].Values[0]"),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        listed(body)
    assert caught.value.field == field


def test_fields_without_effect_are_told() -> None:
    reader = Reader()
    page(ALL, {"Filter": {"Colour": "red"}}, reader)
    assert reader.ignored == ["Filter.Colour"]


def test_one_by_itself() -> None:
    seen = Seen(msgspec.structs.replace(ALL[0].endpoint, moderation="Default"), Rates(5, 0))
    assert whole(seen) == {
        "Id": "ep-1",
        "Name": "Orders",
        "Description": "",
        "Status": "Running",
        "StatusReason": "",
        "ModelReference": {"FoundationModel": {"Name": "skylark", "ModelVersion": "1"}},
        "EndpointModelType": "FoundationModel",
        "ProjectName": "default",
        "SupportRolling": True,
        "Tags": [{"Key": "team", "Value": "a"}, {"Key": "stage", "Value": "test"}],
        "CreateTime": "1970-01-01T00:16:41Z",
        "UpdateTime": "1970-01-01T00:16:41Z",
        "RateLimit": {"Rpm": 5, "Tpm": 0},
        "Moderation": {"Strategy": "Default"},
        "BatchOnly": False,
        "SupportScaleTier": False,
    }


def test_a_model_that_is_not_there_is_the_reason() -> None:
    shown = whole(ALL[3])
    assert (shown["Status"], shown["StatusReason"]) == ("Abnormal", "not installed")
