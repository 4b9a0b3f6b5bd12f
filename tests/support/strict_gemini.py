"""The model of `strict_model` behind the API of Google: it refuses what Gemini refuses."""

from __future__ import annotations

import json
from typing import Any

from model_server import Call
from provider_servers import Google, GoogleAnswer
from strict_model import ModelAnswer, Refusal, Said, StrictModel


class StrictGemini(StrictModel):
    """Script for `model_server.Upstream`, answered with `streamGenerateContent`."""

    def read(self, request: Call) -> list[Said]:
        """Return what a request says."""
        assert ":streamGenerateContent?alt=sse" in request.path
        try:
            Google().check(request.body)
        except AssertionError as error:
            raise Refusal(str(error)) from None
        return read_contents(request.body["contents"])

    def answer(self, request: Call) -> ModelAnswer:
        """Return the answer to an accepted request."""
        return GeminiAnswer(request)


class GeminiAnswer:
    """Answer of Gemini: function calls come whole."""

    def __init__(self, request: Call) -> None:
        self._answer = GoogleAnswer(request)
        self._name = ""

    def begin(self) -> None:
        self._answer.open()

    def think(self, text: str) -> None:
        self._answer.think(text)

    def add_text(self, text: str) -> None:
        self._answer.say(text)

    def begin_call(self, name: str) -> None:
        self._name = name

    def add_arguments(self, piece: str) -> None:
        pass

    def end_call(self, arguments: str) -> None:
        self._answer.use(self._name, arguments)

    def end(self) -> None:
        self._answer.finish()


def read_contents(contents: list[dict[str, Any]]) -> list[Said]:
    """Return what contents of the Gemini API say."""
    said: list[Said] = []
    for content in contents:
        role = "user" if content["role"] == "user" else "assistant"
        for part in content["parts"]:
            if "functionCall" in part:
                function = part["functionCall"]
                said.append(("call", function["name"], json.dumps(function.get("args", {}), sort_keys=True)))
            elif "functionResponse" in part:
                said.append(("result", str(part["functionResponse"]["response"]["result"])))
            elif part.get("text"):
                said.append((role, part["text"]))
    return said
