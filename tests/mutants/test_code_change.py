"""The vocabulary of the mutants: each kind of change does what it names, or reports that it is stale."""

from __future__ import annotations

import ast
import re

import pytest

from code_change import Change, Stale, change_function, change_source

MODULE = '''
TABLE = {"a": 1, "b": 2}

class Gate:
    """A gate."""

    @property
    def open(self):
        return self._open

    @open.setter
    def open(self, value):
        self._open = value

    @cached
    def check(self, event, now):
        """Check an event."""
        turn = self.turns.get(event.turn_id)
        if turn is None or turn.ended or turn.held_until > now:
            return False  # a comment
        elif event.force:
            self.log(turn)
            self.log(turn, event)
        else:
            self.wait(turn)
        try:
            turn.close(reason="x")
        finally:
            self.count += 1
        return [each for each in self.turns]

async def run(source):
    async for item in source:
        await item.send()
'''


def changed(name: str, **kind: str) -> str:
    """Return the changed source of a target of `MODULE`, as one line a statement."""
    return change_function(MODULE, Change(target=f"package.module:{name}", **kind))


@pytest.mark.parametrize(
    ("pattern", "gone"),
    [
        ("self.log(_)", "            self.log(turn)\n"),
        ("self.log(_, event)", "            self.log(turn, event)\n"),
        ("turn.ended", " or turn.ended"),
        ("_.held_until > _", " or turn.held_until > now"),
        ("cached", "    @cached\n"),
        ("return False", ""),
        ("self.wait(...)", ""),
        ("if A is None or _ or _:\n    ...\nelif _:\n    ...\nelse:\n    ...", ""),
    ],
)
def test_remove_deletes_a_statement_an_operand_or_an_element(pattern: str, gone: str) -> None:
    """All the rest stays as it is; a block that becomes empty passes."""
    original, result = change_source(MODULE), change_source(MODULE, Change("m:Gate.check", remove=pattern))
    assert result != original
    assert len(result) < len(original)
    if gone:
        assert gone in original
        assert result == original.replace(gone, "")
    compile(result, "changed", "exec")


def test_remove_deletes_an_entry_of_a_table() -> None:
    """A table of a module is a target like a function."""
    assert changed("TABLE", remove="'a'") == "TABLE = {'b': 2}"


def test_a_table_can_be_extended() -> None:
    """The value of an assignment is bound to a letter."""
    assert changed("TABLE", replace="TABLE = A", by="TABLE = {**A, 'c': 3}") == (
        "TABLE = {**{'a': 1, 'b': 2}, 'c': 3}"
    )


def test_a_condition_can_be_fixed() -> None:
    """`never` and `always` replace it by a constant."""
    assert "elif False:" in changed("Gate.check", never="event.force")
    assert "elif True:" in changed("Gate.check", always="event.force")


def test_replace_uses_the_letters_of_its_pattern() -> None:
    """A letter is the same expression wherever it stands."""
    result = changed("Gate.check", replace="A.close(reason=B)", by="A.close(reason=(A, B))")
    assert "turn.close(reason=(turn, 'x'))" in result
    with pytest.raises(Stale):
        changed("Gate.check", replace="A.close(reason=A)", by="A")


def test_replace_uses_the_bodies_of_its_pattern() -> None:
    """The dots of a pattern are statements that can go elsewhere, in their order."""
    result = changed("Gate.check", replace="try: ...\nfinally: ...", by="...\n...")
    assert "try" not in result
    assert result.index("turn.close") < result.index("self.count")


def test_replace_can_insert_statements() -> None:
    """A call that is a statement can become several, and another kind of statement."""
    result = changed("run", replace="await A.send()", by="await A.send(); await A.send(); return")
    assert result.endswith("await item.send()\n        await item.send()\n        return")


def test_enter_runs_first() -> None:
    """The docstring stays the first statement."""
    function = ast.parse(changed("Gate.check", enter="return True")).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert ast.get_docstring(function) == "Check an event."
    assert ast.unparse(function.body[1]) == "return True"


def test_layout_and_comments_do_not_matter() -> None:
    """Code is compared by its tree."""
    change = Change(target="m:Gate.check", never="_ is None or _.ended or _.held_until > now")
    wide = MODULE.replace("turn is None or turn.ended or", "(turn is None) or (\n turn.ended  # why\n) or")
    assert change_source(wide, change) == change_source(MODULE, change)


def test_names_of_locals_do_not_matter() -> None:
    """A pattern with `_` and letters for them matches as before."""
    change = Change(target="m:Gate.check", never="A is None or A.ended or A.held_until > _")
    renamed = re.sub(r"\bturn\b", "record", MODULE)
    assert "if False:" in change_source(renamed, change)


def test_all_definitions_of_a_name_are_searched() -> None:
    """A property and its setter have one name."""
    assert changed("Gate.open", remove="self._open = _").count("pass") == 1


def test_changes_apply_in_order() -> None:
    """The second one finds the result of the first."""
    first = Change(target="m:TABLE", remove="'a'")
    assert "TABLE = {}" in change_source(MODULE, first, Change(target="m:TABLE", remove="'b'"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change(target="m:Gate.shut", remove="_"), "m has no Gate.shut"),
        (Change(target="m:Fence.check", remove="_"), "m has no Fence.check"),
        (
            Change(target="m:Gate.check", remove="self.stop()"),
            "'self.stop()' once in m:Gate.check, found it 0",
        ),
        (Change(target="m:Gate.check", never="turn"), "'turn' once in m:Gate.check, found it 7 times"),
        (Change(target="m:Gate.check", remove="turn.held_until"), "is no statement and no part of a list"),
        (Change(target="m:TABLE", enter="pass"), "m:TABLE is not one function"),
        (Change(target="m:Gate.open", enter="pass"), "m:Gate.open is not one function"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_stale_change_names_its_target(change: Change, message: str) -> None:
    """The message has the pattern and the number of its matches."""
    with pytest.raises(Stale) as caught:
        change_source(MODULE, change)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "kinds",
    [{}, {"remove": "_", "never": "_"}, {"replace": "_"}, {"by": "_"}, {"remove": "_", "by": "_"}],
    ids=str,
)
def test_a_change_has_one_kind(kinds: dict[str, str]) -> None:
    """Two of them, or half of one, is a mistake of the list."""
    with pytest.raises(ValueError, match="m:f"):
        Change(target="m:f", **kinds)


def test_the_target_of_an_assignment_is_no_expression() -> None:
    """A pattern that names an attribute finds its uses alone."""
    result = changed("Gate.open", replace="self._open", by="None")
    assert "return None" in result
    assert "self._open = value" in result


def test_an_expression_is_not_replaced_by_a_statement() -> None:
    """The list is wrong, not stale."""
    with pytest.raises(ValueError, match="takes the place of an expression"):
        changed("Gate.check", replace="event.force", by="return")
