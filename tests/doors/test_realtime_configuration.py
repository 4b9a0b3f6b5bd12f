"""Configuration of a Realtime session, its bounds, and options of single responses."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bargein_server import Output, Turn
from bargein_server.endpoints.doors.realtime import items
from bargein_server.endpoints.doors.realtime.configuration import MAX_BYTES, first_session, patched
from bargein_server.endpoints.doors.realtime.requests import BadRequest
from bargein_server.voice.sound import encoded
from door_agent import play
from live_server import serving
from realtime_client import realtime, text_of
from realtime_sound import listening, sound, talker
from sse_client import http

SEMANTIC = {
    "type": "semantic_vad", "eagerness": "auto", "create_response": True, "interrupt_response": True,
}  # fmt: skip


def detection(*patches: Any) -> Any:
    """Return the detection after patches of it."""
    session = first_session("s", "m", hears=True)
    for patch in patches:
        session = patched(session, {"audio": {"input": {"turn_detection": patch}}})
    return session["audio"]["input"]["turn_detection"]


def test_detection_is_whole() -> None:
    """Of another type it has that type's defaults, and null and false turn it off."""
    assert detection()["silence_duration_ms"] == 500
    assert detection({"silence_duration_ms": 700})["threshold"] == 0.5
    assert detection({"type": "semantic_vad"}) == SEMANTIC
    assert detection({"type": "semantic_vad"}, {"eagerness": "low"}) == {**SEMANTIC, "eagerness": "low"}
    assert detection({"type": "semantic_vad"}, {"type": "server_vad"}) == detection()
    assert detection(None) is None
    assert detection(False) is None
    assert detection(None, {"type": "server_vad", "threshold": None})["threshold"] == 0.5


def test_silence_is_not_watched() -> None:
    """A client that asks for a time-out is not told that it gets one."""
    assert detection({"type": "server_vad", "idle_timeout_ms": 5000})["idle_timeout_ms"] is None


def test_unknown_fields_are_ignored() -> None:
    """They are not kept, so that many of them fill no memory."""
    session = first_session("s", "m", hears=False)
    noisy = patched(
        session, {"type": "realtime", "colour": "red", "audio": {"input": {"colour": 1}, "x": {}}}
    )
    assert noisy == session
    assert patched(session, {"id": "x", "object": "y", "expires_at": 7}) == session


@pytest.mark.parametrize(
    ("patch", "param"),
    [
        ([], "session"),
        ({"tools": 7}, "session.tools"),
        ({"tools": [7]}, "session.tools[0]"),
        ({"audio": 7}, "session.audio"),
        ({"audio": {"input": {"format": {"type": "audio/opus"}}}}, "session.audio.input.format.type"),
        ({"audio": {"input": {"turn_detection": {"threshold": 2}}}},
         "session.audio.input.turn_detection.threshold"),
        ({"max_output_tokens": 0}, "session.max_output_tokens"),
        ({"instructions": "x" * MAX_BYTES}, "session"),
    ],
)  # fmt: skip
def test_a_bad_patch(patch: Any, param: str) -> None:
    """It names the field."""
    with pytest.raises(BadRequest) as refused:
        patched(first_session("s", "m", hears=True), patch)
    assert refused.value.param == param


async def test_a_refused_update_changes_nothing() -> None:
    """The session keeps its configuration; the client may go on."""
    async with realtime(play) as talk:
        wrong: Any = {"type": "realtime", "instructions": "New.", "audio": {"input": 7}}
        await talk.connection.session.update(session=wrong)
        assert (await talk.error())["param"] == "session.audio.input"
        await talk.connection.session.update(session={"type": "realtime"})
        assert (await talk.until("session.updated"))["session"]["instructions"] == ""


async def test_a_bad_configuration_of_a_key() -> None:
    """It is refused with the key, and not when the browser connects."""
    async with serving(play, doors=["realtime"]) as server, http(server) as client:
        response = await client.post("/v1/realtime/client_secrets", {"session": {"audio": 7}})
        assert response.status_code == 400
        assert "session.audio" in response.json()["error"]["message"]


async def test_options_reach_the_agent() -> None:
    """Those of the session as its metadata, those of a response as metadata of its input."""
    seen: list[Any] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        seen.append((dict(turn.session.metadata), turn.input.metadata))
        yield "Yes."

    tools: Any = [{"type": "function", "name": "f", "parameters": {}}]
    async with realtime(agent) as talk:
        session: Any = {"type": "realtime", "max_output_tokens": 100, "tool_choice": "none", "tools": tools}
        await talk.connection.session.update(session=session)
        await talk.ask("hello")
        await talk.respond(tool_choice="none", max_output_tokens=7, tools=tools)
    assert seen == [
        ({"max_output_tokens": 100, "tool_choice": "none"}, None),
        (seen[0][0], {"max_output_tokens": 7, "tool_choice": "none", "tools": []}),
    ]


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"metadata": 7}, "response.metadata"),
        ({"metadata": {"a": 1}}, "response.metadata[...]"),
        ({"tools": "x"}, "response.tools"),
        ({"max_output_tokens": "many"}, "response.max_output_tokens"),
        ({"input": 7, "conversation": "none"}, "response.input"),
    ],
)
async def test_a_bad_option(options: Any, param: str) -> None:
    """No response is begun with it, and the session lives on."""
    async with realtime(play) as talk:
        await talk.say("hello")
        await talk.connection.send({"type": "response.create", "response": options})
        assert (await talk.error())["param"] == param
        assert text_of(await talk.respond()) == "You said hello."


