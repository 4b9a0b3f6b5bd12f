"""`scripts/cluster`: two servers, their store and a balancer."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest

from processes import ROOT, environment
from resuming_customer import AGENT, Customer
from waiting import WAIT_S

pytestmark = [pytest.mark.needs("valkey"), pytest.mark.same_everywhere]


async def test_a_session_goes_on_at_any_of_the_addresses(tmp_path: Path) -> None:
    """The command prints them; it ends with all that it has started."""
    await asyncio.to_thread((tmp_path / "agents.py").write_text, AGENT)
    variables = environment()
    variables["PYTHONPATH"] += f":{ROOT / 'tests' / 'support'}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "scripts" / "cluster.py"), "--port", "0", "agents:talk",
        "--log-level", "warning", cwd=tmp_path, env=variables, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        ports: dict[str, int] = {}
        async with asyncio.timeout(6 * WAIT_S):
            while "all nodes" not in ports:
                line = (await process.stdout.readline()).decode()
                assert line, "the command ended"
                if found := re.match(r"(.*): http://localhost:(\d+)/", line):
                    ports[found[1]] = int(found[2])
        assert set(ports) == {"node 1", "node 2", "all nodes"}
        ann = Customer("ann")
        for name in ("node 1", "node 2", "all nodes", "all nodes"):
            client = await ann.come(ports[name])
            turn = await ann.ask(client, f"short {name}")
            await ann.until(client, "turn.ended", turn_id=turn)
            client.socket.transport.abort()
        assert (ann.fresh, ann.snapshots) == (1, 0)
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(3 * WAIT_S):
            await process.wait()
    assert process.returncode == 0
