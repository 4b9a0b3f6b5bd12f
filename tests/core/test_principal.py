"""Principals: texts with claims."""

from __future__ import annotations

import pytest

from bargein_server.core.principal import Principal, id_of, known_as


def test_a_principal_is_its_id() -> None:
    """It is compared, hashed and printed as that, and its claims are not shown."""
    ann = Principal("ann", {"plan": "pro"})
    assert ann == "ann" == Principal("ann")
    assert {str(ann): 1}[ann] == 1
    assert f"Hello {ann}" == "Hello ann"
    assert repr(ann) == "Principal('ann')"
    assert type(ann.id) is type(id_of(ann)) is str


def test_claims_cannot_be_changed() -> None:
    """One principal is seen by many turns."""
    given = {"plan": "pro"}
    ann = Principal("ann", given)
    given["plan"] = "free"
    assert ann.claims["plan"] == "pro"
    with pytest.raises(TypeError):
        ann.claims["plan"] = "free"  # type: ignore[index]
    assert dict(Principal("ann").claims) == {}


def test_an_id_without_claims() -> None:
    """As a store returns it."""
    ann = Principal("ann", {"plan": "pro"})
    assert known_as(ann) is ann
    assert isinstance(known_as("bob"), Principal)
    assert (known_as(None), id_of(None)) == (None, None)
    with pytest.raises(ValueError, match="empty"):
        Principal("")
