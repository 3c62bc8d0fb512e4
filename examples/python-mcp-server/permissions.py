"""What a permission covers, and which permissions an MCP message needs.

A permission is ``*``, a method, or ``method:pattern``. Patterns and names are compared in their wire form,
which is what an OAuth scope token may hold (RFC 6749 §3.3). Nothing is ever decoded, and nothing is denied by
a permission: a set covers a name only if one member does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

PERMISSION_BYTES_MAX: Final = 512
"""A longer permission cannot be granted, so no need is ever named longer than this."""

NAMED_METHODS: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
"""Methods whose permission may be narrowed by a name or a URI."""

PLAIN_METHODS: Final = frozenset(
    {
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "logging/setLevel",
        "tasks/get",
        "tasks/update",
        "tasks/cancel",
        "tasks/result",
        "tasks/list",
        "subscriptions/listen",
    }
)
"""Methods that need the permission of their own name and nothing else (a listener needs its URIs too)."""

FREE_METHODS: Final = frozenset({"initialize", "ping", "server/discover"})
"""Methods that need no permission, only an active credential; so do all notifications."""

_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
# An encoded slash or backslash (a bare backslash is encoded by now), or a control character of ASCII or Latin-1.
_UNSAFE: Final = re.compile(r"%(?:2F|5C|[01][0-9A-F]|7F|C2%[89][0-9A-F])")


@dataclass(frozen=True, slots=True)
class Need:
    """One permission that a message needs; ``name`` is absent where the method stands for itself."""

    method: str
    name: str | None = None

    def __str__(self) -> str:
        """The permission as it is written in a scope; the bare method if it is too long to be granted."""
        if self.name is None:
            return self.method
        written = f"{self.method}:{wire(self.name)}"
        return written if len(written) <= PERMISSION_BYTES_MAX else self.method


EVERYTHING: Final = Need("*")
"""What a method needs that is in no list: new ones are closed until somebody may do everything."""


def wire(name: str) -> str:
    """A name in its wire form: what a scope token may not hold, and each ``*``, is written ``%XX``.

    A ``%`` that stands there stays, so that a name with a space and one with ``%20`` are one.
    Raises ``UnicodeEncodeError`` for a lone surrogate.
    """
    return _escaped(name).replace("*", "%2A")


def covers(permission: str, need: Need) -> bool:
    """Whether one permission covers a need. A malformed permission covers nothing."""
    if permission == "*":
        return True
    method, colon, pattern = permission.partition(":")
    if method != need.method or method not in NAMED_METHODS | PLAIN_METHODS:
        return False
    if not colon:
        return True
    try:
        pattern = _escaped(pattern)
        name = None if need.name is None else wire(need.name)
    except UnicodeEncodeError:
        return False
    stem = pattern.removesuffix("*")
    if "*" in stem or not pattern:
        return False
    if pattern == "*":
        return True
    if name is None:
        return False
    if stem == pattern:
        return pattern == name
    # A URI that means another one once it is resolved must not pass by its beginning.
    return name.startswith(stem) and not (method == "resources/read" and _is_devious(name))


def allows(permissions: Iterable[str], need: Need) -> bool:
    """Whether a set of permissions covers a need."""
    return any(covers(permission, need) for permission in permissions)


def needs(message: Mapping[str, Any]) -> list[Need]:
    """What a decoded JSON-RPC message needs; empty means that an active credential is enough.

    A name that is missing or not a string asks for the whole method, so that leaving it out gains nothing.
    """
    method = message.get("method")
    if method is None:
        return []  # A response to a request of the server.
    if not isinstance(method, str):
        return [EVERYTHING]
    params = message.get("params")
    if not isinstance(params, dict):
        params = {}
    if method in FREE_METHODS or method.startswith("notifications/"):
        return []
    if method in ("tools/call", "prompts/get"):
        return [_named(method, params.get("name"))]
    if method in ("resources/read", "resources/subscribe", "resources/unsubscribe"):
        return [_named("resources/read", params.get("uri"))]
    if method == "subscriptions/listen":
        return [Need(method), *_listened(params)]
    if method == "completion/complete":
        return [_completed(params.get("ref"))]
    return [Need(method)] if method in PLAIN_METHODS else [EVERYTHING]


def _named(method: str, name: object) -> Need:
    return Need(method, name if isinstance(name, str) else None)


def _listened(params: Mapping[str, Any]) -> list[Need]:
    wanted = params.get("notifications")
    uris = wanted.get("resourceSubscriptions") if isinstance(wanted, dict) else None
    if uris is None:
        return []
    if not isinstance(uris, list):
        return [Need("resources/read")]
    return [_named("resources/read", uri) for uri in uris]


def _completed(ref: object) -> Need:
    if isinstance(ref, dict) and ref.get("type") == "ref/prompt":
        return _named("prompts/get", ref.get("name"))
    if isinstance(ref, dict) and ref.get("type") == "ref/resource":
        # A template is compared as the text it is.
        return _named("resources/read", ref.get("uri"))
    return EVERYTHING


def _escaped(text: str) -> str:
    """The wire form with each ``*`` left alone."""
    # RFC 6749 §3.3: NQCHAR without the space, the quotation mark and the backslash.
    written = (
        chr(byte) if byte == 0x21 or 0x23 <= byte <= 0x5B or 0x5D <= byte <= 0x7E else f"%{byte:02X}"
        for byte in text.encode("utf-8")
    )
    return _ESCAPE.sub(lambda escape: escape.group(0).upper(), "".join(written))


def _is_devious(uri: str) -> bool:
    """Whether a URI in wire form has a segment ``.`` or ``..``, an encoded slash or a control character."""
    if _UNSAFE.search(uri):
        return True
    path = re.split(r"[?#]", _SCHEME.sub("", uri, count=1), maxsplit=1)[0]
    return any(segment.replace("%2E", ".") in (".", "..") for segment in path.split("/"))
