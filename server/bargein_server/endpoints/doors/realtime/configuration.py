"""Configuration of a Realtime session, and how a patch changes it.

Objects are merged, null clears, and fields that the protocol does not have are ignored: a client can neither
fill the memory with them nor have them echoed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, ValidationError, convert, json, to_builtins

from .requests import BadRequest
from .shapes import FORMATS, PCM, JsonMap, default_session

MAX_BYTES = 256 * 1024
"""Size of a configuration as JSON."""

Milliseconds = Annotated[int, Meta(ge=0, le=60_000)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Format(Struct):
    """Format of sound; the rate of PCM is always 24 kHz."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"]


class Detection(Struct, omit_defaults=True):
    """Detection of the user's turns, `server_vad` or `semantic_vad`."""

    type: Literal["server_vad", "semantic_vad"] | UnsetType = UNSET
    threshold: Share | UnsetType | None = UNSET
    prefix_padding_ms: Milliseconds | UnsetType | None = UNSET
    silence_duration_ms: Milliseconds | UnsetType | None = UNSET
    idle_timeout_ms: Milliseconds | UnsetType | None = UNSET
    eagerness: Literal["low", "medium", "high", "auto"] | UnsetType | None = UNSET
    create_response: bool | UnsetType | None = UNSET
    interrupt_response: bool | UnsetType | None = UNSET


class Transcription(Struct, omit_defaults=True):
    """Transcription of the user's speech; it is on as soon as one is set."""

    model: str | UnsetType | None = UNSET
    language: str | UnsetType | None = UNSET
    languages: list[str] | UnsetType | None = UNSET
    prompt: str | UnsetType | None = UNSET
    keywords: list[str] | UnsetType | None = UNSET
    delay: str | UnsetType | None = UNSET


class AudioInput(Struct, omit_defaults=True):
    """Sound of the user.

    Args:
        turn_detection: The detection; None, or `false` of some clients, for push to talk.
    """

    format: Format | UnsetType | None = UNSET
    noise_reduction: dict[str, Any] | UnsetType | None = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    turn_detection: Detection | bool | UnsetType | None = UNSET


class AudioOutput(Struct, omit_defaults=True):
    """Sound of the answers."""

    format: Format | UnsetType | None = UNSET
    speed: float | UnsetType | None = UNSET
    voice: str | dict[str, Any] | UnsetType | None = UNSET


class Audio(Struct, omit_defaults=True):
    """Sound in both directions."""

    input: AudioInput | UnsetType | None = UNSET
    output: AudioOutput | UnsetType | None = UNSET


class SessionPatch(Struct, omit_defaults=True):
    """The fields of a configuration that a client may set."""

    model: str | UnsetType | None = UNSET
    output_modalities: list[Literal["text", "audio"]] | UnsetType | None = UNSET
    instructions: str | UnsetType | None = UNSET
    audio: Audio | UnsetType | None = UNSET
    tools: list[dict[str, Any]] | UnsetType | None = UNSET
    tool_choice: str | dict[str, Any] | UnsetType | None = UNSET
    parallel_tool_calls: bool | UnsetType | None = UNSET
    max_output_tokens: Annotated[int, Meta(ge=1)] | Literal["inf"] | UnsetType | None = UNSET
    tracing: str | dict[str, Any] | UnsetType | None = UNSET
    truncation: str | dict[str, Any] | UnsetType | None = UNSET
    reasoning: dict[str, Any] | UnsetType | None = UNSET
    prompt: dict[str, Any] | UnsetType | None = UNSET
    include: list[str] | UnsetType | None = UNSET


