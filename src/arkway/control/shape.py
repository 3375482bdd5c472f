"""Endpoints as the control plane tells of them: one as an item, many as a page. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from arkway.control.fields import FILTER, PAGE_SIZE, TAG_FILTER, Reader, strings
from arkway.core.limit import Rates
from arkway.core.model import Endpoint

MODEL_TYPE = "FoundationModel"
STATUSES = {"running": "Running", "stopped": "Stopped"}
ABNORMAL = "Abnormal"


class Seen(msgspec.Struct, frozen=True):
    """An endpoint with what is known of it elsewhere; ``trouble`` says why it cannot serve, empty = it can."""

    endpoint: Endpoint
    rates: Rates
    trouble: str = ""

    @property
    def status(self) -> str:
        if self.endpoint.status == "running" and self.trouble:
            return ABNORMAL
        return STATUSES[self.endpoint.status]


Condition = Callable[[Seen], bool]


def item(seen: Seen) -> dict[str, Any]:
    """One of a list. What has no value is left out, as an SDK that has sent none would expect."""
    endpoint = seen.endpoint
    shown = {
        "Id": endpoint.id,
        "Name": endpoint.name,
        "Description": endpoint.description,
        "Status": seen.status,
        "StatusReason": seen.trouble if seen.status == ABNORMAL else "",
        "ModelReference": {
            "FoundationModel": {"Name": endpoint.model_name, "ModelVersion": endpoint.model_version},
        },
        "EndpointModelType": MODEL_TYPE,
        "ProjectName": endpoint.project,
        "SupportRolling": True,
        "Tags": [{"Key": tag.key, "Value": tag.value} for tag in endpoint.tags],
        "CreateTime": moment(endpoint.created_at),
        "UpdateTime": moment(endpoint.updated_at or endpoint.created_at),
    }
    if seen.rates != Rates():
        shown["RateLimit"] = {"Rpm": seen.rates.rpm, "Tpm": seen.rates.tpm}
    return shown


def whole(seen: Seen) -> dict[str, Any]:
    """One by itself."""
    endpoint = seen.endpoint
    moderation = {"Moderation": {"Strategy": endpoint.moderation}} if endpoint.moderation else {}
    return {**item(seen), **moderation, "BatchOnly": False, "SupportScaleTier": False}


def page(all_of: Sequence[Seen], values: Mapping[str, Any], reader: Reader) -> dict[str, Any]:
    """The page that a ``ListEndpoints`` asks for. Raises InvalidField."""
    conditions = [*_filter(values.get("Filter", {}), reader), *_tag_filters(values.get("TagFilters", []), reader)]
    found = [seen for seen in all_of if all(holds(seen) for holds in conditions)]
    # Those made in the same second stay in the order in which they were made.
    if values.get("SortOrder", "Desc") == "Desc":
        found.reverse()
        found.sort(key=_order(values), reverse=True)
    else:
        found.sort(key=_order(values))
    number, size = values.get("PageNumber", 1), values.get("PageSize", PAGE_SIZE)
    shown = found[(number - 1) * size : number * size]
    return {
        "Items": [item(seen) for seen in shown],
        "PageNumber": number,
        "PageSize": size,
        "TotalCount": len(found),
    }


def _order(values: Mapping[str, Any]) -> Callable[[Seen], Any]:
    match values.get("SortBy", "CreateTime"):
        case "Name":
            return lambda seen: seen.endpoint.name
        case "UpdateTime":
            return lambda seen: seen.endpoint.updated_at or seen.endpoint.created_at
        case _:
            return lambda seen: seen.endpoint.created_at


def _filter(body: Any, reader: Reader) -> list[Condition]:
    values = reader.read(FILTER, body, "Filter")
    attributes: dict[str, Callable[[Seen], str]] = {
        "Ids": lambda seen: seen.endpoint.id,
        "Statuses": lambda seen: seen.status,
        "ModelVersions": lambda seen: seen.endpoint.model_version,
    }
    # One kind of model is all there is, and no custom one.
    constants = {"CustomModelIds": "", "EndpointModelTypes": MODEL_TYPE}
    conditions = [_always(held in strings(values[n], f"Filter.{n}")) for n, held in constants.items() if values.get(n)]
    for name, attribute in attributes.items():
        if values.get(name):
            conditions.append(_one_of(attribute, strings(values[name], f"Filter.{name}")))
    if part := values.get("Name", "").casefold():
        conditions.append(lambda seen: part in seen.endpoint.name.casefold())
    if model := values.get("FoundationModelName"):
        conditions.append(lambda seen: seen.endpoint.model_name == model)
    return conditions


def _always(holds: bool) -> Condition:
    return lambda _: holds


def _one_of(attribute: Callable[[Seen], str], wanted: tuple[str, ...]) -> Condition:
    return lambda seen: attribute(seen) in wanted


def _tag_filters(entries: Sequence[Any], reader: Reader) -> list[Condition]:
    conditions: list[Condition] = []
    for index, entry in enumerate(entries):
        path = f"TagFilters[{index}]"
        values = reader.read(TAG_FILTER, entry, path)
        conditions.append(_tagged(values["Key"], strings(values.get("Values", []), f"{path}.Values")))
    return conditions


def _tagged(key: str, wanted: tuple[str, ...]) -> Condition:
    return lambda seen: any(tag.key == key and (not wanted or tag.value in wanted) for tag in seen.endpoint.tags)


def moment(at_s: int) -> str:
    """RFC 3339, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
