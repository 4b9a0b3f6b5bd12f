"""A server of several processes: its workers die, its supervisor is stopped, killed and refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from bargein_client import Backoff, ClientSession, SessionRestarted, connect
from bargein_server.cluster.place import number_of
from bargein_server.hosting.own_ids import own_session_id
from client_script import patiently
from live_server import RawClient, ask, request
from processes import ServerProcess, environment, free_port, server
from waiting import WAIT_S, until
from worker_processes import children, folder_of, lives, workers

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="workers share a port on Linux")

AGENT = """
import asyncio, os, sys, time

async def talk(turn):
    yield f"{os.getpid()} "
    while True:
        yield "word "
        await asyncio.sleep(0.01)

async def echo(turn):
    yield f"{os.getpid()} after {len(turn.history.messages()) // 2}"

async def slow(turn):
    yield "begin "
    await asyncio.sleep(1.5)
    yield "end"

async def hang(turn):
    yield "word "
    await asyncio.sleep(0.1)
    time.sleep(1000)

async def count(turn):
    for number in range(1000):
        yield f"{number} "
        await asyncio.sleep(0.01)

class Broken:
    async def startup(self):
        raise RuntimeError("no model")
    async def __call__(self, turn):
        yield ""

broken = Broken()
"""

HASTY = Backoff(base_s=0.05, cap_s=0.2)


@pytest.fixture(autouse=True)
def agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the agents, and give the sockets a folder of the test's own."""
    (tmp_path / "agents.py").write_text(AGENT)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")


async def pid_of(session: ClientSession) -> int:
    """Return the worker that serves a session, whose agent begins with that."""
    turn = session.send("where?")
    await patiently(turn.accepted())
    await until(lambda: " " in turn.text)
    await patiently(turn.interrupt())
    return int(turn.text.split()[0])


@asynccontextmanager
async def one_session_for_each(process: ServerProcess) -> AsyncIterator[dict[int, ClientSession]]:
    """Connect until each worker has a session of ours."""
    pids = set(children(process))
    found: dict[int, ClientSession] = {}
    async with AsyncExitStack() as stack, asyncio.timeout(10 * WAIT_S):
        while set(found) != pids:
            session = await stack.enter_async_context(connect(process.url, backoff=HASTY))
            found.setdefault(await pid_of(session), session)
        yield found


@asynccontextmanager
async def plain_client(process: ServerProcess) -> AsyncIterator[RawClient]:
    """Connect a client that does what it is told."""
    subprotocols = [Subprotocol("bargein.v1.json")]
    async with dial(process.url, subprotocols=subprotocols, compression=None, proxy=None) as websocket:
        try:
            yield RawClient(websocket)
        finally:
            websocket.transport.abort()


async def test_a_client_comes_back_to_its_session_whichever_worker_it_meets(tmp_path: Path) -> None:
    """Twenty new connections within a turn: each goes on at the next number, and the last one interrupts."""
    async with workers("agents:talk", tmp_path) as process:
        async with plain_client(process) as client:
            await client.send({"type": "session.open"})
            opened = await client.until("session.opened")
            turn = await ask(client)
            seq = (await client.until("text.delta"))["seq"]
        for _ in range(20):
            cursor = {"epoch": opened["epoch"], "seq": seq}
            session = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
            async with plain_client(process) as client:
                await client.send({"type": "session.open", "resume": session})
                opened = await client.until("session.opened")
                assert (opened["resumed"], opened["turn_id"]) == (True, turn)
                assert (await client.until("text.delta"))["seq"] == seq + 1
                seq += 1
        async with plain_client(process) as client:
            session["token"] = opened["token"]
            await client.send(
                {"type": "session.open", "resume": session},
                {"type": "interrupt", "id": "x", "turn_id": turn},
            )
            assert (await client.until("interrupt.result"))["outcome"] == "interrupted"
            assert (await client.until("turn.ended"))["reason"] == "client"


async def test_a_killed_worker_takes_only_its_own_sessions_along(tmp_path: Path) -> None:
    """The client of the dead worker is told at once; the other notices nothing; the worker comes back."""
    async with workers("agents:talk", tmp_path, "--drain-s", "0", "--store", "none") as process:
        async with one_session_for_each(process) as sessions:
            (doomed, lost), (other, kept) = sessions.items()
            events = lost.events()
            story = kept.send("story")
            await until(lambda: "word" in story.text)
            os.kill(doomed, signal.SIGKILL)
            while not isinstance(event := await patiently(anext(events)), SessionRestarted):
                pass
            assert event.reason == "unknown_session"
            before = story.text.count("word")
            await until(lambda: story.text.count("word") > before + 5)
            assert await pid_of(lost) != doomed
            await until(lambda: len(children(process)) == 2)
            assert other in children(process)
            assert doomed not in children(process)


