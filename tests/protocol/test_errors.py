from __future__ import annotations

import re

import pytest

from bargein_protocol import (
    CODES,
    Action,
    Code,
    DecodeError,
    ProtocolError,
    code_named,
    code_of_close,
    errors,
)

codes = pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)


def test_numbers_and_names_are_unique() -> None:
    """A number and a name each mean one thing."""
    assert len({code.number for code in CODES}) == len(CODES)
    assert len({code.name for code in CODES}) == len(CODES)


def test_the_table_holds_every_code_of_the_module() -> None:
    """No code is defined beside the table, and the table is in order."""
    defined = {value for value in vars(errors).values() if isinstance(value, Code)}
    assert defined == set(CODES)
    assert [code.number for code in CODES] == sorted(code.number for code in CODES)


def test_constants_are_named_like_their_codes() -> None:
    """`errors.UNKNOWN_TURN` is the code `unknown_turn`."""
    assert all(getattr(errors, code.name.upper()) is code for code in CODES)


@codes
def test_a_reason_fits_a_close_frame(code: Code) -> None:
    """A control frame carries 125 bytes, two of them the code (RFC 6455 section 5.5)."""
    assert 0 < len(code.reason.encode()) <= 123


@codes
def test_names_are_lower_case_words(code: Code) -> None:
    """A name is lower case with underscores, a reason no sentence."""
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code.name)
    assert not code.reason.endswith(".")


@codes
def test_numbers_are_legal(code: Code) -> None:
    """Standard close codes are below 4400; ours are in the private range of RFC 6455 section 7.4.2."""
    assert code.number in {1000, 1001, 1005, 1006, 1007, 1009, 1011, 1012, 1013} or 4400 <= code.number < 4500
    assert code.closes or code.number >= 4400


@codes
def test_a_close_code_is_found_by_its_number(code: Code) -> None:
    """Only codes that close are found by number; all are found by name."""
    assert code_of_close(code.number) is (code if code.closes else errors.ABNORMAL)
    assert code_named(code.name) is code


@pytest.mark.parametrize("number", [0, 999, 1002, 3000, 4000, 4499, 4999])
def test_an_unlisted_close_code_is_a_lost_line(number: int) -> None:
    """A client resumes after a code that it does not know."""
    assert code_of_close(number).action is Action.RESUME


def test_a_name_from_a_newer_peer_is_none() -> None:
    """An unlisted name is no error."""
    assert code_named("from_the_future") is None


@pytest.mark.parametrize("code", [errors.CLOSED, errors.REPLACED, errors.UNAUTHORIZED, errors.FORBIDDEN])
def test_a_client_does_not_come_back_uninvited(code: Code) -> None:
    """After the session's end, a newer connection or a refusal, no client reconnects by itself."""
    assert code.action is Action.STOP


def test_a_decode_error_carries_what_answers_it() -> None:
    """The code, a short detail and the id of the event, for the `error` that goes back."""
    error = DecodeError(errors.BAD_EVENT, "expected more", "x_1")
    assert isinstance(error, ProtocolError)
    assert (error.code, error.detail, error.ref_id) == (errors.BAD_EVENT, "expected more", "x_1")
    assert str(error) == "bad_event: expected more"
