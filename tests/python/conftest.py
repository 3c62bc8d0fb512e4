"""The programs that the tests share: one authority, and two example servers that rely on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from people import People, served
from support import BINARY, Authority, Example, example_server

READ_SCOPE = {
    "name": "notes:read",
    "description": "Read notes",
    "permissions": ["tools/list", "tools/call:notes_read", "resources/list", "resources/read:notes:///*"],
}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def _started() -> Iterator[Authority]:
    if not BINARY.is_file():
        pytest.fail(f"{BINARY} is missing: build it, or set MCPA_BIN", pytrace=False)
    running = Authority()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    yield from _started()


@pytest.fixture
def own_authority() -> Iterator[Authority]:
    """An authority that the test may stop, or wear out."""
    yield from _started()


@pytest.fixture(scope="session")
def people() -> Iterator[People]:
    """An authority of their own, where people sign in."""
    for running in _started():
        with served(running) as there:
            yield there


@pytest.fixture(scope="session")
def example(authority: Authority) -> Iterator[Example]:
    """The server as it is: each message needs its own permission."""
    with example_server(authority, "notes", scopes=[READ_SCOPE]) as running:
        yield running


@pytest.fixture(scope="session")
def scoped(authority: Authority) -> Iterator[Example]:
    """The server with a scope of its own that every caller must hold."""
    with example_server(authority, "scoped-notes", scopes=[READ_SCOPE], required="notes:read") as running:
        yield running
