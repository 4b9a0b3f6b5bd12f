"""Files of inputs: which ones are taken, how models get them, and when they are forgotten."""

from __future__ import annotations

import pytest

from bargein_protocol import Attachment, InputAccepted, InputId, InputRejected, InputText
from bargein_protocol.media_types import BadMediaType, are_taken, media_types
from bargein_server.core.history import user_message
from core_driver import Talk

PNG = Attachment(media_type="image/png", data=b"\x89PNG", name="sky.png")
TEXT = Attachment(media_type="text/plain", data=b"hello")


def asked(*files: Attachment, text: str = "What is this?") -> InputText:
    """Return an input with files."""
    return InputText(id=InputId("i"), text=text, attachments=list(files))


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (True, ("*/*",)),
        (False, ()),
        (None, ()),
        ((), ()),
        ("image/*", ("image/*",)),
        (["image/png", "application/pdf"], ("image/png", "application/pdf")),
    ],
)
def test_an_agent_declares_what_it_takes(declared: object, expected: tuple[str, ...]) -> None:
    """Everything, nothing, or media types."""
    assert media_types(declared) == expected


@pytest.mark.parametrize("declared", [7, ["png"], ["Image/PNG"], ["image/png; q=1"], [b"image/png"], "*"])
def test_a_declaration_that_is_none_is_refused(declared: object) -> None:
    """Before the server starts, not when the first file comes."""
    with pytest.raises(BadMediaType, match="takes_attachments"):
        media_types(declared)


@pytest.mark.parametrize(
    ("media_type", "taken", "is_taken"),
    [
        ("image/png", ("image/png",), True),
        ("image/png", ("image/*",), True),
        ("image/png", ("*/*",), True),
        ("image/png", ("image/gif", "text/*"), False),
        ("image/png", (), False),
        ("imagex/png", ("image/*",), False),
        ("image/*", ("image/*",), False),
        ("*/*", ("*/*",), False),
        ("text/html,<script>", ("*/*",), False),
        ("IMAGE/PNG", ("image/*",), False),
    ],
)
def test_files_are_taken_by_their_type(media_type: str, taken: tuple[str, ...], is_taken: bool) -> None:
    """A type that is none is never taken, whatever the agent declares."""
    assert are_taken([Attachment(media_type=media_type, data=b"")], taken) is is_taken


def test_messages_for_models_have_the_files() -> None:
    """Images as `image_url`, other files as `file`, the text first."""
    assert user_message(asked(PNG, TEXT), True)["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
        {"type": "file", "file": {"filename": "file", "file_data": "data:text/plain;base64,aGVsbG8="}},
    ]
    assert len(user_message(asked(PNG, text=""), True)["content"]) == 1


def test_other_messages_name_the_files() -> None:
    """An agent that reads `content` as a text goes on getting one."""
    assert user_message(asked(PNG, TEXT), False)["content"] == (
        "What is this?\n[attached: sky.png, image/png]\n[attached: text/plain]"
    )
    assert user_message(asked(), True)["content"] == "What is this?"


def test_an_agent_without_files_refuses_them() -> None:
    """With a code, and the session goes on; a resend gets the same answer."""
    talk = Talk()
    assert talk.opened().limits.attachments == []
    for _ in range(2):
        talk.send(asked(PNG))
    first, again = talk.of(InputRejected)
    assert (first.code, first.duplicate, again.duplicate) == ("unsupported_attachment", False, True)
    assert talk.ask("without")


def test_only_types_that_the_agent_takes_are_accepted() -> None:
    """One file of another type refuses the whole input."""
    talk = Talk(attachments=("image/*",))
    assert talk.opened().limits.attachments == ["image/*"]
    talk.send(asked(PNG, TEXT))
    assert talk.of(InputAccepted) == []
    talk.send(InputText(id=InputId("j"), text="", attachments=[PNG]))
    assert len(talk.of(InputAccepted)) == 1


def test_old_files_give_way_before_old_exchanges() -> None:
    """The history stays within its bound, and the words of the turns whose files went stay in it."""
    big = Attachment(media_type="image/png", data=bytes(700), name="big.png")
    talk = Talk(attachments=("image/*",), max_history_chars=2000)
    for number in range(4):
        talk.send(InputText(id=InputId(f"n{number}"), text=f"picture {number}", attachments=[big]))
        talk.finish(turn := talk.started()[-1])
        talk.cleaned_up(turn)
    last = talk.ask("and now?")
    messages = talk.session.history(last).messages(attachments=True)
    users = [message["content"] for message in messages if message["role"] == "user"]
    assert users[0] == "picture 0\n[attached: big.png, image/png]"
    assert [isinstance(content, list) for content in users] == [False, False, True, True, False]
    assert talk.session.kept_bytes < 60_000
