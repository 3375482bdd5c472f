"""The requests of every action, as field tables (protocol §8.3), and what is read out of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arkway.core.errors import InvalidField, MissingField
from arkway.core.model import Tag
from arkway.wire.fields import Field, Table, json_type, read, table

RESOURCE_TYPES = ("endpoint", "presetendpoint", "bot")
RESOURCES_MAX = 100
PAGE_SIZE_MAX = 100
PAGE_SIZE = 10
RATE_MAX = 1_000_000_000

_NAME = Field("Name", "string", "What its owner calls it: 1 to 128 printable characters.", max_bytes=512, plain=True)
_DESCRIPTION = Field("Description", "string", "At most 1024 characters.", max_bytes=4096, plain=True)
_PROJECT = Field("ProjectName", "string", "The project; default: the access key's own.", max_bytes=256, plain=True)
_TAGS = Field("Tags", "array", "At most 20 labels, `{Key, Value}`.", max_items=20)
_RATES = Field("RateLimit", "object", "`Rpm` requests and `Tpm` tokens a minute; 0 = no limit.")
_MODERATION = Field("Moderation", "object", "`Strategy`, which is kept.")
_MODEL = Field("ModelReference", "object", "The model: `FoundationModel` with `Name` and perhaps `ModelVersion`.")
_UNIT = Field("ModelUnitId", "string", "There are no model units here.", effect="refused")

ID: Table = table(Field("Id", "string", "The endpoint's id.", required=True, max_bytes=256, plain=True))
CREATE: Table = table(
    Field("Name", "string", _NAME.doc, required=True, max_bytes=512, plain=True),
    _DESCRIPTION,
    Field("DryRun", "boolean", "Everything is checked, nothing made; `Id` is then empty.", default="false"),
    Field("ModelReference", "object", _MODEL.doc, required=True),
    _UNIT,
    _MODERATION,
    _PROJECT,
    _RATES,
    _TAGS,
)
UPDATE: Table = table(
    *ID.values(),
    Field("DryRun", "boolean", "Everything is checked, nothing changed.", default="false"),
    _NAME,
    _DESCRIPTION,
    _MODEL,
    _UNIT,
    _MODERATION,
    _RATES,
    _TAGS,
)
LIST: Table = table(
    Field("Filter", "object", "Which endpoints; all conditions have to hold."),
    Field("PageNumber", "integer", "From 1.", low=1, high=1_000_000_000, default="1"),
    Field("PageSize", "integer", "How many on a page.", low=1, high=PAGE_SIZE_MAX, default=str(PAGE_SIZE)),
    _PROJECT,
    Field("SortBy", "string", "By what.", choices=("CreateTime", "UpdateTime", "Name"), default="CreateTime"),
    Field("SortOrder", "string", "In which direction.", choices=("Desc", "Asc"), default="Desc"),
    Field("TagFilters", "array", "Each `{Key, Values}`: has this tag, with one of the values if any.", max_items=20),
)
GET_API_KEY: Table = table(
    Field("DurationSeconds", "integer", "How long it is to be good; a longer wish counts as the most.", True, low=1),
    Field("ResourceType", "string", "What the ids name.", required=True, choices=RESOURCE_TYPES),
    Field("ResourceIds", "array", "Ids of endpoints or bots, or names of models.", True, max_items=RESOURCES_MAX),
    _PROJECT,
)
CERTIFICATE: Table = table(*ID.values(), Field("Type", "string", "There is one kind.", effect="ignored"))

FILTER: Table = table(
    Field("Ids", "array", "Any of these ids.", max_items=PAGE_SIZE_MAX),
    Field("Name", "string", "The name has this in it.", max_bytes=512),
    Field("Statuses", "array", "Any of these: Running, Stopped, Abnormal.", max_items=16),
    Field("FoundationModelName", "string", "The model's name.", max_bytes=512),
    Field("ModelVersions", "array", "Any of these versions of the model.", max_items=100),
    Field("CustomModelIds", "array", "There are no custom models: none has one.", max_items=100),
    Field("EndpointModelTypes", "array", "Any of these: FoundationModel.", max_items=16),
)
REFERENCE: Table = table(
    Field("FoundationModel", "object", "The model."),
    Field("CustomModelId", "string", "There are no custom models here.", effect="refused"),
)
FOUNDATION: Table = table(
    Field("Name", "string", "A model's name, or an alias.", required=True, max_bytes=512, plain=True),
    Field("ModelVersion", "string", "Empty: the default version, wherever that moves.", max_bytes=512, plain=True),
)
RATES: Table = table(
    Field("Rpm", "integer", "Requests a minute.", low=0, high=RATE_MAX),
    Field("Tpm", "integer", "Tokens a minute.", low=0, high=RATE_MAX),
)
STRATEGY: Table = table(Field("Strategy", "string", "The strategy's name.", max_bytes=256, plain=True))
TAG: Table = table(
    Field("Key", "string", "The label.", required=True, max_bytes=512, plain=True),
    Field("Value", "string", "What it says.", max_bytes=512, plain=True),
)
TAG_FILTER: Table = table(
    Field("Key", "string", "The label.", required=True, max_bytes=512),
    Field("Values", "array", "Any of these; none = any value.", max_items=20),
)


class Reader:
    """Reads one body, object by object, and remembers what in it has no effect or a nearer one."""

    def __init__(self) -> None:
        self.ignored: list[str] = []
        self.clamped: list[str] = []

    def read(self, fields: Table, body: Any, path: str = "") -> dict[str, Any]:
        """The honoured values of one object. Raises MissingField, InvalidField."""
        if not isinstance(body, Mapping):
            raise InvalidField(f"expected an object, got {json_type(body)}", path)
        values, ignored = read(fields, body, f"{path}." if path else "")
        self.ignored += ignored
        return values

    def model(self, reference: Any) -> tuple[str, str]:
        """Name and version of a ``ModelReference``."""
        values = self.read(REFERENCE, reference, "ModelReference")
        if "FoundationModel" not in values:
            raise MissingField("ModelReference.FoundationModel")
        found = self.read(FOUNDATION, values["FoundationModel"], "ModelReference.FoundationModel")
        return found["Name"], found.get("ModelVersion", "")

    def moderation(self, value: Any) -> str:
        """The strategy, which is kept and has no effect on calls."""
        strategy: str = self.read(STRATEGY, value, "Moderation").get("Strategy", "")
        if strategy:
            self.ignored.append("Moderation")
        return strategy

    def tags(self, value: list[Any]) -> tuple[Tag, ...]:
        read = (self.read(TAG, entry, f"Tags[{index}]") for index, entry in enumerate(value))
        return tuple(Tag(entry["Key"], entry.get("Value", "")) for entry in read)


def strings(value: list[Any], path: str) -> tuple[str, ...]:
    """A list of strings, each once, none empty. Raises InvalidField."""
    for index, entry in enumerate(value):
        if not isinstance(entry, str) or not entry or len(entry) > 256 or not entry.isprintable():
            raise InvalidField("expected a string of 1 to 256 printable characters", f"{path}[{index}]")
    return tuple(dict.fromkeys(value))
