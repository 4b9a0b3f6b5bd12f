"""Addresses that a server listens on, in URLs and in messages."""

from __future__ import annotations

import os
import re
import sys
from ipaddress import ip_address

from .app import SESSION_PATH

UNIX = "unix:"
"""Start of an address that is a Unix socket; its path follows."""


class BadRootPath(ValueError):
    """A root path is none; the message has the expected form."""


def print_address(name: str, url: str) -> None:
    """Print the address of an agent or application, and the ways to use it."""
    page = url.replace("ws://", "http://", 1).removesuffix(SESSION_PATH)
    try:
        if not url.endswith(SESSION_PATH):  # the chats of an application are at paths of its own
            print(f"bargein serves {name} at {page}", flush=True)
            return
        print(f"bargein serves {name} at {url}", flush=True)
        print(f"talk to it:  bargein chat {url}", flush=True)
        print(f"or open      {page}/", flush=True)
    except OSError:  # nobody reads the output, as behind `| head -1`; the server serves on
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())  # what the agent prints would fail too
        os.close(null)


_ROOT_PATH = re.compile(r"((/[A-Za-z0-9._~-]{1,128}){1,16})?")


def checked_root_path(given: str) -> str:
    """Return a root path without a slash at its end.

    Raises:
        BadRootPath: It is not a path.
    """
    path = given.removesuffix("/")
    if _ROOT_PATH.fullmatch(path) is None:
        raise BadRootPath(f"expected a root path such as /chat, got {given!r}")
    return path


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    if host.startswith(UNIX):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url_host(host: str) -> str:
    """Return the host of a URL for an address that a server listens on."""
    if host in ("127.0.0.1", "0.0.0.0", "::", "::1"):
        return "localhost"
    return f"[{host}]" if ":" in host else host


def proxies_of(host: str) -> str | None:
    """Return the proxies whose headers are believed; None: uvicorn's choice.

    Only a proxy on this machine connects to a Unix socket, and its clients have no other address.
    """
    return "*" if host.startswith(UNIX) and "FORWARDED_ALLOW_IPS" not in os.environ else None
