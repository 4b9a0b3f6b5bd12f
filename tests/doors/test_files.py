"""Images and other files through the doors, as each protocol's own clients send them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from ag_ui.core import RunAgentInput
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionUserMessageParam
from pydantic import TypeAdapter

from bargein_protocol.types import MAX_ATTACHMENT_BYTES
from bargein_server import Output, Turn
from bargein_server.agents.chat_completions import OpenAIAgent
from door_agent import play
from json_lines import JsonLines, json_lines
from live_server import Serving, serving
from model_server import Upstream
from sse_client import Http, http

PNG = b"\x89PNG" + bytes(range(256))
DATA = base64.b64encode(PNG).decode()
URL = f"data:image/png;base64,{DATA}"
FOLDER = Path(__file__).parent
CHAT = {"X-Conversation-Id": "chat-1"}
USER: TypeAdapter[Any] = TypeAdapter(ChatCompletionUserMessageParam)
DOORS: list[Any] = ["chat", "ai-sdk", "ag-ui"]
REMOTE = "https://example.com/sky.png"


class Viewer:
    """Agent that answers with the files of its input and of the conversation."""

    takes_attachments = ("image/*", "application/pdf", "audio/wav", "audio/mpeg")

    async def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        files = [[one.media_type, one.name, one.data == PNG] for one in turn.attachments]
        messages = turn.history.messages(attachments=True)
        contents = [message["content"] for message in messages if message["role"] == "user"]
        seen = [each if isinstance(each, str) else [part["type"] for part in each] for each in contents]
        yield json.dumps([files, seen])


@asynccontextmanager
async def viewing(agent: Any = None) -> AsyncIterator[tuple[Serving, Http]]:
    """Serve the agent at all doors."""
    async with serving(agent or Viewer(), doors=DOORS) as server, http(server) as plain:
        yield server, plain


@asynccontextmanager
async def openai_client(server: Serving) -> AsyncIterator[AsyncOpenAI]:
    """Return a client of `openai`."""
    base = f"http://127.0.0.1:{server.port}/v1"
    async with AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def chats() -> Iterator[JsonLines]:
    """Run the AI SDK."""
    with json_lines(FOLDER / "chat_driver.js") as running:
        yield running


@pytest.fixture(scope="module")
def runs() -> Iterator[JsonLines]:
    """Run AG-UI's client."""
    with json_lines(FOLDER / "run_driver.js") as running:
        yield running


async def whole(client: AsyncOpenAI, *messages: Any) -> Any:
    """Return the answer to messages of `openai`'s types."""
    for message in messages:
        if message["role"] == "user":
            USER.validate_python(message)
    answer = await client.chat.completions.create(model="play", messages=list(messages), extra_headers=CHAT)
    return json.loads(answer.choices[0].message.content or "")


def user(*parts: Any) -> dict[str, Any]:
    """Return a message of the user."""
    return {"role": "user", "content": [{"type": "text", "text": "See:"}, *parts]}


IMAGE: dict[str, Any] = {"type": "image_url", "image_url": {"url": URL, "detail": "low"}}
PDF = f"data:application/pdf;base64,{DATA}"


@pytest.mark.parametrize(
    ("part", "file"),
    [
        (IMAGE, ["image/png", "", True]),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}},
            ["application/pdf", "a.pdf", True],
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": DATA}},
            ["application/pdf", "a.pdf", True],
        ),
        ({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}, ["audio/wav", "", True]),
        ({"type": "input_audio", "input_audio": {"data": DATA, "format": "mp3"}}, ["audio/mpeg", "", True]),
    ],
    ids=["image", "file", "file without a URL", "wav", "mp3"],
)
async def test_parts_of_chat_completions(part: Any, file: list[Any]) -> None:
    """They are attachments of the input, and stay in the conversation."""
    async with viewing() as (server, _), openai_client(server) as client:
        [[found], [_]] = await whole(client, user(part))
        assert found == file
        answer = {"role": "assistant", "content": "I see."}
        [files, seen] = await whole(client, user(part), answer, {"role": "user", "content": "And?"})
        assert files == []
        assert len(server.sessions) == 1
        assert isinstance(seen[0], list), "the session still has the content"


@pytest.mark.parametrize(
    ("version", "socket"), [(5, False), (6, False), (7, False), (7, True)], ids=["5", "6", "7", "7 socket"]
)
async def test_file_parts_of_the_ai_sdk(chats: JsonLines, version: int, socket: bool) -> None:
    """As the SDK sends them, also when the message is sent again with the next one."""
    file = {"type": "file", "mediaType": "image/png", "filename": "sky.png", "url": URL}
    async with viewing() as (server, _):
        base = f"{'ws' if socket else 'http'}://127.0.0.1:{server.port}"
        steps = [["send", "See:", [file]], ["send", "And?"]]
        asked = {"base": base, "version": version, "socket": socket, "steps": steps}
        messages = (await chats.ask(asked))["messages"]
        answers = [
            json.loads("".join(part.get("text", "") for part in each["parts"]))
            for each in messages
            if each["role"] == "assistant"
        ]
        assert answers[0] == [[["image/png", "sky.png", True]], [["text", "image_url"]]]
        assert answers[1] == [[], [["text", "image_url"], "And?"]]


