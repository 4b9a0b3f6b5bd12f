"""Files of inputs in the requests to models."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic_ai.messages import BinaryContent, ModelRequest, UserPromptPart

from bargein_client import connect
from bargein_protocol import Attachment
from bargein_server.agent import IMAGES, attachments_taken
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.provider_messages import model_messages
from bargein_server.agents.provider_models import ModelAgent
from bargein_server.agents.shortening import _tokens
from live_server import serving
from model_server import Upstream

PNG = Attachment(media_type="image/png", data=b"\x89PNG", name="sky.png")
PARTS = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """The model's server."""
    async with Upstream() as server:
        yield server


async def test_images_are_passed_on(upstream: Upstream) -> None:
    """As parts of the user's message, in this request and in those of later turns."""
    agent = OpenAIAgent(model="m", base_url=upstream.url, takes_attachments=("image/*",))
    async with serving(agent) as server, connect(f"ws://127.0.0.1:{server.port}/v1/session") as ann:
        for text, files in (("What is this?", [PNG]), ("And why?", [])):
            turn = ann.send(text, attachments=files)
            call = await upstream.call()
            call.answer("The sky.")
            await turn.ended()
    contents = [message["content"] for message in call.body["messages"]]
    assert contents == [PARTS, "The sky.", "And why?"]


def test_models_of_large_providers_take_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server's model may not read any, so nothing is taken unless the author says so."""
    for name in ("OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    assert attachments_taken(OpenAIAgent(api_key="k")) == IMAGES
    assert attachments_taken(OpenAIAgent(api_key="k", takes_attachments=False)) == ()
    assert attachments_taken(OpenAIAgent(model="m", base_url="http://localhost:1/v1")) == ()
    assert attachments_taken(ModelAgent(model="anthropic:m", api_key="k")) == IMAGES
    assert attachments_taken(ModelAgent(model="anthropic:m", api_key="k", takes_attachments=True)) == ("*/*",)


def test_images_go_to_other_providers_as_bytes() -> None:
    """Pydantic AI brings them into the form of each provider."""
    (request,) = model_messages([{"role": "user", "content": PARTS}])
    assert isinstance(request, ModelRequest)
    (part,) = request.parts
    assert isinstance(part, UserPromptPart)
    text, image = list(part.content)
    assert text == "What is this?"
    assert isinstance(image, BinaryContent)
    assert (image.data, image.media_type) == (PNG.data, "image/png")


def test_an_image_does_not_fill_the_context() -> None:
    """It counts by an estimate of its own, not by the length of its text form."""
    assert _tokens([{"role": "user", "content": PARTS}]) == 1003
