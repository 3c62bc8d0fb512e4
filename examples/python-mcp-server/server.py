"""An MCP server that keeps notes in memory and lets the authority decide who may do what with them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

import anyio
import httpx2
import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.routes import build_resource_metadata_url
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import Prompt, Resource, ResourceTemplate, Tool
from pydantic import AnyHttpUrl, Field
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from authority import ANSWER_SECONDS_MAX, CONNECTIONS_MAX, IntrospectionVerifier
from guard import BODY_BYTES_MAX, AuthorityGate, PermissionGuard
from permissions import Need, allows
from settings import Settings, SettingsError, load
from watch import Watch

NOTES_MAX: Final = 1_000
"""Notes that are kept; writing one more is refused."""

NOTE_CHARS_MAX: Final = 10_000
"""The longest note."""

WAIT_SECONDS_MAX: Final = 600
"""The longest wait for a note."""

WAIT_STEP_SECONDS: Final = 0.5
"""How often a caller who waits is told so."""

REQUESTS_MAX: Final = 256
"""Requests served at a time; more are answered 503."""

STOP_SECONDS: Final = 5
"""How long running requests may go on when the server is told to stop."""

HEALTH_PATH: Final = "/health"

NoteId = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$", description="Lower-case letters, digits and dashes.")]
WaitSeconds = Annotated[int, Field(ge=1, le=WAIT_SECONDS_MAX)]
NoteText = Annotated[str, Field(max_length=NOTE_CHARS_MAX)]


class Notes:
    """Notes by id. They are gone when the process ends, and shared by all who may see them."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def ids(self) -> list[str]:
        """All ids, sorted."""
        return sorted(self._texts)

    def read(self, note: str) -> str | None:
        """The text, if there is such a note."""
        return self._texts.get(note)

    def write(self, note: str, text: str) -> bool:
        """Makes or replaces a note; false if there are too many."""
        if note not in self._texts and len(self._texts) >= NOTES_MAX:
            return False
        self._texts[note] = text
        return True

    def delete(self, note: str) -> bool:
        """Forgets a note; false if there was none."""
        return self._texts.pop(note, None) is not None


class NotesServer(MCPServer[None]):
    """Lists show a caller only what the same caller may use; ``PermissionGuard`` refuses the rest anyway."""

    def __init__(self, notes: Notes, auth: AuthSettings, verifier: IntrospectionVerifier) -> None:
        # Nobody is told of changed notes, so there is nothing to subscribe to.
        super().__init__("notes", version="1.0.0", auth=auth, token_verifier=verifier, subscriptions=False)
        self._notes = notes

    async def list_tools(self) -> list[Tool]:
        """The tools that this caller may call."""
        return [tool for tool in await super().list_tools() if _may("tools/call", tool.name)]

    async def list_prompts(self) -> list[Prompt]:
        """The prompts that this caller may get."""
        return [prompt for prompt in await super().list_prompts() if _may("prompts/get", prompt.name)]

    async def list_resources(self) -> list[Resource]:
        """The notes that this caller may read."""
        uris = {note: f"notes:///{note}" for note in self._notes.ids()}
        return [
            Resource(uri=uri, name=note, mime_type="text/plain")
            for note, uri in uris.items()
            if _may("resources/read", uri)
        ]

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """The templates whose text this caller may read."""
        templates = await super().list_resource_templates()
        return [template for template in templates if _may("resources/read", template.uri_template)]


def _may(method: str, name: str) -> bool:
    token = get_access_token()
    permissions = (token.claims or {}).get("permissions", []) if token else []
    return allows(permissions, Need(method, name))


