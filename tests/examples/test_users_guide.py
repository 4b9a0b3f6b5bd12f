"""The authenticators of the guide on users, with real servers: cookies, JSON Web Tokens, API keys."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp
from websockets.exceptions import InvalidStatus

from documentation import blocks
from live_server import RawClient, request
from plain_server import Served, serving_app

PAGE = "server/docs/users.md"


@pytest.fixture
def guide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Import a module of the guide, and those that it needs."""
    monkeypatch.chdir(tmp_path)

    def load(name: str) -> ModuleType:
        for wanted in ("accounts", name):
            [block] = [block for block in blocks(PAGE, "python") if block.file == f"{wanted}.py"]
            module = ModuleType(wanted)
            monkeypatch.setitem(sys.modules, wanted, module)
            exec(compile(block.text, wanted, "exec"), vars(module))
        return module

    return load


@asynccontextmanager
async def asked(served: Served, path: str, **headers: str) -> AsyncIterator[str]:
    """Connect, ask, and yield the answer."""
    async with served.connect(path, additional_headers=headers) as socket:
        await socket.send(json.dumps({"type": "input.text", "id": "i", "text": "hello"}))
        while (frame := json.loads(await socket.recv()))["type"] != "turn.ended":
            pass
        yield frame["heard"]["text"]


async def refused(served: Served, path: str, **headers: str) -> tuple[int, str]:
    """Return the status and the message of a refused handshake."""
    with pytest.raises(InvalidStatus) as error:
        async with served.connect(path, additional_headers=headers):
            pass
    response = error.value.response
    return response.status_code, json.loads(response.body)["message"]


# --- a session cookie of a FastAPI application --------------------------------------------------------


async def _log_in(served: Served, user: str, password: str) -> tuple[int, str]:
    body = json.dumps({"user": user, "password": password}).encode()
    kind: dict[str, Any] = {"Content-Type": "application/json"}
    status, headers, _ = await request(served.port, "/login", "POST", body, **kind)
    return status, headers.get("set-cookie", "")


async def test_a_session_cookie_of_fastapi(guide: Any) -> None:
    """The login sets it, the chat knows its user, and the logout ends it."""
    shop = guide("shop")
    async with serving_app(shop.shop, "ours") as served:
        for wrong in (("ann", "wrong"), ("eve", ""), ("", "")):
            assert await _log_in(served, *wrong) == (401, "")
        status, cookie = await _log_in(served, "ann", "correct horse")
        assert status == 200
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        login: dict[str, Any] = {"Cookie": cookie.partition(";")[0]}
        async with asked(served, "/chat/v1/session", **login) as answer:
            assert answer == "Hello ann, your plan is pro."
        assert cookie.encode() not in b"".join(shop.LOGINS)  # the table has hashes
        assert (await request(served.port, "/chat/v1/tickets", "POST", **login))[0] == 201
        async with served.connect("/chat/v1/session", additional_headers=login) as socket:
            client = RawClient(socket)
            await client.send({"type": "session.open"})
            await client.until("session.opened")
            await request(served.port, "/logout", "POST", **login)
            assert (await client.closed())[0] == 1012  # it comes again, and is refused
        assert (await request(served.port, "/chat/v1/tickets", "POST", **login))[0] == 401


async def test_a_foreign_page_cannot_use_the_cookie(guide: Any) -> None:
    """The origin is checked before the authenticator sees the request."""
    async with serving_app(guide("shop").shop, "ours") as served:
        _, cookie = await _log_in(served, "ann", "correct horse")
        login = {"Cookie": cookie.partition(";")[0], "Origin": "https://evil.example"}
        assert (await refused(served, "/chat/v1/session", **login))[0] == 403


# --- JSON Web Tokens -----------------------------------------------------------------------------------

ISSUED = {"sub": "ann", "aud": "chat", "plan": "pro"}


