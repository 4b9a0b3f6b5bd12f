from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import golden_vectors as wire


def load() -> ModuleType:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("schema", wire.ROOT / "scripts" / "schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


schema = load()
DEFINITIONS: dict[str, Any] = json.loads((schema.FOLDER / "schema.json").read_text("utf-8"))["$defs"]
UNIONS = {"client": "ClientEvent", "server": "ServerEvent"}


def fits(value: Any, rule: dict[str, Any]) -> bool:
    """Return whether a value fits a schema: the keywords that ours has, and no others."""
    if "$ref" in rule:
        return fits(value, DEFINITIONS[rule["$ref"].removeprefix("#/$defs/")])
    if "anyOf" in rule:
        return any(fits(value, choice) for choice in rule["anyOf"])
    if "enum" in rule:
        return value in rule["enum"]
    match rule.get("type"):
        case None:
            return True
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer" | "number" as kind:
            numbers: tuple[type, ...] = (int,) if kind == "integer" else (int, float)
            right = isinstance(value, numbers) and not isinstance(value, bool)
            return right and rule["minimum"] <= value <= rule["maximum"]
        case "string":
            return isinstance(value, str) and rule.get("minLength", 0) <= len(value) <= rule["maxLength"]
        case "array":
            right = isinstance(value, list) and len(value) <= rule["maxItems"]
            return right and all(fits(item, rule["items"]) for item in value)
        case "object":
            if not isinstance(value, dict) or len(value) > rule.get("maxProperties", 1000):
                return False
            known, others = rule.get("properties", {}), rule.get("additionalProperties", {})
            named = all(fits(part, known.get(name, others)) for name, part in value.items())
            return named and set(rule.get("required", ())) <= set(value)
    raise AssertionError(f"unknown rule {rule}")


def test_the_files_are_what_the_structs_say() -> None:
    """No committed document is stale."""
    assert schema.main(["--check"]) == 0


def test_a_stale_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check fails for a missing and for an old file, and writing it mends both."""
    monkeypatch.setattr(schema, "FOLDER", tmp_path)
    assert schema.main(["--check"]) == 1
    for name in ("schema.json", "asyncapi.json", "openapi.json"):
        assert schema.main([]) == 0
        assert schema.main(["--check"]) == 0
        (tmp_path / name).write_text("{}", "utf-8")
        capsys.readouterr()
        assert schema.main(["--check"]) == 1
        assert capsys.readouterr().err.startswith(f"{name}: stale")


def test_an_unknown_argument_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The command says how it is used."""
    assert schema.main(["--chekc"]) == 2
    assert "--check" in capsys.readouterr().out


@pytest.mark.parametrize("vector", wire.vectors()["messages"], ids=lambda vector: vector["name"])
def test_every_message_fits_the_schema(vector: dict[str, Any]) -> None:
    """What the vectors hold is legal by the schema, in its own direction only."""
    direction = vector["direction"]
    other = "server" if direction == "client" else "client"
    assert fits(vector["event"], DEFINITIONS[UNIONS[direction]])
    assert not fits(vector["event"], DEFINITIONS[UNIONS[other]])


# What a schema cannot say: how deep open values nest, and what base64 is.
BEYOND = ("nested 65 deep", "base64 without padding", "base64 of the URL alphabet", "a type that comes twice")


@pytest.mark.parametrize(
    "vector",
    [v for v in wire.vectors()["invalid"] if v["error"] != "bad_frame" and v["name"] not in BEYOND],
    ids=lambda vector: vector["name"],
)
def test_an_invalid_message_does_not_fit(vector: dict[str, Any]) -> None:
    """What the decoder refuses the schema refuses too."""
    assert not fits(json.loads(vector["json"]), DEFINITIONS[UNIONS[vector["direction"]]])


@pytest.mark.parametrize("direction", UNIONS)
def test_the_unions_hold_every_event(direction: str) -> None:
    """Each event stands in the union of its direction, under its type."""
    mapping = DEFINITIONS[UNIONS[direction]]["discriminator"]["mapping"]
    assert set(mapping) == {wire.tag(struct) for struct in wire.EVENTS[direction]}