async def test_a_signal_stops_all_workers(tmp_path: Path) -> None:
    """Turns end as `failed` and `shutdown`; the status is that of a server of one process."""
    async with workers("agents:talk", tmp_path) as process, one_session_for_each(process) as sessions:
        turns = [session.send("story") for session in sessions.values()]
        await until(lambda: all("word" in turn.text for turn in turns))
        pids = children(process)
        process.process.send_signal(signal.SIGTERM)
        ends = [await patiently(turn.ended()) for turn in turns]
        assert {(end.status, end.reason) for end in ends} == {("failed", "shutdown")}
        assert await patiently(process.process.wait()) == -signal.SIGTERM
        assert not any(map(lives, pids))


async def test_workers_stop_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    """Nothing is left behind that holds the port; the folder of the sockets goes, too."""
    async with workers("agents:talk", tmp_path) as process:
        pids = children(process)
        sockets = folder_of(pids[0])
        assert os.stat(sockets).st_mode & 0o777 == 0o700
        await process.kill()
        await until(lambda: not any(map(lives, pids)))
        with pytest.raises(FileNotFoundError):
            os.stat(sockets)


async def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the command to its end; return status and errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", *arguments,
        cwd=folder, env=environment(), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(6 * WAIT_S):
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, errors.decode()


@pytest.mark.parametrize(
    ("agent", "status", "message"),
    [("agents:broken", 3, "RuntimeError: no model"), ("agents:missing", 2, "has no 'missing'")],
)
async def test_a_server_whose_first_worker_does_not_start_ends(
    tmp_path: Path, agent: str, status: int, message: str
) -> None:
    """Once, with the status and the message of a server of one process."""
    found, errors = await run(tmp_path, agent, "--port", "0", "--workers", "3")
    assert (found, errors.count(message)) == (status, 1)


async def test_a_port_of_another_server_is_refused(tmp_path: Path) -> None:
    """`SO_REUSEPORT` would let both have it, and split the clients."""
    async with workers("agents:talk", tmp_path) as process:
        status, errors = await run(tmp_path, "agents:talk", "--port", str(process.port), "--workers", "2")
        assert (status, "is another server running there?" in errors) == (3, True)


