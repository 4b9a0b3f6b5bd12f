"""Changes of a function by its syntax tree, the vocabulary of all mutants.

A change names a target (`package.module:Class.method`, or a table of a module) and one kind of change:

    remove = "PATTERN"                 delete a statement, an operand of and/or, an element, a decorator
    never = "PATTERN"                  put False in the place of a condition
    always = "PATTERN"                 put True in the place of a condition
    replace = "PATTERN", by = "CODE"   put other code in the place of an expression or of statements
    enter = "CODE"                     run statements at the start of a function; `return` skips the rest

A pattern is Python. It is compared as a tree, so layout and comments do not matter:

    _        any expression
    A … Z    any expression; the same letter is the same expression again, also in `by`
    ...      as a statement: any statements, also in `by`; as the argument of a call: any arguments

Exactly one place of the target must match; an expression does not match the target of an assignment.
Locals are best written as `_` or as a letter.
"""

from __future__ import annotations

import ast
import copy
import textwrap
from collections.abc import Iterator
from typing import Any

from msgspec import Struct, field, structs

KINDS = ("remove", "never", "always", "replace", "enter")

_IGNORED = {"ctx", "type_comment", "kind"}
_LOAD = ast.Load()
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Stale(Exception):
    """A target or a pattern does not match the code exactly once."""


