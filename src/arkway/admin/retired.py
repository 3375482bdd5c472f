"""Names of models that the vendor has retired, and that programs still send: the aliases an installation starts with.

Sources: the samples of the vendor's MaaS quick starts and SDKs (skylark-chat, Moonshot-v1-8k, chatglm-130b), the
defaults of LangChain's VolcEngine classes (skylark-lite-public, skylark-pro-public), and programs found in public
repositories (the other Skylark, Moonshot and ChatGLM names). Names are matched without regard to case: programs write
``Skylark2-pro-character-4k`` and ``Moonshot-v1-8k`` as well.
"""

from __future__ import annotations

from arkway.ports import Alias

# Follows the default version of its model: the vendor let a call for it follow the newest one.
ROLLING = ("skylark-chat",)

# Stand still: the version that is installed when the alias is made goes on serving them.
PINNED = (
    "skylark-lite-public",
    "skylark-plus-public",
    "skylark-pro-public",
    "skylark-pro",
    "skylark2-pro-4k",
    "skylark2-pro-32k",
    "skylark2-pro-turbo-8k",
    "skylark2-lite-8k",
    "skylark2-pro-character-4k",
    "moonshot-v1-8k",
    "moonshot-v1-32k",
    "moonshot-v1-128k",
    "chatglm-6b-model",
    "chatglm2-pro",
    "chatglm-130b",
)
NAMES = frozenset((*ROLLING, *PINNED))


def retired_names(model_name: str, model_version: str) -> tuple[Alias, ...]:
    """Every retired name as an alias of this chat model."""
    rolling = (Alias(name, model_name, "") for name in ROLLING)
    return (*rolling, *(Alias(name, model_name, model_version) for name in PINNED))
