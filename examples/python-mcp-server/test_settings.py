"""Wrong settings stop the start, all at once, and a secret is shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from settings import SettingsError, load

GOOD = {
    "AUTHORITY_ISSUER": "https://authority.example.com/oauth",
    "RESOURCE": "https://notes.example.com/mcp",
    "CLIENT_ID": "srv_1",
    "CLIENT_SECRET": "very-secret",
}


def test_good_settings_are_taken() -> None:
    settings = load({**GOOD, "LISTEN": "[::1]:9000", "REQUIRED_SCOPES": "notes:read  notes:write"})
    assert (settings.host, settings.port, settings.path) == ("::1", 9000, "/mcp")
    assert settings.required_scopes == ("notes:read", "notes:write")
    assert "very-secret" not in repr(settings)


def test_the_secret_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("very-secret\n")
    settings = load({**GOOD, "CLIENT_SECRET": "", "CLIENT_SECRET_FILE": str(file)})
    assert settings.client_secret == "very-secret"


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as mistakes:
        load({"LISTEN": "nowhere"})
    for name in ("AUTHORITY_ISSUER", "RESOURCE", "CLIENT_ID", "CLIENT_SECRET", "LISTEN"):
        assert name in str(mistakes.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTHORITY_ISSUER", "http://authority.example.com/oauth"),
        ("AUTHORITY_ISSUER", "https://authority.example.com/oauth/"),
        ("AUTHORITY_ISSUER", "https://[bad/oauth"),
        ("RESOURCE", "http://10.0.0.1/mcp"),
        ("RESOURCE", "https://notes.example.com/mcp?x=1"),
        ("RESOURCE", "https://user@notes.example.com/mcp"),
        ("RESOURCE", "notes"),
        ("LISTEN", "127.0.0.1:0"),
        ("LISTEN", "127.0.0.1:99999"),
        ("CLIENT_SECRET_FILE", "/nonexistent"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load({**GOOD, name: value})
