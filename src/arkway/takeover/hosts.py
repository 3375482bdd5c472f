"""The vendor's hosts that programs call by themselves, and what was taken to be them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from arkway.core.errors import Misconfigured


class VendorHost(msgspec.Struct, frozen=True):
    """One host: what is served there, and where it is written that clients call it."""

    host: str
    serves: str
    source: str


KNOWN = (
    VendorHost(
        "maas-api.ml-platform-cn-beijing.volces.com",
        "MaaS v1 and v2",
        "the vendor's guides to both, in every language; the default of LangChain's VolcEngineMaasChat",
    ),
    VendorHost(
        "ark.cn-beijing.volces.com",
        "Ark v3, bots",
        "the default base URL of volcengine-ark-runtime, arkruntime, volcengine-go-sdk and volcengine-java-sdk",
    ),
    VendorHost(
        "ark.ap-southeast.bytepluses.com",
        "Ark v3 of BytePlus",
        "the default base URL of arkruntime's Ark.byteplus()",
    ),
    VendorHost(
        "open.volcengineapi.com",
        "the control plane (GetApiKey, endpoints)",
        "the endpoint that volcenginesdkcore, volcengine-go-sdk and volcengine-java-sdk resolve for the service ark",
    ),
    VendorHost(
        "ark.cn-beijing.volcengineapi.com",
        "the control plane, by region",
        "the regional endpoint of the service ark in volcenginesdkcore (get_default_endpoint)",
    ),
)
VENDOR_HOSTS = tuple(each.host for each in KNOWN)


def taken_over(more: Iterable[str] = ()) -> tuple[str, ...]:
    """The known hosts and ``more``, each once, in lower case. Raises Misconfigured.

    A wildcard is refused: one name may not stand for hosts that nobody thought of.
    """
    # Loads cryptography.
    from arkway.takeover.names import name_of, text_of

    hosts = [text_of(name_of(host)) for host in more]
    for host in hosts:
        if host.startswith("*."):
            raise Misconfigured(f"`{host}` stands for many hosts; name each host that is to be taken over")
    return tuple(dict.fromkeys([*VENDOR_HOSTS, *hosts]))
