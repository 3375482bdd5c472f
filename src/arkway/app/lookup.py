"""The collections of an installation, for commands that run without a server."""

from __future__ import annotations

from contextlib import closing

from arkway.admin.bots import HasCollection
from arkway.app.knowledge import knowledge_of
from arkway.config import Settings
from arkway.knowledge.opening import knowledge_path


def collections_of(settings: Settings) -> HasCollection:
    """Whether a project has a collection, for those who make and change bots: looked up when it is asked."""

    def has_collection(account: str, project: str, name: str) -> bool:
        if not (settings.database.url or knowledge_path(settings.home).exists()):
            return False
        with closing(knowledge_of(settings)) as store:
            return store.collection(account, project, name) is not None

    return has_collection
