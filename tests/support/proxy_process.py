"""A reverse proxy as a process, in front of a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from client_script import patiently
from machine import find_program

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {servers}
}}
"""
"""Configuration of nginx around its servers, with all files in one folder."""


@asynccontextmanager
async def running(proxy: str, configuration: str, folder: Path, port: int) -> AsyncIterator[None]:
    """Run nginx, caddy or haproxy until the block ends.

    Args:
        proxy: The program.
        configuration: The text of its configuration.
        folder: Where its files are.
        port: Where it listens on 127.0.0.1.
    """
    program = find_program(proxy)
    assert program is not None
    file = folder / "proxy.conf"
    file.write_text(configuration)
    arguments = {
        "nginx": ["-c", str(file), "-p", str(folder), "-e", str(folder / "error.log")],
        "caddy": ["run", "--adapter", "caddyfile", "--config", str(file)],
        "haproxy": ["-f", str(file)],
    }
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, *arguments[proxy], stdout=log, stderr=log, env={"HOME": str(folder)}
        )
        try:
            await patiently(_listens(port, process, folder / "log"))
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _listens(port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    while True:
        assert process.returncode is None, f"the proxy did not start: {log}"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            await writer.wait_closed()
            return