async def test_a_variable_gives_the_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`BARGEIN_WORKERS`, as for containers."""
    monkeypatch.setenv("BARGEIN_WORKERS", "3")
    async with server("agents:talk", tmp_path) as process:
        await until(lambda: len(children(process)) == 3)
        process.process.terminate()
        await patiently(process.process.wait())


async def test_a_killed_worker_with_a_store_loses_no_session(tmp_path: Path) -> None:
    """The turn that ran ends as `node_lost`; the client goes on with its history at any worker."""
    async with workers("agents:talk", tmp_path, "--store", "sqlite:///kept.db") as process:
        async with one_session_for_each(process) as sessions:
            (doomed, session), (other, kept) = sessions.items()
            session_id = session.id
            turn = session.send("story")
            await until(lambda: turn.text.count("word") > 30)
            story = kept.send("story")
            await until(lambda: "word" in story.text)
            os.kill(doomed, signal.SIGKILL)
            end = await patiently(turn.ended())
            assert (end.status, end.reason, session.id) == ("failed", "node_lost", session_id)
            before = story.text.count("word")
            await until(lambda: story.text.count("word") > before + 5)
            assert await pid_of(session) != doomed
            assert session.id == session_id
            assert other in children(process)


@pytest.mark.parametrize("store", ["none", "sqlite:///kept.db"])
async def test_a_hangup_replaces_the_workers_and_loses_no_session(tmp_path: Path, store: str) -> None:
    """Idle sessions go on with their history in new processes, again and again."""
    async with workers("agents:echo", tmp_path, "--drain-s", "10", "--store", store) as process:
        async with one_session_for_each(process) as sessions:
            told = {session.id: session for session in sessions.values()}
            for said in range(2, 4):
                before = set(children(process))
                process.process.send_signal(signal.SIGHUP)
                async with asyncio.timeout(6 * WAIT_S):
                    while before & set(children(process)) or len(children(process)) != 2:
                        await asyncio.sleep(0.05)
                for session_id, session in told.items():
                    turn = session.send("still there?")
                    end = await patiently(turn.ended())
                    assert (end.status, session.id) == ("completed", session_id)
                    pid, messages = turn.text.split(" after ")
                    assert int(pid) in children(process)
                    assert int(messages) >= said - 1


async def test_a_turn_ends_before_its_session_moves(tmp_path: Path) -> None:
    """A reload waits for it; its client hears it to its end and goes on in the new process."""
    async with workers("agents:slow", tmp_path, "--drain-s", "10") as process:
        async with connect(process.url, backoff=HASTY) as session:
            turn = session.send("slowly")
            await until(lambda: "begin" in turn.text)
            before = set(children(process))
            process.process.send_signal(signal.SIGHUP)
            end = await patiently(turn.ended())
            assert (end.status, turn.text) == ("completed", "begin end")
            async with asyncio.timeout(6 * WAIT_S):
                while before & set(children(process)):
                    await asyncio.sleep(0.05)
            again = session.send("again")
            assert (await patiently(again.ended())).status == "completed"


async def test_metrics_of_a_real_server_have_all_workers(tmp_path: Path) -> None:
    """Whichever worker is scraped."""
    async with workers("agents:talk", tmp_path, "--metrics") as process:
        for _ in range(4):
            status, _, text = await request(process.port, "/metrics")
            assert status == 200
            for number in (1, 2):
                assert f'bargein_connections{{worker="{number}"}}'.encode() in text


async def open_realtime(process: ServerProcess, name: str = "talk", **options: Any) -> ClientConnection:
    """Connect a Realtime client to a conversation, and take `session.created`."""
    url = f"ws://127.0.0.1:{process.port}/v1/realtime?conversation={name}"
    socket = await dial(url, proxy=None, **options)
    socket.configured = json.loads(await socket.recv())["session"]["instructions"]  # type: ignore[attr-defined]
    return socket


async def test_a_realtime_conversation_is_in_one_worker_whichever_its_clients_meet(tmp_path: Path) -> None:
    """It is told when that worker is killed, and the next client begins anew, without a store."""
    async with workers("agents:count", tmp_path, "--door", "realtime", "--drain-s", "0") as process:
        pids = set(children(process))
        found = []
        for _ in range(16):
            socket = await open_realtime(process)
            assert socket.response is not None
            found.append(socket.response.headers["Bargein-Session"])
            await socket.close()
        assert len(set(found)) == 1
        sockets = [await open_realtime(process) for _ in range(8)]  # each takes the place of the one before
        await respond(sockets[-1])
        for pid in filter(has_the_conversation, pids):
            os.kill(pid, signal.SIGKILL)
        with suppress(ConnectionClosed):
            while True:
                await sockets[-1].recv()
        assert sockets[-1].close_code in (1006, 1012)  # its own worker was killed, or another one
        await patiently(comes_back(process))


async def respond(socket: ClientConnection) -> None:
    """Ask for a response, and wait until it has begun."""
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]}
    await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
    await socket.send(json.dumps({"type": "response.create"}))
    while json.loads(await socket.recv())["type"] != "response.output_text.delta":
        pass


async def test_clients_of_another_worker_get_all_that_was_written(tmp_path: Path) -> None:
    """SIGTERM: each has the end of its response, and then the close with its code."""
    async with workers("agents:count", tmp_path, "--door", "realtime", "--drain-s", "0") as process:
        sockets = [await open_realtime(process, f"talk-{number}") for number in range(12)]
        for socket in sockets:
            await respond(socket)
        process.process.terminate()
        for socket in sockets:
            kinds = []
            with suppress(ConnectionClosed):
                while True:
                    kinds.append(json.loads(await socket.recv())["type"])
            assert "response.done" in kinds
            assert socket.close_code == 1012
        await patiently(process.process.wait())


def has_the_conversation(pid: int) -> bool:
    """Return whether a worker has the conversation `talk`, whose hash names its number."""
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    worker = next(each for each in variables if each.startswith("_BARGEIN_WORKER="))
    number = json.loads(worker.partition("=")[2])["place"]["number"]
    return bool(number == number_of(own_session_id(None, "talk"), 2))


async def comes_back(process: ServerProcess) -> None:
    """Connect a Realtime client as soon as the worker of its conversation runs again."""
    while True:
        try:
            socket = await open_realtime(process)
        except (OSError, InvalidHandshake):
            await asyncio.sleep(0.05)
        else:
            await socket.close()
            return


async def test_a_key_has_its_configuration_at_every_worker(tmp_path: Path) -> None:
    """Whichever issued it; a key that was used has none any more."""
    async with workers("agents:count", tmp_path, "--door", "realtime", "--drain-s", "0") as process:
        body = {"session": {"type": "realtime", "instructions": "be short"}}
        url = f"http://127.0.0.1:{process.port}/v1/realtime/client_secrets"
        for _ in range(12):
            async with httpx.AsyncClient(trust_env=False) as http:  # a new connection reaches any worker
                answer = await http.post(url, json=body)
            headers = {"Authorization": f"Bearer {answer.json()['value']}"}
            for configured in ("be short", ""):
                socket = await open_realtime(process, additional_headers=headers)
                assert socket.configured == configured  # type: ignore[attr-defined]
                await socket.close()


async def test_a_reload_that_is_stopped_stops_old_and_new_workers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The old one ends its turn in order, before the supervisor; nothing is told of a worker that fails."""
    async with workers("agents:slow", tmp_path, "--drain-s", "10") as process:
        async with connect(process.url, backoff=HASTY) as session:
            turn = session.send("slowly")
            await until(lambda: "begin" in turn.text)
            before = set(children(process))
            process.process.send_signal(signal.SIGHUP)
            await until(lambda: len(children(process)) == 3)
            process.process.send_signal(signal.SIGTERM)
            end = await patiently(turn.ended())
            assert (end.status, turn.text) == ("completed", "begin end")
            assert before & set(children(process)), "the supervisor has ended before its workers"
        assert await patiently(process.process.wait()) == -signal.SIGTERM
        assert not any(map(lives, before))
    assert "does not start" not in capfd.readouterr().err


