"""A user whose session must survive faults: it checks each number, each end, and its history.

customer = Customer("ann")
client = await customer.come(port)          # opens a session, later resumes it
await customer.ask(client, "short question")
"""

from __future__ import annotations

from typing import Any

from websockets.asyncio.client import connect as dial

from live_server import RawClient

AGENT = """
import asyncio, json

async def talk(turn):
    if turn.text == "history":
        yield json.dumps(turn.history.messages()[:-1])
    elif turn.text.startswith("short"):
        yield f"answer to {turn.text}"
    elif turn.text.startswith("speak"):  # for some seconds
        words = turn.text.split(" ")
        loop = asyncio.get_running_loop()
        began, takes_s = loop.time(), float(words[1])
        yield "answer to"
        for number, word in enumerate(words, 1):
            await asyncio.sleep(began + takes_s * number / len(words) - loop.time())
            yield f" {word}"
    else:
        while True:
            yield f"{turn.text} "
            await asyncio.sleep(0.005)
"""


class Customer:
    """One user: its session, what it was told, and what it expects to find again.

    Attributes:
        opened: The last `session.opened`.
        seq: The last number that it has.
        turns: Its turns as it knows them: input, text that was received, status and reason of the end.
        fresh: Number of sessions that it got.
        snapshots: Number of snapshots that it got.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened: dict[str, Any] = {}
        self.seq = 0
        self.turns: dict[str, dict[str, Any]] = {}
        self.fresh = self.snapshots = 0
        self._inputs = 0

    @property
    def long_turns(self) -> int:
        """Number of turns of which the client has received much."""
        return sum(turn.get("long", False) for turn in self.turns.values())

    async def come(self, port: int) -> RawClient:
        """Connect and open or resume the session."""
        socket = await dial(f"ws://127.0.0.1:{port}/v1/session", subprotocols=["bargein.v1.json"], proxy=None)  # type: ignore[list-item]
        client = RawClient(socket)
        opening: dict[str, Any] = {"type": "session.open"}
        if self.opened:
            cursor = {"epoch": self.opened["epoch"], "seq": self.seq}
            opening["resume"] = {
                "session_id": self.opened["session_id"], "token": self.opened["token"], "cursor": cursor,
            }  # fmt: skip
        await client.send(opening)
        before = self.opened
        self.opened = await client.until("session.opened")
        if before:
            assert self.opened["resumed"], self.opened
            assert self.opened["session_id"] == before["session_id"]
            await self.until(client, "replay.done")
        else:
            self.fresh += 1
        return client

    async def until(self, client: RawClient, kind: str, **fields: Any) -> dict[str, Any]:
        """Take events until one of a kind."""
        while True:
            event = await client.receive()
            self._take(event)
            if event["type"] == kind and all(event.get(name) == value for name, value in fields.items()):
                return event

    def _take(self, event: dict[str, Any]) -> None:
        if event["type"] == "snapshot":
            self.snapshots += 1
            self.seq = event["through"]
            for state in event["turns"]:
                turn = self.turns.setdefault(state["turn_id"], {"input": state["input_id"], "text": ""})
                turn["taken_back"] = len(turn["text"]) - len(state["lanes"][""].get("text", ""))
                turn["text"] = state["lanes"][""].get("text", "")
                if "status" in state:
                    assert turn.get("end", (state["status"], state["reason"])) == (
                        state["status"], state["reason"],
                    )  # fmt: skip
                    turn["end"] = (state["status"], state["reason"])
        if "seq" not in event or not event["seq"]:
            return
        assert event["seq"] == self.seq + 1, (self.name, event, self.seq)
        self.seq = event["seq"]
        turn = self.turns.setdefault(event["turn_id"], {"input": event.get("input_id"), "text": ""})
        assert "end" not in turn, f"{self.name} got {event} after the end"
        if event["type"] == "text.delta":
            turn["text"] += event["text"]
            turn["long"] = turn["text"].count("long") >= 60
        elif event["type"] == "turn.ended":
            turn["end"] = (event["status"], event["reason"])

    async def ask(self, client: RawClient, text: str) -> str:
        """Send an input; return the id of its turn once it was accepted."""
        self._inputs += 1
        await client.send({"type": "input.text", "id": f"i{self._inputs}", "text": text})
        accepted = await self.until(client, "input.accepted", input_id=f"i{self._inputs}")
        return str(accepted["turn_id"])