class Change(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One change of one function or table; exactly one kind is given.

    Args:
        target: Module and qualified name, joined by a colon.
        remove: The pattern of the code to delete.
        never: The pattern of the condition that becomes False.
        always: The pattern of the condition that becomes True.
        replace: The pattern of the code that `by` replaces.
        by: The code in place of the one that `replace` names.
        enter: The statements to run first.
    """

    target: str
    remove: str | None = None
    never: str | None = None
    always: str | None = None
    replace: str | None = None
    by: str | None = None
    enter: str | None = None

    def __post_init__(self) -> None:
        """Check that there is one kind.

        Raises:
            ValueError: No kind is given, or several, or `replace` and `by` without the other.
        """
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"{self.target}: expected one of {', '.join(KINDS)}, got {given or 'none'}")
        if (self.replace is None) != (self.by is None):
            raise ValueError(f"{self.target}: `replace` and `by` belong together")

    @property
    def module(self) -> str:
        """The dotted name of the module."""
        return self.target.partition(":")[0]

    @property
    def name(self) -> str:
        """The qualified name inside the module."""
        return self.target.partition(":")[2]


def change_source(source: str, *changes: Change) -> str:
    """Apply changes to the source of a module, in order.

    Raises:
        Stale: A target or a pattern does not match exactly once.
    """
    tree = ast.parse(source)
    for change in changes:
        _apply(change, tree)
    return ast.unparse(tree)


def change_function(source: str, change: Change) -> str:
    """Return the source of the changed function; `source` is its module's.

    Raises:
        Stale: The target or the pattern does not match exactly once.
    """
    tree = ast.parse(source)
    _apply(change, tree)
    return "\n".join(ast.unparse(place.node) for place in _find_target(change, tree))


# --- places in a tree ------------------------------------------------------------------------------


class _Place(Struct):
    """A field of a node that holds a node, or a slice of a list of nodes."""

    parent: ast.AST
    field: str
    start: int | None = None
    end: int = 0

    @property
    def node(self) -> ast.AST:
        value = getattr(self.parent, self.field)
        found: ast.AST = value if self.start is None else value[self.start]
        return found

    def put(self, nodes: list[Any]) -> None:
        """Put nodes into this place; a field that is no list takes exactly one."""
        if self.start is None:
            (value,) = nodes
            setattr(self.parent, self.field, value)
        else:
            getattr(self.parent, self.field)[self.start : self.end] = nodes


def _children(parent: ast.AST) -> Iterator[_Place]:
    for name, value in ast.iter_fields(parent):
        if isinstance(value, ast.AST):
            yield _Place(parent, name)
        elif isinstance(value, list):
            for index, node in enumerate(value):
                if isinstance(node, ast.AST):
                    yield _Place(parent, name, index, index + 1)


def _descendants(parent: ast.AST) -> Iterator[_Place]:
    for place in _children(parent):
        yield place
        yield from _descendants(place.node)


def _named(place: _Place) -> str | None:
    """Return the name that a statement defines or assigns."""
    node = place.node
    if isinstance(node, _DEFINITIONS):
        return node.name
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    return None


def _scope(parent: ast.AST) -> Iterator[_Place]:
    """Yield the statements of a scope, also those inside of `if` and `try`."""
    for place in _children(parent):
        if isinstance(place.node, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield place
            if not isinstance(place.node, _DEFINITIONS):
                yield from _scope(place.node)


def _find_target(change: Change, tree: ast.Module) -> list[_Place]:
    """Return the definitions of a name; a property with a setter has two."""
    *owners, name = change.name.split(".")
    scopes: list[ast.AST] = [tree]
    for owner in owners:
        scopes = [place.node for scope in scopes for place in _scope(scope) if _named(place) == owner]
    found = [place for scope in scopes for place in _scope(scope) if _named(place) == name]
    if not found:
        raise Stale(f"{change.module} has no {change.name}")
    return found


# --- patterns --------------------------------------------------------------------------------------


class _Bound(Struct, frozen=True):
    """The code that the letters and the `...` of a pattern stand for."""

    letters: dict[str, ast.expr] = field(default_factory=dict)
    bodies: tuple[list[ast.stmt], ...] = ()


def _parse(code: str) -> list[ast.stmt]:
    return ast.parse(textwrap.dedent(code).strip()).body


def _only_expression(statements: list[ast.stmt]) -> ast.expr | None:
    if len(statements) == 1 and isinstance(statements[0], ast.Expr):
        return statements[0].value
    return None


def _is_dots(node: Any) -> bool:
    value = node.value if isinstance(node, ast.Expr) else node
    return isinstance(value, ast.Constant) and value.value is ...


def _is_letter(name: str) -> bool:
    return len(name) == 1 and name.isupper()


def _match(pattern: Any, node: Any, bound: _Bound) -> _Bound | None:
    """Compare a node to a pattern; return the bindings, None when they differ."""
    if isinstance(pattern, list):
        return _match_list(pattern, node, bound)
    if not isinstance(pattern, ast.AST):
        return bound if type(pattern) is type(node) and pattern == node else None
    if isinstance(pattern, ast.Name) and isinstance(node, ast.expr):
        if pattern.id == "_":
            return bound
        if _is_letter(pattern.id):
            return _bind(pattern.id, node, bound)
    if type(pattern) is not type(node):
        return None
    fields = pattern._fields
    if isinstance(pattern, ast.Call) and len(pattern.args) == 1 and _is_dots(pattern.args[0]):
        fields = ("func",)
    for name in fields:
        if name not in _IGNORED:
            matched = _match(getattr(pattern, name), getattr(node, name), bound)
            if matched is None:
                return None
            bound = matched
    return bound


def _bind(letter: str, node: ast.expr, bound: _Bound) -> _Bound | None:
    known = bound.letters.get(letter)
    if known is not None:
        return bound if ast.unparse(known) == ast.unparse(node) else None
    return structs.replace(bound, letters={**bound.letters, letter: node})


def _match_list(patterns: list[Any], nodes: Any, bound: _Bound) -> _Bound | None:
    if not isinstance(nodes, list):
        return None
    if not patterns:
        return None if nodes else bound
    first, rest = patterns[0], patterns[1:]
    if isinstance(first, ast.Expr) and _is_dots(first):
        for size in range(len(nodes), -1, -1):
            with_body = structs.replace(bound, bodies=(*bound.bodies, nodes[:size]))
            if (matched := _match_list(rest, nodes[size:], with_body)) is not None:
                return matched
        return None
    matched = _match(first, nodes[0], bound) if nodes else None
    return None if matched is None else _match_list(rest, nodes[1:], matched)


def _match_run(patterns: list[ast.stmt], nodes: list[Any], start: int) -> tuple[int, _Bound] | None:
    """Match statements from `start` on; return their end and the bindings."""
    for end in range(start + 1, len(nodes) + 1):
        if (matched := _match_list(patterns, nodes[start:end], _Bound())) is not None:
            return end, matched
    return None


def _find(pattern: list[ast.stmt], holder: ast.Module) -> Iterator[tuple[_Place, _Bound]]:
    """Yield all places under a node that match a pattern."""
    expression = _only_expression(pattern)
    for place in _descendants(holder):
        node = place.node
        if expression is not None:
            # A call that is a statement is found as the statement, so that it can be removed.
            value = node.value if isinstance(node, ast.Expr) else node
            skipped = isinstance(place.parent, ast.Expr) or not isinstance(
                getattr(node, "ctx", _LOAD), ast.Load
            )
            if not skipped and (matched := _match(expression, value, _Bound())) is not None:
                yield place, matched
        elif isinstance(node, ast.stmt) and place.start is not None:
            run = _match_run(pattern, getattr(place.parent, place.field), place.start)
            if run is not None:
                yield structs.replace(place, end=run[0]), run[1]


# --- kinds of change -------------------------------------------------------------------------------


def _apply(change: Change, tree: ast.Module) -> None:
    targets = _find_target(change, tree)
    if change.enter is not None:
        _enter(change, targets)
        return
    source = next(code for kind in KINDS if (code := getattr(change, kind)) is not None)
    pattern = _parse(source)
    holders = [ast.Module([place.node], []) for place in targets]  # type: ignore[list-item]
    found = [match for holder in holders for match in _find(pattern, holder)]
    if len(found) != 1:
        raise Stale(f"expected {source!r} once in {change.target}, found it {len(found)} times")
    place, bound = found[0]
    if change.remove is not None:
        _remove(change, place)
    elif change.by is not None:
        _replace(change.by, place, bound)
    else:
        place.put([_as_found(ast.Constant(change.always is not None), place)])
    for target, holder in zip(targets, holders, strict=True):
        target.put(list(holder.body))


def _enter(change: Change, targets: list[_Place]) -> None:
    assert change.enter is not None
    if len(targets) != 1 or not isinstance(
        function := targets[0].node, ast.FunctionDef | ast.AsyncFunctionDef
    ):
        raise Stale(f"{change.target} is not one function")
    after_docstring = 0 if ast.get_docstring(function) is None else 1
    function.body[after_docstring:after_docstring] = _parse(change.enter)


def _remove(change: Change, place: _Place) -> None:
    siblings = getattr(place.parent, place.field)
    if place.start is None or isinstance(place.parent, ast.Compare):
        raise Stale(f"{change.remove!r} in {change.target} is no statement and no part of a list: replace it")
    if isinstance(place.parent, ast.Dict):
        del place.parent.values[place.start]
    place.put([])
    if not siblings and place.field in ("body", "finalbody"):
        siblings.append(ast.Pass())


def _replace(code: str, place: _Place, bound: _Bound) -> None:
    statements = _Fill(bound).fill(_parse(code))
    expression = _only_expression(statements)
    if isinstance(place.node, ast.stmt):
        place.put(statements or [ast.Pass()])
    elif expression is not None:
        place.put([expression])
    else:
        raise ValueError(f"{code!r} takes the place of an expression, and is none")


def _as_found(expression: ast.expr, place: _Place) -> ast.AST:
    return ast.Expr(expression) if isinstance(place.node, ast.stmt) else expression


class _Fill(ast.NodeTransformer):
    """Put bound code in place of the letters and dots of a replacement."""

    def __init__(self, bound: _Bound) -> None:
        self._letters = bound.letters
        self._bodies = iter(bound.bodies)

    def fill(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        return list(self.visit(ast.Module(statements, [])).body)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copy.deepcopy(self._letters.get(node.id, node))

    def visit_Expr(self, node: ast.Expr) -> Any:
        return copy.deepcopy(next(self._bodies)) if _is_dots(node) else self.generic_visit(node)
