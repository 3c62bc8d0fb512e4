"""The settings of the example, read from the environment; every mistake is named at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

LISTEN_DEFAULT = "127.0.0.1:8090"


class SettingsError(Exception):
    """One or more settings are missing or wrong; the message has a line for each."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the server needs to know."""

    issuer: str
    resource: str
    client_id: str
    client_secret: str = field(repr=False)
    host: str
    port: int
    required_scopes: tuple[str, ...]
    trusted_proxies: str

    @property
    def path(self) -> str:
        """The path below which MCP is served; it is the path of the resource."""
        return urlsplit(self.resource).path or "/"


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings, or ``SettingsError`` naming all mistakes."""
    mistakes: list[str] = []
    issuer = _url(environment, "AUTHORITY_ISSUER", mistakes)
    resource = _url(environment, "RESOURCE", mistakes)
    host, port = _listen(environment.get("LISTEN", LISTEN_DEFAULT), mistakes)
    client_id = environment.get("CLIENT_ID", "")
    if not client_id:
        mistakes.append("CLIENT_ID is not set: the id that the authority gave to this server")
    settings = Settings(
        issuer=issuer,
        resource=resource,
        client_id=client_id,
        client_secret=_secret(environment, mistakes),
        host=host,
        port=port,
        required_scopes=tuple(environment.get("REQUIRED_SCOPES", "").split()),
        trusted_proxies=environment.get("TRUSTED_PROXIES", ""),
    )
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return settings


def _url(environment: Mapping[str, str], name: str, mistakes: list[str]) -> str:
    value = environment.get(name, "")
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        mistakes.append(f"{name} is not a URL")
        return value
    if not value:
        mistakes.append(f"{name} is not set")
    elif parts.query or parts.fragment or parts.username or not parts.hostname:
        mistakes.append(f"{name} must be a URL without user, query and fragment")
    elif name == "AUTHORITY_ISSUER" and value.endswith("/"):
        # Issuers are compared letter by letter.
        mistakes.append(f"{name} must not end with a slash")
    elif parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts)):
        # Credentials travel there; plain http is for this machine only.
        mistakes.append(f"{name} must begin with https:// (http:// only for loopback)")
    return value


def _is_loopback(parts: SplitResult) -> bool:
    try:
        return parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def _listen(value: str, mistakes: list[str]) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        mistakes.append(f"LISTEN must be an address and a port, such as {LISTEN_DEFAULT}")
        return "", 0
    return host.strip("[]"), int(port)


def _secret(environment: Mapping[str, str], mistakes: list[str]) -> str:
    value, file = environment.get("CLIENT_SECRET", ""), environment.get("CLIENT_SECRET_FILE", "")
    if bool(value) == bool(file):
        mistakes.append("set one of CLIENT_SECRET and CLIENT_SECRET_FILE")
        return ""
    if value:
        return value
    try:
        value = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as cause:
        mistakes.append(f"CLIENT_SECRET_FILE cannot be read ({type(cause).__name__})")
        return ""
    if not value:
        mistakes.append("CLIENT_SECRET_FILE is empty")
    return value
