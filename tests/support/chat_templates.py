"""Rules of the chat templates that come with open models, as templates of Jinja.

Servers of such models (vLLM, llama.cpp, SGLang) render every request with them, and a rule that is broken
refuses it. The checks are those of the published templates; the format of the prompt is shortened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Gemma 2 and 3: strict alternation, no tools.
GEMMA = """
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif %}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] %}
    {{- '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor %}
"""

# Mistral 7B v0.3, Nemo, Small: messages of tools and calls of tools do not count for the alternation.
MISTRAL = """
{%- set ns = namespace(index=0) %}
{%- for message in messages %}
    {%- set calls = message.tool_calls is defined and message.tool_calls is not none %}
    {%- if not (message.role == "tool" or calls) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "user" %}{{- "[INST] " + message.content + "[/INST]" }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] " + message.tool_calls | map(attribute="function") | list | tojson + "</s>" }}
    {%- elif message.role == "assistant" %}{{- " " + message.content | trim + "</s>" }}
    {%- elif message.role == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content | tojson + "}[/TOOL_RESULTS]" }}
    {%- else %}{{- raise_exception("Only user, assistant and tool roles are supported") }}
    {%- endif %}
{%- endfor %}
"""

# Llama 3.1 and 3.2: one call for each message, and its result follows.
LLAMA = """
{%- for message in messages %}
    {%- if message.tool_calls is defined and message.tool_calls is not none %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {{- message.tool_calls[0].function | tojson + '<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>' + message['content'] | trim }}
    {%- endif %}
{%- endfor %}
"""

TEMPLATES = {"gemma": GEMMA, "mistral": MISTRAL, "llama": LLAMA}


def render(template: str, messages: Sequence[dict[str, Any]]) -> str:
    """Return the prompt; a rule that is broken fails the test."""

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    try:
        return environment.from_string(TEMPLATES[template]).render(messages=messages)
    except TemplateError as error:
        pytest.fail(f"{template}: {error}")