class Provider:
    """An identity provider with a key set.

    Attributes:
        keys: Its signing keys by id.
        requests: Number of requests for the key set.
    """

    def __init__(self) -> None:
        self.keys = {"k1": rsa.generate_private_key(65537, 2048)}
        self.requests = 0

    def app(self) -> ASGIApp:
        return Starlette(routes=[Route("/.well-known/jwks.json", self._key_set)])

    async def _key_set(self, request: Request) -> JSONResponse:
        self.requests += 1
        algorithm = jwt.algorithms.RSAAlgorithm
        keys = [
            {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", "alg": "RS256"}
            for kid, key in self.keys.items()
        ]
        return JSONResponse({"keys": keys})

    def token(self, issuer: str, kid: str = "k1", key: Any = None, **claims: Any) -> str:
        content = {"iss": issuer, "exp": time.time() + 60, **ISSUED, **claims}
        content = {name: value for name, value in content.items() if value is not None}
        return jwt.encode(content, key or self.keys[kid], algorithm="RS256", headers={"kid": kid})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_json_web_tokens_of_a_provider(guide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good ones bring their subject and claims; expired, forged and foreign ones are 401."""
    provider = Provider()
    async with serving_app(provider.app(), "ours") as login:
        issuer = f"http://127.0.0.1:{login.port}"
        monkeypatch.setenv("ISSUER", issuer)
        module = guide("tokens")
        async with serving_app(module.app, "ours") as served:
            for _ in range(2):
                async with asked(served, "/v1/session", **bearer(provider.token(issuer))) as answer:
                    assert answer == "Hello ann, your plan is pro."
            assert provider.requests == 1
            forger = rsa.generate_private_key(65537, 2048)
            public = str(provider.keys["k1"].public_key().public_numbers().n)
            content = {**ISSUED, "iss": issuer, "exp": time.time() + 60}
            head = {"kid": "k1"}
            unsigned = jwt.encode(content, None, algorithm="none", headers=head)  # type: ignore[arg-type]
            bad = {
                "expired": provider.token(issuer, exp=time.time() - 60),
                "no end": provider.token(issuer, exp=None),
                "no subject": provider.token(issuer, sub=None),
                "for another": provider.token(issuer, aud="mail"),
                "of another": provider.token("https://evil.example"),
                "forged": provider.token(issuer, key=forger),
                "unknown key": provider.token(issuer, kid="k9", key=forger),
                "unsigned": unsigned,
                "with the public key": jwt.encode(content, public, headers=head),
                "no token": "x.y.z",
            }
            statuses = {}
            for name, token in bad.items():
                statuses[name] = (await refused(served, "/v1/session", **bearer(token)))[0]
            assert statuses == dict.fromkeys(bad, 401)
            module.KEYS.cooldown_duration = 0  # it asks at most every 30 s for keys that are not known
            provider.keys["k2"] = rsa.generate_private_key(65537, 2048)
            async with asked(served, "/v1/session", **bearer(provider.token(issuer, "k2"))) as answer:
                assert answer.startswith("Hello ann")  # a rotated key is fetched when it is first used


async def test_a_provider_that_is_down_ends_no_client(guide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """503: the token may be right."""
    monkeypatch.setenv("ISSUER", "http://127.0.0.1:9")
    async with serving_app(guide("tokens").app, "ours") as served:
        token = Provider().token("http://127.0.0.1:9")
        assert (await refused(served, "/v1/session", **bearer(token)))[0] == 503


# --- API keys --------------------------------------------------------------------------------------------


async def test_api_keys_in_a_table(guide: Any, tmp_path: Path) -> None:
    """In a header of their own or as a bearer token; unknown ones are 401, revoked ones 403."""
    module = guide("keys")
    key = module.keys.create("ann", "pro")
    async with serving_app(module.app, "ours") as served:
        for headers in ({"X-API-Key": key}, bearer(key)):
            async with asked(served, "/v1/session", **headers) as answer:
                assert answer == "Hello ann, your plan is pro."
        assert (await refused(served, "/v1/session", **bearer("key_unknown")))[0] == 401
        module.keys.revoke(key)
        assert await refused(served, "/v1/session", **bearer(key)) == (403, "This key was revoked.")
    assert key.encode() not in (tmp_path / "keys.db").read_bytes()
