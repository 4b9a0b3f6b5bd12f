"""The agents that the guide to frameworks makes with LlamaIndex and Google ADK.

Each framework is installed in an environment of its own, see `environment` in tests/other_frameworks.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, NamedTuple

from httpx2 import AsyncClient

from bargein_server import Agent
from documentation import blocks
from framework_agents import Desk, Maker
from strict_gemini import StrictGemini
from strict_model import StrictModel

PAGE = "server/docs/frameworks.md"


def snippet(file: str, **names: Any) -> dict[str, Any]:
    """Execute a file of the guide; return its names."""
    [block] = [block for block in blocks(PAGE, "py") if block.file == file]
    scope: dict[str, Any] = {"__name__": file.removesuffix(".py"), "look_up": _unused, **names}
    exec(compile(block.text, f"{PAGE}:{file}", "exec"), scope)
    return scope


async def _unused(city: str) -> str:
    """Look up the weather of a city."""
    raise AssertionError("the test makes its own agent")


def llama_index(url: str, desk: Desk, http: AsyncClient) -> Agent:
    """An agent of LlamaIndex with chat completions; it has no consent."""
    os.environ.setdefault("OPENAI_API_KEY", "none")
    scope = snippet("llama_bot.py")
    kind = import_module("llama_index.llms.openai").OpenAI
    model = kind(model="gpt-5-mini", api_base=url, api_key="none", max_retries=0)
    agent = scope["RecordedAgent"](
        llm=model, tools=[desk.look_up, desk.look_up_slowly], system_prompt="Help."
    )
    made: Agent = scope["llama_index_agent"](agent)
    return made


def google_adk(url: str, desk: Desk, http: AsyncClient) -> Agent:
    """An agent of Google ADK with Gemini."""
    os.environ.setdefault("GOOGLE_API_KEY", "k")
    scope = snippet("adk_bot.py")
    model = import_module("google.adk.models").Gemini(
        model="gemini-3-flash-preview", base_url=url.removesuffix("/v1")
    )
    book = scope["FunctionTool"](desk.book, require_confirmation=True)
    tools = [desk.look_up, desk.look_up_slowly, book]
    agent = scope["LlmAgent"](name="helper", model=model, instruction="Help.", tools=tools)
    made: Agent = scope["adk_agent"](agent)
    return made


class OtherFramework(NamedTuple):
    """A framework that has an example in the guide.

    Args:
        name: Its name in the guide.
        module: What can be imported if it is installed.
        packages: What is installed beside bargein.
        maker: Makes its agent.
        model: Server of its model.
        without: Places that it does not have, by the names of their functions, with the reason.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    maker: Maker
    model: type[StrictModel]
    without: dict[str, str]


OTHERS = [
    OtherFramework(
        "LlamaIndex",
        "llama_index.core",
        ("llama-index-core", "llama-index-llms-openai"),
        llama_index,
        StrictModel,
        {
            "in_the_arguments": "arguments arrive whole",
            "at_a_consent": "not in the example",
        },
    ),
    OtherFramework(
        "Google ADK",
        "google.adk",
        ("google-adk",),
        google_adk,
        StrictGemini,
        {"in_the_arguments": "arguments arrive whole"},
    ),
]
