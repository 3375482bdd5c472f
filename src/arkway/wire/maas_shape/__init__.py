"""The JSON shape of the MaaS generations: v1, v2 and Bot API V2 (protocol §4 to §6)."""
