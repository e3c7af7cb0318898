"""Ports of this machine's loopback at which nothing listens."""

import socket
from collections.abc import Collection
from contextlib import ExitStack


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """So many of them, no two alike."""
    with ExitStack() as opened:
        asked = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in asked]


def named(variables: Collection[str]) -> dict[str, str]:
    """An environment in which each of these variables names one."""
    return dict(zip(variables, map(str, free_ports(len(variables))), strict=True))