@pytest.mark.parametrize(
    ("version", "part", "file"),
    [
        (0, {"type": "binary", "mimeType": "image/png", "data": DATA, "filename": "sky.png"}, "sky.png"),
        (0, {"type": "binary", "mimeType": "image/png", "url": URL}, ""),
        (1, {"type": "image", "source": {"type": "data", "value": DATA, "mimeType": "image/png"}}, ""),
        (1, {"type": "image", "source": {"type": "url", "value": URL}}, ""),
    ],
    ids=["binary", "binary with a URL", "image", "image with a URL"],
)
async def test_content_of_ag_ui(runs: JsonLines, version: int, part: Any, file: str) -> None:
    """The older form and that of version 1.0, by the protocol's own client."""
    content = [{"type": "text", "text": "See:"}, part]
    async with viewing() as (server, _):
        base = f"http://127.0.0.1:{server.port}"
        asked = {"base": base, "version": version, "steps": [["send", content], ["send", "And?"]]}
        result = await runs.ask(asked)
        assert result["errors"] == []
        answers = [json.loads(each["content"]) for each in result["messages"] if each["role"] == "assistant"]
        assert answers[0] == [[["image/png", file, True]], [["text", "image_url"]]]
        assert answers[1] == [[], [["text", "image_url"], "And?"]]


async def test_documents_of_ag_ui() -> None:
    """Its own models accept the request."""
    source = {"type": "data", "value": DATA, "mimeType": "application/pdf"}
    body = {
        "threadId": "t", "runId": "r", "protocolVersion": "1.0", "state": {}, "tools": [], "context": [],
        "forwardedProps": {},
        "messages": [{"id": "1", "role": "user", "content": [{"type": "document", "source": source}]}],
    }  # fmt: skip
    RunAgentInput.model_validate(body)
    async with viewing() as (_, plain):
        assert "application/pdf" in (await plain.post("/v1/ag-ui", body)).text


