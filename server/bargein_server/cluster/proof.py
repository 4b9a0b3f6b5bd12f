"""Proof that two processes on different machines have the same secret.

Each end proves it with a keyed hash (HMAC-SHA256, RFC 2104) over fresh random bytes of both, so that neither
sends the secret, and no recorded proof is valid again. What follows is neither encrypted nor signed: the
network between the machines is private.
"""

from __future__ import annotations

import hmac
import secrets

from .channel import Channel
from .letters import BadLetter, Kind, letter

NONCE_BYTES = 32
MAC_BYTES = 32
_PROOF_BYTES = NONCE_BYTES + MAC_BYTES
_ASKER, _OWNER = b"bargein asker ", b"bargein owner "


class NotProved(Exception):
    """The other end does not have the secret."""


async def prove(channel: Channel, secret: bytes) -> None:
    """Prove the secret to the other process, and have it proven in return.

    Raises:
        NotProved: It does not have the secret.
        OSError: It is gone, or refuses.
    """
    own = secrets.token_bytes(NONCE_BYTES)
    await channel.send(letter(Kind.PROOF, own))
    answer = await _receive(channel, _PROOF_BYTES)
    both = own + answer[:NONCE_BYTES]
    if not hmac.compare_digest(answer[NONCE_BYTES:], _mac(secret, _OWNER, both)):
        raise NotProved
    await channel.send(letter(Kind.PROOF, _mac(secret, _ASKER, both)))


async def check_proof(channel: Channel, secret: bytes) -> None:
    """Have the other process prove the secret, before it may ask anything.

    Raises:
        NotProved: It does not have the secret.
        OSError: It is gone.
    """
    theirs = await _receive(channel, NONCE_BYTES)
    own = secrets.token_bytes(NONCE_BYTES)
    both = theirs + own
    await channel.send(letter(Kind.PROOF, own + _mac(secret, _OWNER, both)))
    if not hmac.compare_digest(await _receive(channel, MAC_BYTES), _mac(secret, _ASKER, both)):
        raise NotProved


async def _receive(channel: Channel, size: int) -> bytes:
    try:
        kind, payload, _ = await channel.receive(size)
    except BadLetter:
        raise NotProved from None
    if kind != Kind.PROOF or len(payload) != size:
        raise NotProved
    return payload


def _mac(secret: bytes, role: bytes, both: bytes) -> bytes:
    return hmac.digest(secret, role + both, "sha256")
