"""The control plane over a database: who does what an action says."""

from __future__ import annotations

import sqlalchemy as sa

from arkway.admin.endpoints import Endpoints
from arkway.config import Settings
from arkway.control import Access, Certificate, ControlPlane
from arkway.control.access import Change, FindModel
from arkway.core.audit import Actor
from arkway.ports import Directory, Sealing
from arkway.stores.audit import AuditTable
from arkway.stores.home import Pepper
from arkway.stores.rates import RateTable
from arkway.stores.recorded import Within
from arkway.stores.store import Store
from arkway.stores.tables import EndpointTable
from arkway.stores.temporary import TemporaryKeys
from arkway.stores.tenancy import ProjectTable


def control_plane(
    settings: Settings,
    store: Store,
    pepper: Pepper,
    directory: Directory,
    find_model: FindModel,
    sealing: Sealing | None,
) -> ControlPlane:
    """The control plane of one installation."""

    def resources(account: str, project: str, actor: Actor) -> Endpoints:
        return Endpoints(EndpointTable(store), account, project, actor)

    def rates(account: str, project: str, actor: Actor) -> RateTable:
        return RateTable(store, account, project, actor)

    def together(account: str, project: str, actor: Actor, change: Change) -> None:
        def work(connection: sa.Connection) -> None:
            inside = Within(connection)
            endpoints = Endpoints(EndpointTable(inside), account, project, actor)
            change(endpoints, RateTable(inside, account, project, actor))

        store.run_sync(work, tell=True)

    def has_project(account: str, project: str) -> bool:
        return any(row["id"] == project for row in ProjectTable(store).rows(account))

    access = Access(resources, rates, together, has_project, AuditTable(store), directory, find_model)
    issue = TemporaryKeys(pepper).issue
    return ControlPlane(access, issue, settings.control.api_key_max_s, certificate(sealing))


def certificate(sealing: Sealing | None) -> Certificate | None:
    """What the certificate of message encryption says of itself; None where that is off."""
    if sealing is None:
        return None
    # Loaded already where message encryption is on, and a start without it does not wait for it.
    from cryptography import x509

    read = x509.load_pem_x509_certificate(sealing.certificate.encode())
    begin, end = read.not_valid_before_utc, read.not_valid_after_utc
    return Certificate(sealing.certificate, int(begin.timestamp()), int(end.timestamp()))
