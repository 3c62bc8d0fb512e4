"""The rules of permissions as tables: what covers what, what a message needs, and the wire form."""

from __future__ import annotations

from typing import Any

import pytest

from permissions import EVERYTHING, Need, allows, covers, needs, wire


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("search_files", "search_files"),
        ("Größe prüfen", "Gr%C3%B6%C3%9Fe%20pr%C3%BCfen"),
        ("a b", "a%20b"),
        ("a%20b", "a%20b"),
        ("a%2fb", "a%2Fb"),
        ("100%", "100%"),
        ("50%zz", "50%zz"),
        ("%25", "%25"),
        ("a*b*", "a%2Ab%2A"),
        ('"\\', "%22%5C"),
        ("!#[]~", "!#[]~"),
        ("a,b:c", "a,b:c"),
        ("\x00\t\x7f", "%00%09%7F"),
        ("", ""),
    ],
)
def test_the_wire_form_of_a_name(name: str, written: str) -> None:
    assert wire(name) == written
    assert wire(written) == written, "bringing a name into the wire form twice changes nothing"


@pytest.mark.parametrize(
    ("permission", "method", "name", "covered"),
    [
        ("*", "tools/call", "x", True),
        ("*", "*", None, True),
        ("tools/call", "tools/call", "x", True),
        ("tools/call", "tools/call", None, True),
        ("tools/call:*", "tools/call", "x", True),
        ("tools/call:*", "tools/call", None, True),
        ("tools/call:*", "tools/call", "", True),
        ("tools/call:x", "tools/call", "x", True),
        ("tools/call:x", "tools/call", "X", False),
        ("tools/call:x", "tools/call", "xy", False),
        ("tools/call:x", "tools/call", None, False),
        ("tools/call:x", "prompts/get", "x", False),
        ("tools/call:search_*", "tools/call", "search_", True),
        ("tools/call:search_*", "tools/call", "search_a/b", True),
        ("tools/call:search_*", "tools/call", "find_a", False),
        ("tools/call:search_*", "tools/call", None, False),
        ("tools/list", "tools/list", None, True),
        ("tools/list:*", "tools/list", None, True),
        ("tools/list:x", "tools/list", None, False),
        # Malformed permissions cover nothing.
        ("", "tools/call", "x", False),
        ("tools/*", "tools/call", "x", False),
        ("tools/call:", "tools/call", "", False),
        ("tools/call:a*b", "tools/call", "a*b", False),
        ("tools/call:**", "tools/call", "x", False),
        ("tool/call", "tool/call", "x", False),
        ("TOOLS/CALL", "tools/call", "x", False),
        # A star that belongs to a name is not a wildcard.
        ("tools/call:a%2A", "tools/call", "a*", True),
        ("tools/call:a%2a", "tools/call", "a*", True),
        ("tools/call:a%2A", "tools/call", "ab", False),
        # Patterns may be typed in any form.
        ("tools/call:Größe prüfen", "tools/call", "Größe prüfen", True),
        ("tools/call:Gr%C3%B6%C3%9Fe%20pr%C3%BCfen", "tools/call", "Größe prüfen", True),
        ("tools/call:a%20b", "tools/call", "a b", True),
        ("tools/call:a b", "tools/call", "a%20b", True),
        ("tools/call:a%2520b", "tools/call", "a b", False),
        # A name begins after the first colon.
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/a/b.txt", True),
        ("resources/read:file:///docs/*", "resources/read", "file:///etc/passwd", False),
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/..a/.b", True),
        # A URI that means another one passes only by its own name, the bare method or a star.
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/../etc", False),
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/./a", False),
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/a/..", False),
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/%2e%2E/etc", False),
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/.%2e/etc", False),
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/..%2fetc", False),
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/a%5Cb", False),
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/a\\b", False),
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/a\nb", False),
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/a%00", False),
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/a\x85", False),
        ("resources/read:file:///docs/*", "resources/read", "file:///docs/a?x=/../y", True),
        ("resources/read:file:///docs/../etc", "resources/read", "file:///docs/../etc", True),
        ("resources/read", "resources/read", "file:///docs/../etc", True),
        ("resources/read:*", "resources/read", "file:///docs/../etc", True),
        ("*", "resources/read", "file:///docs/../etc", True),
        ("resources/read:notes:*", "resources/read", "notes:..", False),
        # Names of tools are not URIs.
        ("tools/call:a/*", "tools/call", "a/../b", True),
        # What has no wire form is never covered by name.
        ("tools/call:a*", "tools/call", "a\ud800", False),
    ],
)
def test_what_a_permission_covers(permission: str, method: str, name: str | None, covered: bool) -> None:
    assert covers(permission, Need(method, name)) is covered


