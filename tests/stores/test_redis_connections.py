"""The Redis store over TLS, and through sentinels."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from bargein_server.stores.interface import Outcome, StoreError
from bargein_server.stores.redis_store import RedisStore
from bargein_server.stores.urls import store_of
from processes import free_port
from store_suite import S1, first, later
from valkey_process import ValkeyProcess, find_valkey, valkey
from waiting import WAIT_S

pytestmark = pytest.mark.needs("valkey")


def store_at(url: str) -> RedisStore:
    """Return a store that is not open yet."""
    store = store_of(url)
    assert isinstance(store, RedisStore)
    return store


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def behind_tls(server: ValkeyProcess, authority: trustme.CA, name: str) -> AsyncIterator[int]:
    """End TLS before a server; yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", server.port)
        for way in (_pass(reader, there[1]), _pass(there[0], writer)):
            task = asyncio.create_task(way)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
        listener.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def test_a_server_behind_tls(tmp_path: Path) -> None:
    """Its certificate is checked, and so is its name, unless the URL says otherwise."""
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    async with valkey(tmp_path / "valkey") as server:
        async with behind_tls(server, authority, "localhost") as port:
            store = store_at(f"rediss://localhost:{port}/0?ca={ca}")
            await store.open()
            assert await store.write([first()]) == [Outcome.STORED]
            await store.close()
            for url in (f"rediss://localhost:{port}", f"rediss://127.0.0.1:{port}?ca={ca}"):
                refused = store_at(url)
                with pytest.raises(StoreError):
                    await refused.open()
                await refused.close()
            for check in ("chain", "none"):
                store = store_at(f"rediss://127.0.0.1:{port}?verify={check}&ca={ca}")
                await store.open()
                assert await store.read(S1) is not None
                await store.close()


@asynccontextmanager
async def sentinel(folder: Path, server: ValkeyProcess) -> AsyncIterator[int]:
    """Run a sentinel of a server that it calls main; yield its port."""
    port = free_port()
    await asyncio.to_thread(folder.mkdir)
    text = f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor main 127.0.0.1 {server.port} 1\n"
    await asyncio.to_thread((folder / "sentinel.conf").write_text, text)
    program = find_valkey()
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program, str(folder / "sentinel.conf"), "--sentinel",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield port
    finally:
        process.kill()
        await process.wait()


async def _opened(store: RedisStore) -> None:
    async with asyncio.timeout(3 * WAIT_S):
        while True:
            try:
                await store.open()
            except StoreError:
                await asyncio.sleep(0.1)
            else:
                return


async def test_a_primary_that_sentinels_know(tmp_path: Path) -> None:
    """After a failover the store is found at the new primary; a replica is told by its error."""
    async with valkey(tmp_path / "one") as one, valkey(tmp_path / "two") as two:
        await two.do("REPLICAOF", "127.0.0.1", one.port)
        async with sentinel(tmp_path / "sentinel", one) as port:
            store = store_at(f"redis+sentinel://127.0.0.1:{port}/main/0")
            await _opened(store)
            assert await store.write([first()]) == [Outcome.STORED]
            async with asyncio.timeout(3 * WAIT_S):
                while not await two.do("EXISTS", "bargein:{s_1}:m"):
                    await asyncio.sleep(0.05)
            replica = store_at(two.url)
            await replica.open()
            with pytest.raises(StoreError) as refused:
                await replica.write([later(1)])
            assert refused.value.kind == "read_only"
            await replica.close()
            await one.kill()
            await two.do("REPLICAOF", "NO", "ONE")
            other = ValkeyProcess(two.folder, port, ())
            await other.do("SENTINEL", "REMOVE", "main")
            await other.do("SENTINEL", "MONITOR", "main", "127.0.0.1", two.port, 1)
            with pytest.raises(StoreError):
                await store.write([later(1)])
            await _opened(store)
            assert await store.write([later(1)]) == [Outcome.STORED]
            await store.close()
