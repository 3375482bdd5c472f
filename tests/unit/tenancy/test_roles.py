"""The one table of roles."""

from __future__ import annotations

import pytest

from arkway.core.caller import Caller, Role
from arkway.core.errors import Forbidden
from arkway.core.roles import MEANINGS, PERMISSIONS, ROLES, reaches, require, require_grant


def caller(role: Role, account: str = "default", project: str = "default", *endpoints: str) -> Caller:
    return Caller(account, project, "key-1", endpoints, role)


def allowed(who: Caller) -> set[str]:
    found = set()
    for action in PERMISSIONS:
        try:
            require(who, action)
        except Forbidden:
            continue
        found.add(action)
    return found


def test_a_key_that_says_nothing_of_a_role_calls_models_and_nothing_else() -> None:
    assert Caller("default", "default", "key-1").role == "inference"
    assert allowed(caller("inference")) == {"models.call", "models.list"}


def test_every_role_but_the_viewers_calls_models() -> None:
    calling = {role for role in ROLES if "models.call" in allowed(caller(role))}
    assert calling == set(ROLES) - {"viewer"}


def test_a_viewer_sees_and_changes_nothing() -> None:
    seen = allowed(caller("viewer"))
    assert {action for action in seen if not action.endswith(".read")} == {"collections.search", "models.list"}
    assert {"endpoints.read", "keys.read", "usage.read"} <= seen


def test_each_rank_may_do_what_the_one_below_it_may() -> None:
    viewer, developer, owner, operator = (
        allowed(caller(role)) for role in ("viewer", "developer", "owner", "operator")
    )
    assert viewer < developer < owner < operator
    assert operator == set(PERMISSIONS)
    assert "endpoints.create" in developer - viewer
    assert {"keys.create", "access_keys.create", "audit.read"} <= owner - developer
    assert {"accounts.create", "accounts.suspend", "secrets.rotate"} <= operator - owner


def test_an_operator_of_another_account_is_none() -> None:
    assert allowed(caller("operator", "acme")) == set()
    assert not reaches(caller("operator", "acme"), "default", "default")


def test_the_refusal_names_the_role_that_is_needed() -> None:
    with pytest.raises(Forbidden) as refused:
        require(caller("viewer"), "models.call")
    assert refused.value.message == (
        "to call models, a key needs the role inference, developer, owner or operator; this one has the role viewer"
    )
    with pytest.raises(Forbidden, match="needs the role operator; this one has the role owner"):
        require(caller("owner"), "accounts.create")


def test_a_key_limited_to_endpoints_does_nothing_to_what_is_the_projects() -> None:
    limited = allowed(caller("owner", "default", "default", "ep-1"))
    assert {"models.call", "endpoints.read", "endpoints.stop"} <= limited
    assert not {"endpoints.create", "keys.create", "access_keys.create", "projects.create", "usage.read"} & limited
    with pytest.raises(Forbidden, match="limited to some endpoints"):
        require(caller("owner", "default", "default", "ep-1"), "keys.create")


@pytest.mark.parametrize(
    ("role", "own_project", "own_account", "another_account"),
    [
        ("inference", True, False, False),
        ("viewer", True, False, False),
        ("developer", True, False, False),
        ("owner", True, True, False),
        ("operator", True, True, True),
    ],
)
def test_how_far_a_role_reaches(role: Role, own_project: bool, own_account: bool, another_account: bool) -> None:
    who = caller(role)
    assert reaches(who, "default", "default") is own_project
    assert reaches(who, "default", "second") is own_account
    assert reaches(who, "acme", "default") is another_account
    assert not reaches(caller(role, "default", "default", "ep-1"), "default", "second")


def test_nobody_makes_an_operator_but_an_operator() -> None:
    require_grant(caller("operator"), "operator")
    require_grant(caller("owner"), "owner")
    with pytest.raises(Forbidden, match="role operator"):
        require_grant(caller("owner"), "operator")


def test_every_role_has_a_meaning() -> None:
    assert tuple(MEANINGS) == ROLES
    assert all(set(permission.roles) <= set(ROLES) and permission.what for permission in PERMISSIONS.values())