def _offer_notes(server: NotesServer, notes: Notes) -> None:
    """Registers the tools, the resource template and the prompt. None of them knows about permissions."""

    @server.tool()
    async def notes_read(note: NoteId) -> str:
        """Gives the text of a note."""
        text = notes.read(note)
        if text is None:
            raise ToolError(f"there is no note {note}")
        return text

    @server.tool()
    async def notes_write(note: NoteId, text: NoteText) -> str:
        """Makes a note, or replaces its text."""
        if not notes.write(note, text):
            raise ToolError(f"there are {NOTES_MAX} notes already")
        return f"notes:///{note}"

    @server.tool()
    async def notes_wait(note: NoteId, context: Context[Any, Any], seconds: WaitSeconds = 60) -> str:
        """Waits until there is a note, and gives its text; meanwhile it reports that it waits."""
        for step in range(int(seconds / WAIT_STEP_SECONDS)):
            text = notes.read(note)
            if text is not None:
                return text
            await context.report_progress(step, message=f"there is no note {note} yet")
            await anyio.sleep(WAIT_STEP_SECONDS)
        raise ToolError(f"there was no note {note} within {seconds} s")

    @server.tool()
    async def notes_delete(note: NoteId) -> bool:
        """Deletes a note; false if there was none."""
        return notes.delete(note)

    @server.resource("notes:///{note}", mime_type="text/plain")
    async def note_text(note: str) -> str:
        """The text of one note."""
        text = notes.read(note)
        if text is None:
            raise ResourceError(f"there is no note {note}")
        return text

    @server.prompt()
    async def summarise_note(note: str) -> str:
        """Asks for a summary of one note."""
        return f"Read the resource notes:///{note} and summarise it in three sentences."


def application(settings: Settings) -> Starlette:
    """The whole ASGI application."""
    client = httpx2.AsyncClient(
        auth=httpx2.BasicAuth(settings.client_id, settings.client_secret),
        timeout=ANSWER_SECONDS_MAX,
        limits=httpx2.Limits(max_connections=CONNECTIONS_MAX),
        follow_redirects=False,
        # Credentials go to the authority only, never through a proxy that the environment names.
        trust_env=False,
    )
    notes = Notes()
    auth = AuthSettings.model_validate(
        {
            "issuer_url": settings.issuer,
            "resource_server_url": settings.resource,
            "required_scopes": list(settings.required_scopes) or None,
            "validate_token_resource": True,
        }
    )
    verifier = IntrospectionVerifier(settings.issuer, settings.resource, client)
    watch = Watch(settings.issuer, verifier, client)
    server = NotesServer(notes, auth, verifier)
    _offer_notes(server, notes)

    metadata_url = build_resource_metadata_url(AnyHttpUrl(settings.resource))
    app = server.streamable_http_app(
        streamable_http_path=settings.path,
        # Replies are streams of events, so that a tool can report how far it is.
        json_response=False,
        # No sessions, also for 2025-11-25: each request is checked by itself.
        stateless_http=True,
        max_request_body_size=BODY_BYTES_MAX,
        transport_security=_transport_security(settings),
    )
    public_paths = [metadata_url.path or "/", HEALTH_PATH]
    # Outermost first; the SDK's own authentication is between the two.
    app.user_middleware.insert(0, Middleware(AuthorityGate, watch=watch))
    app.user_middleware.append(
        Middleware(
            PermissionGuard,
            watch=watch,
            public_paths=public_paths,
            required_scopes=settings.required_scopes,
            metadata_url=str(metadata_url),
        )
    )
    app.router.routes.append(Route(HEALTH_PATH, _health, methods=["GET"]))
    _run_with(app, client, watch)
    return app


async def _health(_: Request) -> Response:
    return PlainTextResponse("ok\n")


def _transport_security(settings: Settings) -> TransportSecuritySettings:
    """Only requests that name this server, and no web page of another origin (DNS rebinding)."""
    scheme, _, rest = settings.resource.partition("://")
    authority = rest.partition("/")[0]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[authority],
        allowed_origins=[f"{scheme}://{authority}"],
    )


def _run_with(app: Starlette, client: httpx2.AsyncClient, watch: Watch) -> None:
    """Follows the authority's stream as long as the application runs, and closes the connections to it then."""
    serve = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(running: Starlette) -> AsyncIterator[None]:
        async with client, serve(running), anyio.create_task_group() as tasks:
            tasks.start_soon(watch.run)
            yield
            tasks.cancel_scope.cancel()

    app.router.lifespan_context = lifespan


def main() -> int:
    """Serves until it is told to stop; 2 if the settings are wrong."""
    try:
        settings = load()
    except SettingsError as mistakes:
        print(mistakes, file=sys.stderr)
        return 2
    uvicorn.run(
        application(settings),
        host=settings.host,
        port=settings.port,
        # Whoever may set the caller's address may pass address lists; nobody may unless said.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        limit_concurrency=REQUESTS_MAX,
        timeout_graceful_shutdown=STOP_SECONDS,
        server_header=False,
        log_level="info",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
