"""The files of server/deploy and their guide: parsed by their programs, run as processes, and compared."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import trustme
import yaml  # type: ignore[import-untyped]
from websockets.asyncio.client import connect as dial

from bargein_client import Backoff, ClientSession, connect
from bargein_client.events import Reconnecting, SessionResumed
from bargein_server import Settings
from client_script import patiently, until
from container_file import ContainerFile
from documentation import ROOT, blocks
from live_server import RawClient
from processes import environment, free_port, server
from proxy_process import NGINX, running
from valkey_process import valkey

DEPLOY = ROOT / "server" / "deploy"
GUIDE = "server/docs/production.md"
NAME = "chat.example.com"
TOKEN = "secret-of-ann"

AGENT = """
import asyncio

async def agent(turn):
    yield f"You said {[message['content'] for message in turn.history.messages()]} "
    if turn.text == "long":
        await asyncio.sleep(60)
"""


def loaded(name: str) -> list[Any]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all((DEPLOY / name).read_text("utf-8")))


def stopping_s() -> float:
    """Return the longest time that a server with the default settings takes to stop."""
    limits = Settings()
    return limits.drain_s + limits.cleanup_grace_s + limits.cleanup_kill_s + limits.shutdown_s


CONTAINER = ContainerFile((DEPLOY / "Containerfile").read_text("utf-8"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the agent of the guide and its tokens."""
    shutil.copy(DEPLOY / "agent.py", tmp_path)
    (tmp_path / "tokens").write_text(f"ann {TOKEN}\n")
    return tmp_path


