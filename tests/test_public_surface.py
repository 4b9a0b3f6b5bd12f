"""The public names of the three packages and their signatures are those of public_surface.txt.

A change of the file is a change of the interface; its diff shows which.

    python tests/test_public_surface.py    write the file
"""

from __future__ import annotations

import ast
import difflib
import enum
import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from msgspec import NODEFAULT

ROOT = Path(__file__).parent.parent
FILE = Path(__file__).with_name("public_surface.txt")
PACKAGES = (
    "bargein_protocol",
    "bargein_server",
    "bargein_client",
    "bargein_server.streams",
    "bargein_server.frameworks",
)


EMPTY = inspect.Parameter.empty
OPAQUE = {"BargeinProtocol"}
"""Classes that users hand on and whose members are internal."""


def surface() -> str:
    """Return the public names of all packages with their signatures, as text."""
    return "\n".join(line for package in PACKAGES for line in _package(package)) + "\n"


def _package(package: str) -> Iterator[str]:
    module = import_module(package)
    yield f"# {package}"
    for name in sorted(module.__all__):
        yield from _object(name, getattr(module, name))
    yield ""


def _object(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, type):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"class {name}({bases})"
        if name not in OPAQUE:
            yield from (f"    {member}" for member in _members(value))
    elif inspect.isroutine(value):
        yield f"{_prefix(value)} {name}{_signature(value)}"
    else:
        yield f"{name}: {type(value).__name__ if not _is_alias(value) else 'alias'}"


def _is_alias(value: Any) -> bool:
    return hasattr(value, "__args__") or hasattr(value, "__supertype__")


def _members(kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield from (f"{member.name} = {member.value!r}" for member in kind)
        return
    if hasattr(kind, "__struct_fields__"):
        yield from _fields(kind)
    elif "__init__" in vars(kind) and not getattr(kind, "_is_protocol", False):
        yield f"__init__{_signature(kind.__init__)}"
    for name, value in sorted(vars(kind).items()):
        if name.startswith("_") or name in getattr(kind, "__struct_fields__", ()):
            continue
        if isinstance(value, property):
            yield f"{name}: {_returned(value)}"
        elif isinstance(value, (classmethod, staticmethod)):
            yield f"{type(value).__name__} {name}{_signature(value.__func__)}"
        elif inspect.isfunction(value):
            yield f"{_prefix(value)} {name}{_signature(value)}"


def _fields(kind: Any) -> Iterator[str]:
    annotations: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        annotations |= vars(base).get("__annotations__", {})
    names, defaults = kind.__struct_fields__, kind.__struct_defaults__
    padded = [NODEFAULT] * (len(names) - len(defaults)) + list(defaults)
    for name, default in zip(names, padded, strict=True):
        shown = "…" if "factory" in type(default).__name__.lower() else repr(default)
        yield f"{name}: {_plain(annotations[name])}" + ("" if default is NODEFAULT else f" = {shown}")


def _plain(annotation: str) -> str:
    """Return a type without its description and bounds."""
    tree = ast.parse(annotation, mode="eval").body
    if isinstance(tree, ast.Subscript) and ast.unparse(tree.value) == "Annotated":
        assert isinstance(tree.slice, ast.Tuple)
        tree = tree.slice.elts[0]
    return ast.unparse(tree)


def _returned(value: property) -> str:
    annotations = getattr(value.fget, "__annotations__", {})
    return str(annotations.get("return", "Any"))


def _prefix(value: Any) -> str:
    return "async def" if inspect.iscoroutinefunction(value) else "def"


class _Shown:
    """Source text in a signature."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _signature(value: Any) -> str:
    signature = inspect.signature(value)
    parameters = [
        parameter.replace(
            annotation=_annotation(parameter.annotation),
            default=_Shown("…")
            if callable(parameter.default) and parameter.default is not EMPTY
            else parameter.default,
        )
        for parameter in signature.parameters.values()
    ]
    return str(
        signature.replace(parameters=parameters, return_annotation=_annotation(signature.return_annotation))
    )


def _annotation(value: Any) -> Any:
    return _Shown(value) if isinstance(value, str) else value


def test_the_public_surface_is_the_one_that_is_written_down() -> None:
    """Names, signatures, members and bases of everything that users import."""
    change = difflib.unified_diff(
        FILE.read_text("utf-8").splitlines(),
        surface().splitlines(),
        "public_surface.txt",
        "code",
        lineterm="",
        n=0,
    )
    found = "\n".join(change)
    assert not found, f"run python tests/test_public_surface.py when this is on purpose:\n{found}"


def test_dir_shows_the_public_names() -> None:
    """Completion in an editor or a shell shows what is public, before anything is imported."""
    import bargein_server

    assert set(dir(bargein_server)) == {*bargein_server.__all__, "__version__"}
    assert all(hasattr(bargein_server, name) for name in dir(bargein_server))
    assert not hasattr(bargein_server, "nothing")


def test_every_other_package_of_the_server_is_marked_as_internal() -> None:
    """By its docstring; the public ones are not."""
    folder = ROOT / "server" / "bargein_server"
    packages = {file.parent.name for file in folder.glob("*/__init__.py")}
    public = {"agents", "examples", "frameworks", "speech_models", "streams", "voice"}
    for name in packages:
        text = inspect.getdoc(import_module(f"bargein_server.{name}")) or ""
        assert ("Internal" in text) == (name not in public), name


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / folder) for folder in ("protocol", "server", "clients/python")]
    FILE.write_text(surface(), "utf-8")
