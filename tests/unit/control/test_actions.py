"""The table of actions: what is known of the vendor's is either done or refused by name."""

from __future__ import annotations

import pytest

from arkway.control.actions import ACTIONS, UNSUPPORTED, VERSION, kind_of
from arkway.control.errors import ActionNotFound, ActionUnsupported
from arkway.core.errors import MissingField
from arkway.core.roles import PERMISSIONS

# Every action of volcenginesdkark 5.0.54 (protocol §8.3).
VENDORS = {
    "CreateBatchInferenceJob",
    "CreateEndpoint",
    "CreateEvaluationJob",
    "CreateModelCustomizationJob",
    "DeleteEndpoint",
    "GetApiKey",
    "GetEndpoint",
    "GetEndpointCertificate",
    "GetModelCustomizationJob",
    "GetModelCustomizationJobMetricData",
    "GetModelCustomizationJobMetrics",
    "ListBatchInferenceJobs",
    "ListEndpoints",
    "ListModelCustomizationJobs",
    "ResumeModelCustomizationJob",
    "StopEndpoint",
    "TerminateModelCustomizationJob",
}
OURS = {"StartEndpoint", "UpdateEndpoint"}


def test_each_of_the_vendors_actions_is_done_or_refused_by_name() -> None:
    assert set(ACTIONS) | set(UNSUPPORTED) == VENDORS | OURS
    assert not set(ACTIONS) & set(UNSUPPORTED)
    assert {kind.name for kind in ACTIONS.values() if kind.ours} == OURS


def test_each_action_needs_a_permission_that_there_is() -> None:
    assert {kind.permission for kind in ACTIONS.values()} <= set(PERMISSIONS)


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_an_action_is_found(name: str) -> None:
    assert kind_of(name, VERSION).name == name


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_an_action_that_is_not_offered_says_so(name: str) -> None:
    with pytest.raises(ActionUnsupported, match=name):
        kind_of(name, VERSION)


def test_an_unknown_action_names_a_near_one() -> None:
    with pytest.raises(ActionNotFound, match="did you mean `GetApiKey`"):
        kind_of("GetApikey", VERSION)


@pytest.mark.parametrize("version", ["2023-01-01", "2024-01-02", "latest"])
def test_a_known_action_of_another_version_is_unknown(version: str) -> None:
    with pytest.raises(ActionNotFound, match=version):
        kind_of("GetApiKey", version)


@pytest.mark.parametrize(("name", "version", "missing"), [("", VERSION, "Action"), ("GetApiKey", "", "Version")])
def test_what_the_query_has_to_say(name: str, version: str, missing: str) -> None:
    with pytest.raises(MissingField, match=missing):
        kind_of(name, version)