@asynccontextmanager
async def started(command: list[str], folder: Path, port: int, **variables: str) -> AsyncIterator[int]:
    """Run a server's command until the block ends; yields the id of its process when it is ready."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment() | {"BARGEIN_PORT": str(port)} | variables,
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await patiently(_ready(port, process))
        yield process.pid
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _ready(port: int, process: asyncio.subprocess.Process) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        while True:
            if process.returncode is not None:
                _, err = await process.communicate()
                raise AssertionError(f"the server has ended: {err.decode()}")
            try:
                if (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.02)


async def client_of(port: int) -> RawClient:
    """Return a client with a session."""
    subprotocols: Any = ["bargein.v1.json"]
    client = RawClient(await dial(f"ws://127.0.0.1:{port}/v1/session", subprotocols=subprotocols, proxy=None))
    await client.send({"type": "session.open", "auth": TOKEN})
    await client.until("session.opened")
    return client


def child_of(process: int) -> int:
    """Return the id of the only child of a process."""
    return int(Path(f"/proc/{process}/task/{process}/children").read_text())


def number_in_namespace(process: int) -> int:
    """Return the id that a process has in its own namespace."""
    (numbers,) = re.findall(r"^NSpid:(.*)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return int(numbers.split()[-1])


def test_the_container_file_builds_in_two_stages() -> None:
    """The image has no sources and no build tools, and the server is not root."""
    first, last = CONTAINER.stages
    copied = [words for name, words in first if name == "COPY"]
    assert all((ROOT / source).exists() for words in copied for source in words.split()[:-1])
    assert not any("/source" in words for _, words in last)
    assert int(CONTAINER.value("USER")) >= 1000
    extras = re.search(r"/source\[([\w,]+)\]", str(first))
    assert extras is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
    version = re.search(r"python:(\d+\.\d+)", str(first))
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in project["classifiers"]
    for name in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(CONTAINER.value(name)), list), "no shell may be process 1"
    sources = [words.split()[-2] for name, words in last if name == "COPY" and "--from" not in words]
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.needs("namespaces")
async def test_the_server_stops_as_process_1(folder: Path) -> None:
    """In a process namespace of its own, with a turn that runs: SIGTERM ends it within 10 s, and is told."""
    port = free_port()
    command = [*CONTAINER.command("ENTRYPOINT"), *CONTAINER.command("CMD")]
    command = [word.replace("/run/secrets/tokens", "tokens") for word in command]
    assert command[0] == "bargein-server"
    wrapped = [
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        sys.executable,
        "-m",
        "bargein_server",
        *command[1:],
    ]
    variables = CONTAINER.environment() | {
        "BARGEIN_PORT": str(port), "BARGEIN_STORE": f"sqlite:///{folder}/bargein.db",
        "PATH": os.environ["PATH"],
    }  # fmt: skip
    (folder / "agent.py").write_text(AGENT)
    async with started(wrapped, folder, port, **variables) as outer:
        check = CONTAINER.command("HEALTHCHECK")
        healthy = [sys.executable if check[0] == "python" else check[0], *check[1:]]
        healthy = [word.replace(":8000", f":{port}") for word in healthy]
        assert await (await asyncio.create_subprocess_exec(*healthy)).wait() == 0
        client = await client_of(port)
        await client.send({"type": "input.text", "id": "in_1", "text": "long"})
        await client.until("text.delta")
        inner = child_of(outer)
        assert number_in_namespace(inner) == 1
        begun = asyncio.get_running_loop().time()
        os.kill(inner, 15)
        await client.until("goaway")
        ended = await client.until("turn.ended")
        assert (ended["status"], ended["reason"]) == ("failed", "shutdown")
        await client.closed()
        await until(lambda: not Path(f"/proc/{inner}").exists())
        assert asyncio.get_running_loop().time() - begun < 10
        assert await (await asyncio.create_subprocess_exec(*healthy, stderr=subprocess.DEVNULL)).wait() != 0


def test_the_parts_of_compose_fit_together() -> None:
    """Files exist, paths are those of the image and of nginx, and the time to stop is enough."""
    (compose,) = loaded("compose.yaml")
    bargein, nginx = compose["services"]["bargein"], compose["services"]["nginx"]
    assert (DEPLOY / bargein["build"]["context"]).resolve() == ROOT
    assert (ROOT / bargein["build"]["dockerfile"]).exists()
    assert float(bargein["stop_grace_period"].removesuffix("s")) >= stopping_s() + 5
    assert f"/run/secrets/{bargein['secrets'][0]}" in CONTAINER.command("CMD")
    volume = bargein["volumes"][0].partition(":")[2]
    assert CONTAINER.environment()["BARGEIN_STORE"].startswith(f"sqlite:///{volume}/")
    assert volume in CONTAINER.value("VOLUME")
    assert bargein["expose"] == [CONTAINER.environment()["BARGEIN_PORT"]] == [CONTAINER.value("EXPOSE")]
    assert "ports" not in bargein, "nginx alone is reached from outside"
    conf = (DEPLOY / "nginx.conf").read_text()
    mounts = dict(mount.split(":")[:2] for mount in nginx["volumes"])
    assert (DEPLOY / "nginx.conf").name == Path(next(iter(mounts))).name
    certificate = re.findall(r"ssl_certificate(?:_key)? (\S+);", conf)
    assert {str(Path(file).parent) for file in certificate} == {mounts["./certs"]}
    assert f"proxy_pass http://bargein:{bargein['expose'][0]};" in conf


@pytest.mark.needs("nginx")
async def test_nginx_of_compose(folder: Path) -> None:
    """TLS, a conversation, a redirect from HTTP, and no metrics outside."""
    port, plain, target = free_port(), free_port(), free_port()
    authority = trustme.CA()
    (folder / "chat.pem").write_bytes(authority.issue_cert(NAME).private_key_and_cert_chain_pem.bytes())
    conf = (DEPLOY / "nginx.conf").read_text().replace("/etc/ssl/chat/", f"{folder}/")
    conf = conf.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl").replace(
        "listen 80", f"listen 127.0.0.1:{plain}"
    )
    conf = NGINX.format(folder=folder, servers=conf.replace("bargein:8000", f"127.0.0.1:{target}"))
    command = [sys.executable, "-m", "bargein_server", *CONTAINER.command("CMD")]
    command = [word.replace("/run/secrets/tokens", "tokens") for word in command]
    async with started(command, folder, target), running("nginx", conf, folder, port):
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        subprotocols: Any = ["bargein.v1.json"]
        client = RawClient(
            await dial(
                f"wss://{NAME}/v1/session", host="127.0.0.1", port=port, ssl=trusting, server_hostname=NAME,
                subprotocols=subprotocols, origin=f"https://{NAME}", proxy=None,  # type: ignore[arg-type]
            )
        )  # fmt: skip
        await client.send(
            {"type": "session.open", "auth": TOKEN}, {"type": "input.text", "id": "a", "text": "hi"}
        )
        assert (await client.until("turn.ended"))["status"] == "completed"
        async with httpx.AsyncClient(verify=trusting, trust_env=False) as http:
            there = {"Host": NAME}
            at = {"extensions": {"sni_hostname": NAME}, "headers": there}
            assert (await http.get(f"https://127.0.0.1:{port}/readyz", **at)).status_code == 200  # type: ignore[arg-type]
            assert (await http.get(f"https://127.0.0.1:{port}/metrics", **at)).status_code == 404  # type: ignore[arg-type]
            moved = await http.get(f"http://127.0.0.1:{plain}/a?b=c", headers=there)
            assert (moved.status_code, moved.headers["location"]) == (301, f"https://{NAME}/a?b=c")
        await client.socket.close()


def unit() -> dict[str, str]:
    """Return the settings of the service of systemd."""
    lines = (DEPLOY / "bargein.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


@pytest.mark.needs("systemd")
def test_systemd_accepts_the_service(tmp_path: Path) -> None:
    """Without a warning, and with few rights."""
    text = (DEPLOY / "bargein.service").read_text()
    file = tmp_path / "bargein.service"
    file.write_text(text.replace("/opt/bargein/venv/bin/bargein-server", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert float(unit()["TimeoutStopSec"]) >= stopping_s() + 5


async def test_the_command_of_the_service(folder: Path) -> None:
    """It starts with its variables, as systemd would start it."""
    assert unit()["WorkingDirectory"] == "/opt/bargein"
    command = shlex.split(unit()["ExecStart"].replace("${CREDENTIALS_DIRECTORY}", str(folder)))
    assert unit()["LoadCredential"].split(":")[0] == "tokens"
    variables = dict(pair.split("=", 1) for pair in unit()["Environment"].split())
    state = f"/var/lib/{unit()['StateDirectory']}"
    variables["BARGEIN_STORE"] = variables["BARGEIN_STORE"].replace(state, str(folder))
    port = free_port()
    words = [sys.executable, "-m", "bargein_server", *command[1:]]
    async with started(words, folder, port, **variables | {"BARGEIN_PORT": str(port)}):
        client = await client_of(port)
        await client.send({"type": "input.text", "id": "in_1", "text": "hello"})
        assert (await client.until("turn.ended"))["status"] == "completed"
        await client.socket.close()
    assert (folder / "bargein.db").exists()


async def test_kubernetes_and_the_image_fit_together(folder: Path) -> None:
    """Ports, paths and times; each probe is answered by a server."""
    service, workload, ingress = loaded("kubernetes.yaml")
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (port,) = container["ports"]
    assert str(port["containerPort"]) == CONTAINER.value("EXPOSE")
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert service["spec"]["selector"].items() <= workload["spec"]["template"]["metadata"]["labels"].items()
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert (backend["name"], backend["port"]["name"]) == (service["metadata"]["name"], "http")
    assert pod["securityContext"]["runAsUser"] == int(CONTAINER.value("USER"))
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert CONTAINER.environment()["BARGEIN_STORE"].startswith(f"sqlite:///{mounts['conversations']}/")
    assert f"{mounts['tokens']}/tokens" in CONTAINER.command("CMD")
    command, waits = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    assert pod["terminationGracePeriodSeconds"] >= float(waits) + stopping_s() + 5
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= Settings().startup_s
    async with (
        server("agent:agent", folder, "--tokens", "tokens") as process,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] == port["name"]
            answer = await http.get(f"http://127.0.0.1:{process.port}{asked['path']}")
            assert answer.status_code == 200


def names_of(expression: str) -> set[str]:
    """Return the metrics of an expression of PromQL; raises for what is none."""
    expression = expression.replace("$__rate_interval", "5m").replace("$instance", ".*")
    promql_parser.parse(expression)
    bare = re.sub(r'"[^"]*"|\{[^}]*\}', "", expression)
    return set(re.findall(r"\b(?:bargein|process)_\w+|\bup\b", bare))


def expressions() -> dict[str, str]:
    """Return the expressions of the alerts and of the dashboard by their titles."""
    (alerts,) = loaded("alerts.yaml")
    found = {rule["alert"]: rule["expr"] for group in alerts["groups"] for rule in group["rules"]}
    for panel in json.loads((DEPLOY / "grafana.json").read_text())["panels"]:
        found |= {f"{panel['title']} {target['refId']}": target["expr"] for target in panel["targets"]}
    return found


@pytest.mark.needs("valkey")
async def test_the_metrics_of_alerts_and_dashboard_exist(folder: Path) -> None:
    """Each name is one of a server that has had a conversation, and each label one of its metric."""
    async with (
        valkey(folder / "valkey") as store,
        server("agent:agent", folder, "--tokens", "tokens", "--metrics", "--store", store.url) as process,
    ):
        client = await client_of(process.port)
        await client.send({"type": "input.text", "id": "in_1", "text": "hello"})
        await client.until("text.delta")
        await client.send({"type": "interrupt", "id": "x_1"})
        await client.until("turn.ended")
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(
                f"http://127.0.0.1:{process.port}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
            )
        await client.socket.close()
    known = {"up"}
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", answer.text, re.MULTILINE):
        known |= {name, f"{name}_bucket"} if kind == "histogram" else {name}
    for title, expression in expressions().items():
        names = names_of(expression)
        assert names, title
        assert names <= known, f"{title}: {names - known}"
    for name, by in re.findall(r"by \(([\w, ]+)\) \(rate\((\w+)", " ".join(expressions().values())):
        samples = re.findall(rf"^{by}{{(.*)}}", answer.text, re.MULTILINE)
        wanted = set(name.split(", ")) - {"instance"}
        assert not samples or all(f'{label}="' in samples[0] for label in wanted), by


def test_the_dashboard_and_the_alerts_are_whole() -> None:
    """Each panel has an id and a place, each alert words and a severity; numbers are the defaults."""
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    (alerts,) = loaded("alerts.yaml")
    for rule in alerts["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["for"]
    assert f"* {Settings().max_kept_bytes}" in expressions()["BargeinMemory"]


async def resumed(session: ClientSession) -> None:
    """Wait until a session has been resumed on another connection."""
    away = False
    async for event in session.events():
        away = away or isinstance(event, Reconnecting)
        if away and isinstance(event, SessionResumed):
            return


async def test_an_upgrade_in_the_middle_of_a_conversation(tmp_path: Path) -> None:
    """The old server is stopped as by a deploy, the new one has the same store: nothing is said twice."""
    (tmp_path / "agent.py").write_text(AGENT)
    options = ("--store", "sqlite:///bargein.db", "--drain-s", "0.2")
    port = free_port()
    url = f"ws://127.0.0.1:{port}"
    async with server("agent:agent", tmp_path, *options, port=port) as old:
        async with connect(url, backoff=Backoff(base_s=0.05, cap_s=0.2)) as session:
            assert (await session.send("hello").ended()).status == "completed"
            before = session.id
            cut = session.send("long")
            await until(lambda: bool(cut.text))
            waiting = asyncio.create_task(resumed(session))
            old.process.terminate()
            assert (await patiently(cut.ended())).reason == "shutdown"
            await patiently(old.process.wait())
            async with server("agent:agent", tmp_path, *options, port=port):
                await patiently(waiting)
                assert session.id == before
                turn = session.send("again")
                assert (await patiently(turn.ended())).status == "completed"
                assert "'hello'" in turn.text
                assert "'long'" in turn.text


async def test_a_backup_of_a_store_in_use_is_restored(tmp_path: Path) -> None:
    """The snippet of the guide copies it; a server with the copy knows the conversation."""
    scope: dict[str, Any] = {}
    exec(blocks(GUIDE, "python")[0].text, scope)
    (tmp_path / "agent.py").write_text(AGENT)
    store = ("--store", "sqlite:///bargein.db")
    port = free_port()
    async with server("agent:agent", tmp_path, *store, port=port) as process:
        client = RawClient(
            await dial(f"ws://127.0.0.1:{port}/v1/session", subprotocols=["bargein.v1.json"], proxy=None)  # type: ignore[list-item]
        )
        await client.send({"type": "session.open"}, {"type": "input.text", "id": "in_1", "text": "hello"})
        opened = await client.until("session.opened")
        ended = await client.until("turn.ended")
        await asyncio.to_thread(scope["back_up"], str(tmp_path / "bargein.db"), str(tmp_path / "copy.db"))
        await process.kill()
    for name in ("bargein.db", "bargein.db-wal", "bargein.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "copy.db").rename(tmp_path / "bargein.db")
    async with server("agent:agent", tmp_path, *store, port=port):
        client = RawClient(
            await dial(f"ws://127.0.0.1:{port}/v1/session", subprotocols=["bargein.v1.json"], proxy=None)  # type: ignore[list-item]
        )
        cursor = {"epoch": opened["epoch"], "seq": ended["seq"]}
        resume = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
        await client.send({"type": "session.open", "resume": resume})
        again = await client.until("session.opened")
        assert (again["resumed"], again["session_id"]) == (True, opened["session_id"])
        await client.send({"type": "input.text", "id": "in_2", "text": "again"})
        assert "'hello'" in (await client.until("text.delta"))["text"]
        await client.socket.close()