def bodies(part: tuple[Any, Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield a request with a part for each door, where the protocol has it."""
    text = {"type": "text", "text": "hello"}
    chat, ui, run = part
    if chat is not None:
        yield "/v1/chat/completions", {"messages": [{"role": "user", "content": [text, chat]}]}
    if ui is not None:
        yield "/api/chat", {"id": "c", "messages": [{"id": "1", "role": "user", "parts": [text, ui]}]}
    if run is not None:
        yield (
            "/v1/ag-ui",
            {"threadId": "c", "runId": "r", "messages": [{"role": "user", "content": [text, run]}]},
        )


def images(url: str) -> tuple[Any, Any, Any]:
    """Return an image with a URL for each door."""
    return (
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "file", "mediaType": "image/png", "url": url},
        {"type": "image", "source": {"type": "url", "value": url, "mimeType": "image/png"}},
    )


STORED = (
    {"type": "file", "file": {"file_id": "file-1"}},
    None,
    {"type": "image", "source": {"type": "file", "value": "file-1", "mimeType": "image/png"}},
)
LARGE = base64.b64encode(bytes(MAX_ATTACHMENT_BYTES + 3)).decode()


@pytest.mark.parametrize(
    ("part", "status", "reason"),
    [
        (images(REMOTE), 422, "files at other addresses are not fetched: send the content as a data: URL"),
        (images("file:///etc/passwd"), 422, "files at other addresses are not fetched"),
        (images("data:image/png,plain"), 422, "expected data:<media type>;base64,<content>"),
        (images("data:image/png;base64,###"), 422, "in base64"),
        (images("data:image/png;base64,"), 422, "in base64"),
        (images(f"data:text/html;base64,{DATA}"), 422, "the agent takes image/*"),
        (images(f"data:image/*;base64,{DATA}"), 422, "the agent takes image/*"),
        (STORED, 422, "has no content: send it as a data: URL"),
        (({"type": "refusal", "refusal": "no"}, None, {"type": "hologram"}), 422, "has no content"),
    ],
    ids=["remote", "local", "plain", "no base64", "empty", "type", "wildcard", "stored", "unknown"],
)
async def test_a_file_that_cannot_be_taken_is_refused(part: Any, status: int, reason: str) -> None:
    """With the cause and the remedy; no turn begins, and none is dropped."""
    async with viewing() as (server, plain):
        for path, body in bodies(part):
            response = await plain.post(path, body)
            assert (response.status_code, reason in response.text) == (status, True), response.text
        assert sum(len(host.core.outside.turns()) for host in server.sessions) == 0


async def test_files_are_bounded() -> None:
    """In size and number."""
    async with (
        serving(Viewer(), doors=DOORS, max_conversation_bytes=8_000_000, max_bytes_per_s=10**9) as server,
        http(server) as plain,
    ):
        for path, body in bodies(images(f"data:image/png;base64,{LARGE}")):
            response = await plain.post(path, body)
            assert (response.status_code, "4194304 bytes" in response.text) == (413, True)
        parts = [IMAGE] * 9
        response = await plain.post(
            "/v1/chat/completions", {"messages": [{"role": "user", "content": parts}]}
        )
        assert (response.status_code, "at most 8 files" in response.text) == (422, True)


async def test_an_agent_without_files_refuses_them() -> None:
    """Before turns are dropped for a regenerated answer."""
    async with viewing(play) as (server, _), openai_client(server) as client:
        await client.chat.completions.create(
            model="play", messages=[{"role": "user", "content": "hello"}], extra_headers=CHAT
        )
        with pytest.raises(openai.UnprocessableEntityError, match="the agent takes no files"):
            await whole(client, user(IMAGE))
        [host] = server.sessions
        assert [turn.input.text for turn in host.core.outside.turns()] == ["hello"]


EARLIER: dict[str, list[Any]] = {
    "image": [{"type": "image_url", "image_url": {"url": URL}}],
    "file": [{"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}],
    "text": [{"type": "image_url", "image_url": {"url": f"data:text/html;base64,{DATA}"}}],
    "remote": [{"type": "image_url", "image_url": {"url": REMOTE}}],
    "broken": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,###"}}],
}
"""Parts of earlier messages; the last three cannot be given to the agent."""


async def test_files_of_a_conversation_from_elsewhere_are_seen() -> None:
    """A session that never had them gets their content, or else their names, and is not seeded again."""
    parts = [part for each in EARLIER.values() for part in each]
    before = [user(*parts), {"role": "assistant", "content": "I see."}]
    async with viewing() as (server, plain), openai_client(server) as client:
        asked = {"messages": [*before, {"role": "user", "content": "And?"}]}
        answer = await plain.post("/v1/chat/completions", asked, CHAT)
        [_, seen] = json.loads(answer.json()["choices"][0]["message"]["content"])
        assert seen == [["text", "image_url", "file"], "And?"]
        [host] = server.sessions
        turn = host.core.outside.turns()[0].id
        assert host.core.outside.kept_bytes > 2 * len(PNG), "they count"
        more = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "Well."}]
        with_files = [user(IMAGE), before[1]]
        without = [{"role": "user", "content": "See:"}, before[1]]
        for earlier in (with_files, without):  # some clients leave the files out of their older messages
            await whole(client, *earlier, *more, {"role": "user", "content": "Then?"})
            assert host.core.outside.turns()[0].id == turn


async def test_a_model_sees_the_images_of_a_stateless_chat() -> None:
    """Each request for a session that does not exist has all images of the conversation."""
    async with Upstream() as upstream:
        agent = OpenAIAgent(model="m", base_url=upstream.url, takes_attachments=("image/*",))
        async with viewing(agent) as (_, plain):
            for path, body in earlier_images():
                asked = asyncio.create_task(plain.post(path, body))
                call = await upstream.call()
                call.answer("Yes.")
                assert (await asked).status_code == 200
                first, answer, last = call.body["messages"]
                assert first["content"] == [
                    {"type": "text", "text": "See:"},
                    {"type": "image_url", "image_url": {"url": URL}},
                ]
                assert (answer["content"], last["content"]) == ("I see.", "And?")


def earlier_images() -> Iterator[tuple[str, Any]]:
    """Yield a request with an image in an earlier message for each door."""
    for number, (path, body) in enumerate(bodies(images(URL))):
        [message] = body["messages"]
        key = "parts" if "parts" in message else "content"
        see, image = {"type": "text", "text": "See:"}, message[key][1]
        body["messages"] = [
            {"id": f"m{n}", "role": role, key: content}
            for n, (role, content) in enumerate(
                (("user", [see, image]), ("assistant", _text(key, "I see.")), ("user", _text(key, "And?")))
            )
        ]
        yield path, body | {name: f"c{number}" for name in ("id", "threadId") if name in body}


def _text(key: str, text: str) -> Any:
    return [{"type": "text", "text": text}] if key == "parts" else text


async def test_earlier_files_have_the_bound_of_a_history() -> None:
    """The newest ones are kept, and of the others the names."""
    before: list[dict[str, Any]] = []
    for _ in range(3):
        before += [user(IMAGE), {"role": "assistant", "content": "I see."}]
    async with (
        serving(Viewer(), doors=DOORS, max_history_chars=2 * len(PNG) + 200) as server,
        openai_client(server) as client,
    ):
        [_, seen] = await whole(client, *before, {"role": "user", "content": "And?"})
        assert seen == ["See:\n[attached: image/png]", *[["text", "image_url"]] * 2, "And?"]


async def test_a_store_has_the_names_of_earlier_files(tmp_path: Path) -> None:
    """Their content is in memory alone."""
    before = [user(IMAGE), {"role": "assistant", "content": "I see."}]
    store = f"sqlite:///{tmp_path / 'kept.db'}"
    for question, expected in (("And?", ["text", "image_url"]), ("Then?", "See:\n[attached: image/png]")):
        async with serving(Viewer(), doors=DOORS, store=store) as server, openai_client(server) as client:
            [_, seen] = await whole(client, *before, {"role": "user", "content": question})
            assert seen[0] == expected
        before += [{"role": "user", "content": question}, {"role": "assistant", "content": "Well."}]