async def test_text_in_a_session_with_sound() -> None:
    """A response may be text alone."""
    async with realtime(talker, voice=listening("never")) as talk:
        await talk.say("hello")
        done = await talk.respond(output_modalities=["text"])
        assert done["output"][0]["content"] == [{"type": "output_text", "text": "You said hello."}]
        assert done["output_modalities"] == ["text"]


@pytest.mark.parametrize("fields", [{"content_index": "x"}, {"content_index": {}}, {}])
async def test_a_truncation_of_any_part(fields: Any) -> None:
    """A message has one part."""
    async with realtime(play) as talk:
        [item] = (await talk.ask("hello"))["output"]
        event: Any = {
            "type": "conversation.item.truncate",
            "item_id": item["id"],
            "audio_end_ms": 1,
            **fields,
        }
        await talk.connection.send(event)
        assert (await talk.until("conversation.item.truncated"))["content_index"] == 0
        strange: Any = {**event, "item_id": "of another session"}
        await talk.connection.send(strange)
        await talk.until("conversation.item.truncated")
        endless: Any = {**event, "audio_end_ms": 10**30}
        await talk.connection.send(endless)
        assert (await talk.error())["param"] == "audio_end_ms"


async def test_images() -> None:
    """An agent that takes them gets them; another one's clients are told."""
    seen: list[Any] = []

    async def looks(turn: Turn) -> AsyncIterator[Output]:
        seen.extend((each.media_type, each.data) for each in turn.attachments)
        yield "I see."

    looks.takes_attachments = ["image/png"]  # type: ignore[attr-defined]

    def picture(url: str) -> Any:
        content = [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": url}]
        return {"type": "message", "role": "user", "content": content}

    url = "data:image/png;base64," + base64.b64encode(b"pixels").decode()
    async with realtime(looks) as talk:
        await talk.connection.conversation.item.create(item=picture(url))
        assert text_of(await talk.respond()) == "I see."
        for bad in ("https://example.org/a.png", "data:image/png;base64,?", url.replace("png", "gif")):
            await talk.connection.conversation.item.create(item=picture(bad))
            assert (await talk.error())["param"] == "item.content"
    assert seen == [("image/png", b"pixels")]
    async with realtime(play) as talk:
        await talk.connection.conversation.item.create(item=picture(url))
        assert "takes no images" in (await talk.error())["message"]


async def test_old_items_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their bytes are bounded as well as their number; the session lives on."""
    monkeypatch.setattr(items, "MAX_BYTES", 10_000)
    async with realtime(play) as talk:
        first = await talk.say("x" * 4000)
        for _ in range(3):
            last = await talk.say("x" * 4000)
        await talk.connection.conversation.item.retrieve(item_id=first["id"])
        assert (await talk.error())["code"] == "item_retrieve_invalid_item_id"
        await talk.connection.conversation.item.retrieve(item_id=last["id"])
        assert (await talk.until("conversation.item.retrieved"))["item"]["id"] == last["id"]


async def test_sound_in_a_law() -> None:
    """Both directions, at 8 kHz."""
    form = {"format": {"type": "audio/pcma"}}
    async with realtime(talker, voice=listening("hello")) as talk:
        update: Any = {
            "type": "realtime",
            "audio": {"input": {**form, "turn_detection": None}, "output": form},
        }
        await talk.connection.session.update(session=update)
        session = (await talk.until("session.updated"))["session"]
        assert session["audio"]["output"]["format"] == {"type": "audio/pcma"}
        loud = encoded(sound(1000, True, 8000), "alaw")
        for start in range(0, len(loud), 320):
            audio = base64.b64encode(loud[start : start + 320]).decode()
            await talk.connection.input_audio_buffer.append(audio=audio)
        await talk.connection.input_audio_buffer.commit()
        done = await talk.respond()
        assert text_of(done) == "You said hello."
        deltas = [event["delta"] for event in talk.events if event["type"] == "response.output_audio.delta"]
        assert len(b"".join(map(base64.b64decode, deltas))) / 8000 == pytest.approx(0.3, abs=0.05)
        assert json.dumps(done)
