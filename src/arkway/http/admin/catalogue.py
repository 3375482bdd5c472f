"""Operations on what every project shares: installed models, their other names, what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from arkway.admin.aliases import AliasInfo
from arkway.admin.prices import Price, whole_minute
from arkway.core.errors import InvalidField
from arkway.http.admin.commands import Commands
from arkway.http.admin.errors import NotFound
from arkway.http.admin.operations import Operation, Request
from arkway.http.admin.paging import Order
from arkway.http.admin.shapes import AliasNamed, Model, PricesNamed, PricesWanted, Removed, SetAlias, SetPrice

BY_NAME = Order(lambda alias: (alias.name,))
BY_VERSION = Order(lambda model: (model.name, model.version))
BY_MODEL = Order(lambda price: (price.model, price.effective_at))


def list_models(commands: Commands, _: Request) -> Sequence[Model]:
    return commands.models()


def list_aliases(commands: Commands, request: Request) -> Sequence[AliasInfo]:
    return commands.aliases(request.actor).list()


def set_alias(commands: Commands, request: Request) -> AliasInfo:
    """A model that is not installed may get names already."""
    body: SetAlias = request.body
    return commands.aliases(request.actor).set(body.name, body.model_name, request.now_s, body.model_version)


def remove_alias(commands: Commands, request: Request) -> Removed:
    """Raises NotFound."""
    query: AliasNamed = request.query
    try:
        commands.aliases(request.actor).remove(query.name, request.now_s)
    except InvalidField:
        raise NotFound("alias", query.name) from None
    return Removed(1)


def list_prices(commands: Commands, request: Request) -> Sequence[Price]:
    """Of one model, or of all."""
    query: PricesWanted = request.query
    return commands.prices(request.actor).list(query.model or None)


def set_price(commands: Commands, request: Request) -> Price:
    """Adds a price, or replaces the model's price of the same moment."""
    body: SetPrice = request.body
    effective_at = whole_minute(request.now_s) if body.effective_at is None else body.effective_at
    price = Price(body.model, effective_at, body.currency, body.prompt, body.completion, body.cached, body.reasoning)
    return commands.prices(request.actor).set(price)


def remove_prices(commands: Commands, request: Request) -> Removed:
    """Raises NotFound."""
    query: PricesNamed = request.query
    effective_at = None if query.effective_at is UNSET else query.effective_at
    try:
        return Removed(commands.prices(request.actor).remove(query.model, effective_at))
    except InvalidField:
        raise NotFound("price of", query.model) from None


OPERATIONS = (
    Operation(
        id="models.list",
        method="GET",
        path="/models",
        summary="List installed models",
        permission="models.read",
        run=list_models,
        answer=Model,
        within="host",
        order=BY_VERSION,
    ),
    Operation(
        id="aliases.list",
        method="GET",
        path="/aliases",
        summary="List other names for models",
        permission="aliases.read",
        run=list_aliases,
        answer=AliasInfo,
        within="host",
        order=BY_NAME,
    ),
    Operation(
        id="aliases.set",
        method="PUT",
        path="/aliases",
        summary="Let a name stand for a model",
        permission="aliases.set",
        run=set_alias,
        answer=AliasInfo,
        within="host",
        body=SetAlias,
    ),
    Operation(
        id="aliases.remove",
        method="DELETE",
        path="/aliases",
        summary="Remove an alias, for good",
        permission="aliases.remove",
        run=remove_alias,
        answer=Removed,
        within="host",
        query=AliasNamed,
    ),
    Operation(
        id="prices.list",
        method="GET",
        path="/prices",
        summary="List what models cost, from when on",
        permission="prices.read",
        run=list_prices,
        answer=Price,
        within="host",
        query=PricesWanted,
        order=BY_MODEL,
    ),
    Operation(
        id="prices.set",
        method="PUT",
        path="/prices",
        summary="Set what a model costs from a moment on",
        permission="prices.set",
        run=set_price,
        answer=Price,
        within="host",
        body=SetPrice,
    ),
    Operation(
        id="prices.remove",
        method="DELETE",
        path="/prices",
        summary="Remove prices of a model",
        permission="prices.remove",
        run=remove_prices,
        answer=Removed,
        within="host",
        query=PricesNamed,
    ),
)