class ResponseOptions(Struct, omit_defaults=True):
    """Options of one response, in place of the session's; null is absent."""

    conversation: str | None = None
    input: list[Any] | None = None
    instructions: str | None = None
    output_modalities: list[Literal["text", "audio"]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | Literal["inf"] | None = None
    metadata: Annotated[dict[str, str], Meta(max_length=16)] | None = None


_MERGED = ("audio", "input", "output", "transcription")
_WHEN_CLEARED: JsonMap = {
    "instructions": "", "tools": [], "tool_choice": "auto", "max_output_tokens": "inf", "truncation": "auto",
    "voice": "alloy", "speed": 1.0, "format": PCM, "output_modalities": ["text"],
}  # fmt: skip
_DETECTIONS: dict[str, JsonMap] = {
    "server_vad": {
        "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500,
        "idle_timeout_ms": None, "create_response": True, "interrupt_response": True,
    },
    "semantic_vad": {
        "type": "semantic_vad", "eagerness": "auto", "create_response": True, "interrupt_response": True,
    },
}  # fmt: skip


def first_session(session_id: str, model: str, hears: bool) -> JsonMap:
    """Return the configuration of a fresh session."""
    session = default_session(session_id, model)
    if hears:
        session["output_modalities"] = ["audio"]
        session["audio"]["input"]["turn_detection"] = dict(_DETECTIONS["server_vad"])
    return session


def patched(session: Mapping[str, Any], patch: Any) -> JsonMap:
    """Return a configuration with a client's patch.

    Raises:
        BadRequest: The patch is no object, a field has a wrong type or value, or it is too large.
    """
    if not isinstance(patch, Mapping):
        raise BadRequest("invalid_value", "expected session as an object", "session")
    given = _checked(patch, SessionPatch, "session")
    if given.get("model", "") is None:
        del given["model"]
    result = _merged(session, given)
    if len(json.encode(result)) > MAX_BYTES:
        raise BadRequest("invalid_value", f"expected a configuration of at most {MAX_BYTES} bytes", "session")
    return result


def checked_options(options: Any) -> JsonMap:
    """Return the options of a response that have values.

    Raises:
        BadRequest: They are no object, or one has a wrong type or value.
    """
    return _checked({} if options is None else options, ResponseOptions, "response")


def _checked(given: Any, kind: type[Struct], name: str) -> JsonMap:
    try:
        checked: JsonMap = to_builtins(convert(given, kind))
    except ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise BadRequest("invalid_value", reason, name + path.rstrip("`")) from None
    for index, tool in enumerate(checked.get("tools") or ()):
        _check_tool(tool, f"{name}.tools[{index}]")
    _check_choice(checked.get("tool_choice"), f"{name}.tool_choice")
    return checked


def _check_tool(tool: JsonMap, at: str) -> None:
    """Check that a tool has the parts that a model needs to call it."""
    kind = tool.get("type", "function")
    if kind not in ("function", "mcp"):
        raise BadRequest("invalid_value", "expected a tool of the type function or mcp", f"{at}.type")
    named = "name" if kind == "function" else "server_label"
    if not isinstance(tool.get(named), str) or not tool[named]:
        raise BadRequest("invalid_value", f"expected {named} as a text", f"{at}.{named}")
    for field, of in (("description", str), ("parameters", dict)):
        if tool.get(field) is not None and not isinstance(tool[field], of):
            words = "a text" if of is str else "an object"
            raise BadRequest("invalid_value", f"expected {field} as {words}", f"{at}.{field}")


def _check_choice(choice: str | JsonMap | None, at: str) -> None:
    if isinstance(choice, dict):
        named = {"function": "name", "mcp": "server_label"}.get(str(choice.get("type")))
        known = named is not None and isinstance(choice.get(named), str)
    else:
        known = choice in (None, "auto", "none", "required")
    if not known:
        raise BadRequest("invalid_value", "expected auto, none, required, or an object that names a tool", at)


def _merged(before: Mapping[str, Any], patch: Mapping[str, Any]) -> JsonMap:
    result = dict(before)
    for name, value in patch.items():
        if name == "turn_detection":
            result[name] = _detection(before.get(name), value)
        elif value is None:
            result[name] = before[name] if name in ("audio", "input", "output") else _WHEN_CLEARED.get(name)
        elif name == "format":
            result[name] = PCM if value["type"] == FORMATS[0] else value
        elif name in _MERGED and isinstance(before.get(name), Mapping):
            result[name] = _merged(before[name], value)
        else:
            result[name] = value
    return result


def _detection(before: JsonMap | None, patch: JsonMap | bool | None) -> JsonMap | None:
    """Return the detection with a patch; a new type begins at its defaults."""
    if not isinstance(patch, Mapping):
        return None
    kind = patch.get("type") or (before or {}).get("type") or "server_vad"
    base = before if before is not None and before["type"] == kind else _DETECTIONS[kind]
    chosen = {name: value for name, value in patch.items() if name in base and value is not None}
    # Nothing watches over silence: a client that asks for it must not wait for an event of it.
    return {**base, **chosen, **({"idle_timeout_ms": None} if "idle_timeout_ms" in base else {})}
