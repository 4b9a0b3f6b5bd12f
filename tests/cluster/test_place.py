"""Names of processes, and the folder of their sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from bargein_protocol import SessionId
from bargein_server.cluster.letters import Answer
from bargein_server.cluster.node import Node
from bargein_server.cluster.peers import Peers
from bargein_server.cluster.place import Place, name_of, new_name
from bargein_server.hosting.elsewhere import ArrivalNumbers


@pytest.mark.parametrize(
    ("session_id", "name"),
    [
        ("s_0123abcd0123456789abcdef", "0123abcd"),
        ("s_../../etc/passwd", ""),
        ("s_0123abc", ""),
        ("t_0123abcd0123456789abcdef", ""),
        ("s_0123ABCD", ""),
        ("", ""),
    ],
)
def test_a_name_comes_from_a_session_id_of_the_right_form_alone(session_id: str, name: str) -> None:
    """An id is a client's text, and a name becomes a path."""
    assert name_of(SessionId(session_id)) == name


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    """Whoever reaches the sockets may take sessions over."""
    tmp_path.chmod(0o755)
    with pytest.raises(PermissionError, match="0700"):
        Place(new_name(), str(tmp_path)).listen()


def test_names_lead_to_a_successor_and_to_its_successor(folder: Path) -> None:
    """Each name is one step from the process that serves its sessions."""
    first, second, third = (Place(new_name(), str(folder)) for _ in range(3))
    listeners: list[socket.socket] = []
    for place, successor in ((first, second), (second, third)):
        listeners.append(place.listen())
        place.leave_to(successor.name)
    with third.listen():
        assert {os.readlink(each.path) for each in (first, second)} == {third.name}
        assert first.names() == [third.name]
    for listener in listeners:
        listener.close()


def test_numbers_of_connections_follow_their_arrival() -> None:
    """The newest connection wins, also when an older one was handed over after it came."""
    numbers = ArrivalNumbers()
    first, second = numbers.next(100.0), numbers.next(100.0)
    assert first < second
    third = numbers.next(101.0)
    assert second < numbers.earlier(100.5) < third
    assert numbers.earlier(101.5) >= third


def test_without_the_folder_there_is_no_other_worker(tmp_path: Path) -> None:
    """Another one has removed it, because the supervisor was killed: this one ends without an error."""
    place = Place(new_name(), str(tmp_path / "gone"), 0, 2)
    assert place.names() == []
    assert not place.is_crowded


async def test_a_node_that_did_not_start_stops(tmp_path: Path) -> None:
    """The folder was gone when it wanted to join the others; its server ends in order."""
    unused: Any = None
    await Node(Place(new_name(), str(tmp_path / "gone"), 0, 2), unused, unused).stop()


async def test_a_session_of_an_own_id_begins_here_unless_another_machine_has_it(folder: Path) -> None:
    """Its id leads to a worker of each machine; the store shows which one has it."""
    place = Place(new_name(), str(folder))
    place.take_number()
    found = Peers(place)
    own_id, made = SessionId("c_0123"), SessionId(f"s_{new_name()}0123")
    assert (await found.located(own_id, False)).mine
    owner = "tcp:10.0.0.5:9001"

    async def stored_owner(session_id: SessionId) -> str:
        return owner

    found.stored_owner = stored_owner
    assert await found.located(own_id, False) == Answer(False, owner)
    assert await found.located(own_id, True) == Answer(True)
    assert await found.located(made, False) == Answer(False)
    owner = place.name
    assert (await found.located(own_id, False)).mine
