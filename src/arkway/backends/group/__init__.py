"""Groups: a model that several upstreams answer for, with weights, canaries, shadows, failover and breakers.

What may happen to a call, in order: it is chosen a member (`choosing`, `sticking`), asks it (`failover`), asks another
within the budget if that fails before its first event (`budget`), and tells the member's breaker how it went
(`breaker`). Copies for members on trial (`shadow`) and probes (`probing`) go beside it.
"""

from arkway.backends.group.group import Group
from arkway.backends.group.groups import Groups
from arkway.backends.group.member import MemberReading

__all__ = ["Group", "Groups", "MemberReading"]
