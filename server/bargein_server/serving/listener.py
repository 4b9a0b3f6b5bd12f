"""The listening socket, with options that accepted sockets inherit.

Three queues stand between a `yield` and the user: the transport's buffer, unsent bytes in the kernel, and
the network. An interrupt purges only output before them. The transport's write limits keep the first
small, `TCP_NOTSENT_LOWAT` the second. Together, on a line of 1 Mbit/s that a producer saturates, they
leave a sixth of the stale bytes at full throughput. `TCP_USER_TIMEOUT` (RFC 5482) ends connections whose
peer acknowledges nothing, which keep-alive pings alone do not.
"""

from __future__ import annotations

import socket

NOTSENT_BYTES = 4096


def listening_socket(host: str, port: int, stalled_s: float) -> socket.socket:
    """Return a bound socket.

    Args:
        host: An address, or a name, of whose addresses the first is taken.
        port: The port; 0 for a free one.
        stalled_s: Seconds after which a connection that acknowledges nothing is dropped.

    Raises:
        OSError: The name is unknown or the address cannot be bound.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    # The protocol is given because asyncio sets TCP_NODELAY only on sockets that are named TCP.
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in (
            ("TCP_NOTSENT_LOWAT", NOTSENT_BYTES),
            ("TCP_USER_TIMEOUT", int(stalled_s * 1000)),
        ):
            if hasattr(socket, option):  # Linux; elsewhere only the limits of the transport apply
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