def test_a_set_covers_what_one_member_covers() -> None:
    assert allows(["tools/list", "tools/call:a"], Need("tools/call", "a"))
    assert not allows(["tools/list", "tools/call:a"], Need("tools/call", "b"))
    assert not allows([], Need("tools/list"))


@pytest.mark.parametrize(
    ("method", "params", "needed"),
    [
        ("initialize", {}, []),
        ("ping", None, []),
        ("server/discover", {}, []),
        ("notifications/cancelled", {}, []),
        ("tools/list", {}, [Need("tools/list")]),
        ("resources/templates/list", {}, [Need("resources/templates/list")]),
        ("logging/setLevel", {"level": "debug"}, [Need("logging/setLevel")]),
        ("tasks/get", {"taskId": "1"}, [Need("tasks/get")]),
        ("tools/call", {"name": "a"}, [Need("tools/call", "a")]),
        ("tools/call", {}, [Need("tools/call")]),
        ("tools/call", {"name": 7}, [Need("tools/call")]),
        ("tools/call", ["a"], [Need("tools/call")]),
        ("prompts/get", {"name": "p"}, [Need("prompts/get", "p")]),
        ("resources/read", {"uri": "u:1"}, [Need("resources/read", "u:1")]),
        ("resources/subscribe", {"uri": "u:1"}, [Need("resources/read", "u:1")]),
        ("resources/unsubscribe", {"uri": "u:1"}, [Need("resources/read", "u:1")]),
        ("subscriptions/listen", {"notifications": {}}, [Need("subscriptions/listen")]),
        (
            "subscriptions/listen",
            {"notifications": {"resourceSubscriptions": ["u:1", "u:2"]}},
            [Need("subscriptions/listen"), Need("resources/read", "u:1"), Need("resources/read", "u:2")],
        ),
        (
            "subscriptions/listen",
            {"notifications": {"resourceSubscriptions": "u:1"}},
            [Need("subscriptions/listen"), Need("resources/read")],
        ),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "p"}}, [Need("prompts/get", "p")]),
        (
            "completion/complete",
            {"ref": {"type": "ref/resource", "uri": "file:///{path}"}},
            [Need("resources/read", "file:///{path}")],
        ),
        ("completion/complete", {"ref": {"type": "ref/new"}}, [EVERYTHING]),
        ("completion/complete", {}, [EVERYTHING]),
        ("sampling/createMessage", {}, [EVERYTHING]),
        ("tools/Call", {"name": "a"}, [EVERYTHING]),
        ("", {}, [EVERYTHING]),
        (7, {}, [EVERYTHING]),
    ],
)
def test_what_a_message_needs(method: object, params: Any, needed: list[Need]) -> None:
    assert needs({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) == needed


def test_a_response_needs_nothing_but_an_active_credential() -> None:
    assert needs({"jsonrpc": "2.0", "id": 1, "result": {}}) == []


def test_a_template_is_covered_as_the_text_it_is() -> None:
    assert covers("resources/read:file:///*", Need("resources/read", "file:///{path}"))


def test_a_need_is_written_as_a_scope() -> None:
    assert str(Need("tools/list")) == "tools/list"
    assert str(Need("tools/call", 'a "b"*')) == "tools/call:a%20%22b%22%2A"
    assert str(Need("tools/call", "a" * 512)) == "tools/call"
    assert str(EVERYTHING) == "*"
