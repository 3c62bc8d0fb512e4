"""Real MCP clients and servers, unmodified from their packages, with the authority between them.

Only the browser is played. Each client finds the authority by the server's 401, makes itself known, sends the person
there, gets its tokens, refreshes them, and is refused when they are revoked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from interop.client import ClientError
from interop.world import PLACES, REGISTRATIONS, STACKS, VERIFIERS, World, claims, consent, started
from support import post


def _cells() -> Iterator[Any]:
    """Every client with every server and registration; the ways to verify and the places in turn.

    So each client and each server meets each registration with each verifier, at a root and at a path.
    """
    kinds = itertools.product(*map(enumerate, (STACKS, STACKS, REGISTRATIONS)))
    for (i, server), (j, client), (k, registration) in kinds:
        turn = i + j + k
        verifier, place = VERIFIERS[turn % len(VERIFIERS)], PLACES[turn // len(VERIFIERS) % len(PLACES)]
        name = f"{client}-to-{server}-at-{place}-{registration}-{verifier}"
        yield pytest.param(client, server, registration, verifier, place, id=name)


def test_the_cells_are_all_that_was_promised() -> None:
    kinds = set(itertools.product(REGISTRATIONS, VERIFIERS, PLACES))
    cells = [cell.values for cell in _cells()]
    for stack in STACKS:
        assert {tuple(cell[2:]) for cell in cells if cell[0] == stack} == kinds, f"{stack} calls"
        assert {tuple(cell[2:]) for cell in cells if cell[1] == stack} == kinds, f"{stack} serves"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with started() as running:
        yield running


@pytest.mark.parametrize(("client", "server", "registration", "verifier", "place"), list(_cells()))
def test_a_person_signs_in_and_the_client_works_until_it_is_revoked(
    world: World, client: str, server: str, registration: str, verifier: str, place: str
) -> None:
    there = world.server(server, verifier, place)
    unauthenticated = post(there.resource, None, "tools/list")
    assert unauthenticated.status_code == 401
    assert "resource_metadata=" in unauthenticated.headers["www-authenticate"]

    calling = world.client(client, registration, there)
    with world.browser() as browser:
        said = calling.call(browser)
        assert calling.signed_in == 1
        tokens = calling.tokens()
        told = claims(world.authority, there, tokens["access_token"])
        assert said == f"{told['sub']} by {told['client_id']}"
        assert told["sub"].startswith("usr_")
        assert told["aud"] == there.resource

        calling.expire()
        assert calling.call(browser) == said
        assert calling.signed_in == 1, "it was refreshed, and nobody had to sign in"
        refreshed = calling.tokens()
        assert refreshed["access_token"] != tokens["access_token"]
        assert refreshed["refresh_token"] != tokens["refresh_token"]

        if registration == "document":
            revoked = {"kind": "grant", "id": consent(refreshed["access_token"])}
        else:
            revoked = {"kind": "user", "id": told["sub"]}
        world.authority.call("POST", "/v1/revocations", revoked)
        assert world.authority.introspect(there, refreshed["access_token"]) == {"active": False}
        answer = post(there.resource, refreshed["access_token"], "tools/list")
        if verifier == "introspection":
            assert answer.status_code == 401
        else:
            # A signature says nothing about what happened since: such a server learns of it when the token is over.
            assert answer.status_code == 200


@pytest.mark.parametrize("client", STACKS)
def test_after_a_revocation_the_person_is_asked_again(world: World, client: str) -> None:
    there = world.server("mcp", "introspection", "path")
    calling = world.client(client, "dynamic", there)
    with world.browser() as browser:
        said = calling.call(browser)
        user, _, _ = said.partition(" ")
        world.authority.call("POST", "/v1/revocations", {"kind": "user", "id": user})
        assert calling.call(browser) == said
        assert calling.signed_in == 2


# Not `mcp`: it keeps the id that it was given once, so the person ends on the page that says that it is unknown.
@pytest.mark.parametrize("client", ["fastmcp", "sdk", "v2"])
def test_a_client_whose_registration_is_gone_registers_again(world: World, client: str) -> None:
    there = world.server("mcp", "introspection", "path")
    calling = world.client(client, "dynamic", there)
    with world.browser() as browser:
        user, _, before = calling.call(browser).partition(" by ")
        world.authority.call("DELETE", f"/v1/clients/{before}")
        again, _, now = calling.call(browser).partition(" by ")
        assert (again, now != before) == (user, True)


# The two that read the answer themselves; with the others that is the caller's work.
@pytest.mark.parametrize(
    ("client", "words"),
    [("fastmcp", "Access was denied by the authorization server"), ("v2", "the person said no")],
)
def test_a_client_is_told_that_the_person_said_no(world: World, client: str, words: str) -> None:
    calling = world.client(client, "dynamic", world.server("mcp", "introspection", "path"))
    with world.browser() as browser, pytest.raises(ClientError, match=words):
        calling.call(browser, "deny")
    assert calling.tokens() == {}