async def test_a_worker_that_ends_at_once_is_started_ever_more_slowly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The other one serves meanwhile; it comes back when its cause is gone."""
    (tmp_path / "agents.py").write_text("import os\nif os.path.exists('full'): os._exit(7)\n" + AGENT)
    async with workers("agents:echo", tmp_path, "--drain-s", "0") as process:
        doomed, other = children(process)
        (tmp_path / "full").touch()
        os.kill(doomed, signal.SIGKILL)
        errors = ""

        async def tells(text: str) -> None:
            nonlocal errors
            async with asyncio.timeout(6 * WAIT_S):
                while text not in errors:
                    errors += capfd.readouterr().err
                    await asyncio.sleep(0.05)

        for delay_s in ("0.2", "0.4", "0.8", "1.6"):
            await tells(f"is started again in {delay_s} s")
        assert "ended with status 7" in errors
        assert other in children(process)
        async with connect(process.url, backoff=HASTY) as session:
            turn = session.send("still there?")
            assert (await patiently(turn.ended())).status == "completed"
        (tmp_path / "full").unlink()
        async with asyncio.timeout(6 * WAIT_S):
            while len(children(process)) < 2 or not all(map(serves, children(process))):
                await asyncio.sleep(0.05)


def serves(pid: int) -> bool:
    """Return whether a worker has its socket."""
    sockets = folder_of(pid)
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    worker = next(each for each in variables if each.startswith("_BARGEIN_WORKER="))
    name: str = json.loads(worker.partition("=")[2])["place"]["name"]
    return (Path(sockets) / name).exists()


async def test_a_port_that_another_server_is_about_to_take_is_refused(tmp_path: Path) -> None:
    """Both would find it free at the same moment, and share it."""
    port = free_port()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"\0bargein 127.0.0.1:{port}")
        status, errors = await run(tmp_path, "agents:talk", "--port", str(port), "--workers", "2")
        assert (status, "is another server running there?" in errors) == (3, True)


@pytest.mark.nightly
async def test_a_worker_that_hangs_ends_after_its_supervisor_was_killed(tmp_path: Path) -> None:
    """It cannot notice that by itself, and would hold the port for ever."""
    async with workers("agents:hang", tmp_path, "--drain-s", "0") as process:
        pids = children(process)
        async with plain_client(process) as client:
            await client.send({"type": "session.open"})
            await ask(client)
            await client.until("text.delta")
            await process.kill()
            async with asyncio.timeout(60):
                while any(map(lives, pids)):
                    await asyncio.sleep(0.1)
