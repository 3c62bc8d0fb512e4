"""Whatever the authority answers: only a whole, active answer for this very server lets a token pass."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from authority import RETRY_SECONDS, RETRY_SECONDS_MAX, AuthorityAwayError, IntrospectionVerifier, caller_address

pytestmark = pytest.mark.anyio

ISSUER = "https://authority.example.com/oauth"
RESOURCE = "https://notes.example.com/mcp"
ACTIVE: dict[str, Any] = {
    "active": True,
    "iss": ISSUER,
    "aud": RESOURCE,
    "sub": "agt_1",
    "client_id": "key_1",
    "scope": "tools/list notes:read",
    "permissions": ["tools/list"],
    "exp": 4_102_444_800,
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Answers:
    """Gives one answer to everything, and keeps what it was asked."""

    def __init__(self, answer: httpx2.Response | Exception) -> None:
        self.asked: list[httpx2.Request] = []
        self._answer = answer

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def verifier(answers: Answers) -> IntrospectionVerifier:
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answers), auth=httpx2.BasicAuth("srv_1", "secret"))
    return IntrospectionVerifier(ISSUER, RESOURCE, client)


async def test_an_active_token_passes_with_its_permissions() -> None:
    answers = Answers(httpx2.Response(200, json=ACTIVE))
    token = await verifier(answers).verify_token("abc")
    assert token is not None
    assert (token.client_id, token.subject, token.resource) == ("key_1", "agt_1", RESOURCE)
    assert token.scopes == ["tools/list", "notes:read"]
    assert token.claims is not None
    assert token.claims["permissions"] == ["tools/list"]
    (request,) = answers.asked
    assert str(request.url) == f"{ISSUER}/introspect"
    assert request.headers["authorization"].startswith("Basic ")
    assert request.content == b"token=abc"


async def test_each_request_asks_anew_and_says_where_it_came_from() -> None:
    answers = Answers(httpx2.Response(200, json=ACTIVE))
    asks = verifier(answers)
    reset = caller_address.set("192.0.2.7")
    try:
        for _ in range(3):
            assert await asks.verify_token("abc")
    finally:
        caller_address.reset(reset)
    assert [request.content for request in answers.asked] == [b"token=abc&client_ip=192.0.2.7"] * 3


@pytest.mark.parametrize(
    "answer",
    [
        {"active": False},
        {},
        {"active": "true"},
        {"active": 1},
        {**ACTIVE, "aud": "https://notes.example.com/mcp/"},
        {**ACTIVE, "aud": "https://other.example.com/mcp"},
        {**ACTIVE, "aud": [RESOURCE]},
        {**ACTIVE, "iss": "https://evil.example.com/oauth"},
        {name: value for name, value in ACTIVE.items() if name != "aud"},
    ],
)
async def test_what_is_not_good_here_is_refused(answer: dict[str, Any]) -> None:
    assert await verifier(Answers(httpx2.Response(200, json=answer))).verify_token("abc") is None


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "ä", "a" * 8_193, '"'])
async def test_what_cannot_be_a_token_is_sent_nowhere(token: str) -> None:
    answers = Answers(httpx2.Response(200, json=ACTIVE))
    assert await verifier(answers).verify_token(token) is None
    assert answers.asked == []


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (httpx2.Response(503, headers={"Retry-After": "2"}), 2),
        (httpx2.Response(503, headers={"Retry-After": "86400"}), RETRY_SECONDS_MAX),
        (httpx2.Response(503, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), RETRY_SECONDS),
        (httpx2.Response(429), RETRY_SECONDS),
        (httpx2.Response(500), RETRY_SECONDS),
        (httpx2.Response(401, json={"error": "invalid_client"}), RETRY_SECONDS),
        (httpx2.Response(302, headers={"Location": "https://evil.example.com/"}), RETRY_SECONDS),
        (httpx2.Response(200, content=b"<html>"), RETRY_SECONDS),
        (httpx2.Response(200, content=b"\xff\xfe"), RETRY_SECONDS),
        (httpx2.Response(200, json=[ACTIVE]), RETRY_SECONDS),
        (httpx2.Response(200, content=json.dumps({**ACTIVE, "pad": "x" * 70_000}).encode()), RETRY_SECONDS),
        (httpx2.Response(200, json={**ACTIVE, "permissions": "tools/list"}), RETRY_SECONDS),
        (httpx2.Response(200, json={**ACTIVE, "permissions": [1]}), RETRY_SECONDS),
        (httpx2.Response(200, json={**ACTIVE, "exp": None}), RETRY_SECONDS),
        (httpx2.ConnectError("refused"), RETRY_SECONDS),
        (httpx2.ReadTimeout("slow"), RETRY_SECONDS),
        (httpx2.RemoteProtocolError("garbage"), RETRY_SECONDS),
    ],
)
async def test_no_answer_and_half_an_answer_are_neither_yes_nor_no(
    answer: httpx2.Response | Exception, seconds: int
) -> None:
    with pytest.raises(AuthorityAwayError) as away:
        await verifier(Answers(answer)).verify_token("abc")
    assert away.value.retry_seconds == seconds
