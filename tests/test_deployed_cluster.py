"""The files of server/deploy for two servers: their commands run as processes, with a real Valkey."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]
from msgspec import Struct
from websockets.asyncio.client import connect as dial

from bargein_server import Settings
from container_file import ContainerFile
from documentation import ROOT
from live_server import RawClient
from processes import environment, free_port
from resuming_customer import AGENT
from valkey_process import valkey
from waiting import WAIT_S

pytestmark = pytest.mark.needs("valkey")

DEPLOY = ROOT / "server" / "deploy"
CONTAINER = ContainerFile((DEPLOY / "Containerfile").read_text("utf-8"))
TOKEN = "secret-of-ann"
SECRETS = {"password": "secret-of-the-store", "peer": "secret of all servers"}


class Server(Struct):
    """One server of a file.

    Args:
        arguments: Arguments of its command.
        variables: Its environment.
        port: Its port.
    """

    arguments: list[str]
    variables: dict[str, str]
    port: int


class Files(Struct):
    """The servers of a file, and the arguments of its Valkey."""

    servers: list[Server]
    store: list[str]


def _filled(text: str, values: Mapping[str, str], form: str) -> str:
    return re.sub(form, lambda found: values[found[1]], text)


def of_kubernetes(store_port: int) -> Files:
    """Return the pods as the kubelet starts them, each with an address of its own."""
    documents = {
        (each["kind"], each["metadata"]["name"]): each
        for each in yaml.safe_load_all((DEPLOY / "kubernetes-cluster.yaml").read_text("utf-8"))
    }
    workload = documents["Deployment", "bargein"]["spec"]
    (container,) = workload["template"]["spec"]["containers"]
    (store,) = documents["StatefulSet", "bargein-store"]["spec"]["template"]["spec"]["containers"]

    def variables(found: Any, address: str) -> dict[str, str]:
        values: dict[str, str] = {}
        for each in found["env"]:
            given = each.get("valueFrom", {})
            if "fieldRef" in given:
                assert given["fieldRef"]["fieldPath"] == "status.podIP"
                value = address
            elif "secretKeyRef" in given:
                value = SECRETS[given["secretKeyRef"]["key"]]
            else:
                value = _filled(each["value"], values, r"\$\((\w+)\)")
            values[each["name"]] = value
        return values

    def arguments(found: Any, values: Mapping[str, str]) -> list[str]:
        return [_filled(word, values, r"\$\((\w+)\)") for word in found["args"]]

    servers = []
    for number in range(workload["replicas"]):
        values = variables(container, f"127.0.0.{number + 1}")
        where = values["BARGEIN_STORE"].replace("bargein-store:6379", f"localhost:{store_port}")
        values["BARGEIN_STORE"] = where
        servers.append(Server(arguments(container, values), values, free_port()))
    return Files(servers, arguments(store, variables(store, "")))


def of_compose(store_port: int) -> Files:
    """Return the services as compose starts them; their names are addresses of this machine."""
    text = (DEPLOY / "compose-cluster.yaml").read_text("utf-8")
    values = {"STORE_PASSWORD": SECRETS["password"], "PEER_SECRET": SECRETS["peer"]}
    services = yaml.safe_load(_filled(text, values, r"\$\{(\w+)\}"))["services"]
    servers = []
    for number, name in enumerate(("bargein-1", "bargein-2"), 1):
        found = services[name]
        assert found["networks"]["default"]["aliases"] == ["bargein"]
        assert float(found["stop_grace_period"].removesuffix("s")) >= Settings().drain_s + 5
        given = found["environment"]
        given["BARGEIN_STORE"] = given["BARGEIN_STORE"].replace("store:6379", f"localhost:{store_port}")
        words = [word.replace(f"{name}:", f"127.0.0.{number}:") for word in found["command"]]
        servers.append(Server(words, given, free_port()))
    return Files(servers, services["store"]["command"])


@asynccontextmanager
async def started(served: Server, folder: Path, peer_port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a server with the command of the image and the arguments of its file."""
    assert CONTAINER.command("ENTRYPOINT") == ["bargein-server"]
    words = [word.replace("/run/secrets/tokens", "tokens") for word in served.arguments]
    words = [word.replace(":9000", f":{peer_port}") for word in words]
    variables = CONTAINER.environment() | served.variables
    own = {name: value for name, value in variables.items() if name != "PATH"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", *words, cwd=folder,
        env=environment() | own | {"BARGEIN_PORT": str(served.port), "BARGEIN_HOST": "127.0.0.1"},
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(3 * WAIT_S), httpx.AsyncClient(trust_env=False) as http:
            while not await is_ready(http, served.port):
                assert process.returncode is None, "the server has ended; its message is above"
                await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def is_ready(http: httpx.AsyncClient, port: int) -> bool:
    """Return whether a server is ready for clients."""
    try:
        return (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
    except httpx.TransportError:
        return False


Opened = dict[str, Any]


async def come(port: int, opened: Opened | None = None, seq: int = 0) -> tuple[RawClient, Opened]:
    """Open a session, or resume it at a server."""
    subprotocols: Any = ["bargein.v1.json"]
    client = RawClient(await dial(f"ws://127.0.0.1:{port}/v1/session", subprotocols=subprotocols, proxy=None))
    opening: dict[str, Any] = {"type": "session.open", "auth": TOKEN}
    if opened is not None:
        cursor = {"epoch": opened["epoch"], "seq": seq}
        opening["resume"] = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
    await client.send(opening)
    answer = await client.until("session.opened")
    assert answer["resumed"] == (opened is not None)
    return client, answer


@pytest.mark.parametrize("read", [of_kubernetes, of_compose])
async def test_a_session_through_both_servers(tmp_path: Path, read: Any) -> None:
    """A turn at one is interrupted through the other, where the session is after the end of the first."""
    (tmp_path / "agent.py").write_text(AGENT + "\nagent = talk\n")
    (tmp_path / "tokens").write_text(f"ann {TOKEN}\n")
    store_port, peer_port = free_port(), free_port()
    files = read(store_port)
    assert len(files.servers) == 2
    assert files.store[0] == "valkey-server"
    async with asyncio.timeout(90), AsyncExitStack() as stack:
        await stack.enter_async_context(valkey(tmp_path / "valkey", *files.store[1:], port=store_port))
        one, _ = [
            await stack.enter_async_context(started(each, tmp_path, peer_port)) for each in files.servers
        ]
        ports = [each.port for each in files.servers]
        first, opened = await come(ports[0])
        await first.send({"type": "input.text", "id": "i1", "text": "long"})
        seq = (await first.until("text.delta"))["seq"]
        second, opened = await come(ports[1], opened, seq)
        await second.until("text.delta")
        await second.send({"type": "interrupt", "id": "x1"})
        ended = await second.until("turn.ended")
        assert (ended["status"], ended["reason"]) == ("interrupted", "client")
        one.send_signal(signal.SIGTERM)
        await one.wait()
        third, _ = await come(ports[1], opened, ended["seq"])
        assert (await third.until("replay.done"))["through"] == ended["seq"]
        await third.send({"type": "input.text", "id": "i2", "text": "short"})
        assert (await third.until("turn.ended"))["status"] == "completed"
        await third.socket.close()


def test_kubernetes_stops_in_time_and_keeps_the_peers_apart() -> None:
    """The times of a stop, the ports of the services, and who reaches the port of the peers."""
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes-cluster.yaml").read_text("utf-8")))
    (workload,) = [each for each in documents if each["kind"] == "Deployment"]
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert str(ports["http"]) == CONTAINER.value("EXPOSE")
    assert container["args"][-1].endswith(f":{ports['peer']}")
    limits = Settings()
    stops_s = limits.drain_s + limits.cleanup_grace_s + limits.cleanup_kill_s + limits.shutdown_s
    _, waits = container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] >= float(waits) + stops_s + 5
    (policy,) = [each for each in documents if each["kind"] == "NetworkPolicy"]
    assert [rule["ports"] for rule in policy["spec"]["ingress"] if "from" in rule] == [[{"port": "peer"}]]
    assert pod["securityContext"]["runAsUser"] == int(CONTAINER.value("USER"))
