"""Fills a database by a release's own binary over HTTP, and dumps it for the test of upgrades.

    tests/upgrade/fill.py BINARY PG_DUMP VERSION

writes VERSION.dump and VERSION.json beside this file. Everything secret in them was made for this test and opens nothing
else. What the JSON file says of each credential was written by hand below; the release had to say the same.
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).parent
BINARY, PG_DUMP, VERSION = sys.argv[1:4]
PORT = 18_471
URL = f"http://127.0.0.1:{PORT}"
# Two keys, newest first: what was made under the older one must still open.
OLDER, NEWER = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
PATIENCE = 60
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105


def send(method: str, path: str, headers: dict[str, str], body: bytes | None) -> tuple[int, dict]:
    """Sends one request; the reply's status and JSON."""
    request = urllib.request.Request(URL + path, body, headers, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:  # noqa: S310
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read() or b"{}")


def form(path: str, user: str, secret: str, **fields: str) -> tuple[int, dict]:
    """Posts a form, authenticated by Basic if there is a user."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()
    return send("POST", path, headers, urllib.parse.urlencode(fields).encode())


class Story:
    """What is made, and what each credential must answer."""

    def __init__(self, operator: str) -> None:
        self.operator = operator
        self.servers: dict[str, dict] = {}
        self.credentials: list[dict] = []

    def call(self, method: str, path: str, body: dict | None = None, status: int = 200, by: str = "") -> dict:
        headers = {"Authorization": f"Bearer {by or self.operator}", "Content-Type": "application/json"}
        found, reply = send(method, path, headers, None if body is None else json.dumps(body).encode())
        assert found == status, (method, path, found, reply)
        return reply

    def make(self, what: str, **body: object) -> dict:
        return self.call("POST", f"/v1/{what}", body, 201)

    def server(self, name: str, **more: object) -> dict:
        made = self.make("servers", name=name, resource=f"https://{name}.example.com/mcp", **more)
        self.servers[name] = {"id": made["id"], "secret": made["client_secret"], "resource": made["resource"]}
        return made

    def key(self, agent: dict, grants: dict[str, list[str]], **more: object) -> dict:
        grants_ = [{"server_id": self.servers[name]["id"], "permissions": held} for name, held in grants.items()]
        return self.make("keys", agent_id=agent["id"], **{"environment": "prod", "grants": grants_, **more})

    def token(self, key: dict, server: str, **fields: str) -> str:
        fields = {"grant_type": "client_credentials", "resource": self.servers[server]["resource"], **fields}
        status, reply = form("/oauth/token", key["id"], key["key"], **fields)
        assert status == 200, reply
        return reply["access_token"]

    def exchange(self, token: str, by: dict | None = None, **fields: str) -> str:
        fields = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN, **fields}
        status, reply = form("/oauth/token", by["id"] if by else "", by["key"] if by else "", **fields)
        assert status == 200, reply
        return reply["access_token"]

    def expect(self, what: str, token: str, *active: str, **fields: str) -> None:
        """Notes that a credential is active at these servers and at no other."""
        self.credentials.append({"what": what, "token": token, "fields": fields, "active": list(active)})

    def revoke(self, kind: str, id_: str | None = None, **more: str) -> dict:
        return self.make("revocations", kind=kind, **({"id": id_} if id_ else {}), **more)

    def answers(self) -> None:
        """Asks every server about every credential, and keeps the whole answers."""
        for credential in self.credentials:
            credential["answers"] = {}
            for name, server in self.servers.items():
                fields = {"token": credential["token"], **credential["fields"]}
                status, reply = form("/oauth/introspect", server["id"], server["secret"], **fields)
                expected = (401, None) if name == "retired" else (200, name in credential["active"])
                assert (status, reply.get("active")) == expected, (credential["what"], name, status, reply)
                credential["answers"][name] = {"status": status, "body": reply}


def scene(story: Story) -> None:
    """Projects, servers, a role."""
    story.call("PATCH", "/v1/settings", {"session_ttl_seconds": 3600})
    story.make("projects", name="finance", hosts=["*.example.com"])
    scopes = [{"name": "docs:read", "description": "Read the documents", "permissions": ["resources/read:file:///docs/*"]}]
    story.server("files", scopes=scopes)
    story.server("mail")
    story.server("ledger", project="finance")
    story.server("sandbox", environment="dev")
    story.server("retired")


def first_generation(story: Story) -> None:
    """What dies of the wide cut-offs, before anything else is made."""
    agent = story.make("agents", name="early")
    key = story.key(agent, {"files": ["tools/call"]})
    story.expect("a token from before everything was cut off", story.token(key, "files"))
    story.revoke("all", reason="drill")
    story.expect("a token signed by a key that was stolen", story.token(key, "files"))
    header = story.credentials[-1]["token"].split(".")[0]
    kid = json.loads(base64.urlsafe_b64decode(header + "=="))["kid"]
    story.revoke("signing_key", kid, reason="stolen")
    story.expect("a key that is older than the cut-offs", key["key"], "files")
    story.expect("a token of that key, issued later", story.token(key, "files"), "files")


def keys(story: Story) -> None:
    """Keys in every state."""
    agent = story.make("agents", name="researcher", owner="research@example.com")
    plain = story.key(agent, {"files": ["tools/call:search_*", "resources/read:file:///docs/*"]}, name="plain")
    story.expect("a key", plain["key"], "files")
    story.expect("its token", story.token(plain, "files"), "files")
    story.expect("its narrowed token", story.token(plain, "files", scope="docs:read"), "files")
    role = story.make("roles", name="reader", grants=[
        {"server_id": story.servers["mail"]["id"], "permissions": ["resources/read", "tools/list"]}])
    both = story.key(agent, {"files": ["tools/call"]}, roles=[role["id"]], direct=False)
    story.expect("a key with a role, not direct", both["key"])
    story.expect("its token by a grant", story.token(both, "files"), "files")
    story.expect("its token by the role", story.token(both, "mail"), "mail")
    story.call("PATCH", f"/v1/roles/{role['id']}", {"grants": [
        {"server_id": story.servers["mail"]["id"], "permissions": ["tools/list"]}]})
    overlap = story.key(agent, {"files": ["*"]}, self_rotation=True)
    story.expect("a rotated key's old secret, in the overlap", overlap["key"], "files")
    story.expect("a token of the old secret", story.token(overlap, "files"), "files")
    newer = story.call("POST", f"/v1/keys/{overlap['id']}/rotate", {"grace_seconds": 86_400})
    story.expect("a rotated key's new secret", newer["key"], "files")
    ended = story.key(agent, {"files": ["*"]})
    story.expect("a secret that was rotated away", ended["key"])
    newer = story.call("POST", f"/v1/keys/{ended['id']}/rotate", {"grace_seconds": 0})
    story.expect("what replaced it", newer["key"], "files")
    disabled = story.key(agent, {"files": ["*"]}, name="disabled")
    story.expect("a disabled key", disabled["key"])
    story.expect("a token of a disabled key", story.token(disabled, "files"))
    story.call("PATCH", f"/v1/keys/{disabled['id']}", {"disabled": True})
    again = story.key(agent, {"files": ["*"]})
    story.expect("a token from before its key was disabled", story.token(again, "files"))
    story.call("PATCH", f"/v1/keys/{again['id']}", {"disabled": True})
    story.call("PATCH", f"/v1/keys/{again['id']}", {"disabled": False})
    story.expect("a key that was disabled and enabled", again["key"], "files")
    story.expect("its token from after that", story.token(again, "files"), "files")
    dead = story.key(agent, {"files": ["*"]}, name="dead")
    story.expect("a revoked key", dead["key"])
    story.expect("a token of a revoked key", story.token(dead, "files"))
    story.call("POST", f"/v1/keys/{dead['id']}/revoke", {"reason": "leaked"})
    listed = story.key(agent, {"files": ["tools/call"]}, allowed_cidrs=["192.0.2.0/24", "2001:db8::/32"])
    story.expect("a key from an address of its list", listed["key"], "files", client_ip="192.0.2.7")
    story.expect("a key from another address", listed["key"], client_ip="198.51.100.7")
    story.expect("a key from nowhere", listed["key"])
    dev = story.key(agent, {"sandbox": ["*"]}, environment="dev")
    story.expect("a development key", dev["key"], "sandbox")
    story.expect("its token", story.token(dev, "sandbox"), "sandbox")
    narrowed = story.key(agent, {"files": ["tools/call", "tools/list"]})
    story.expect("a token whose key lost a permission", story.token(narrowed, "files"), "files")
    story.call("PATCH", f"/v1/keys/{narrowed['id']}", {"grants": [
        {"server_id": story.servers["files"]["id"], "permissions": ["tools/list"]}]})
    held = {"server_id": story.servers["retired"]["id"], "permissions": ["*"]}
    retired = story.make("keys", agent_id=agent["id"], environment="prod", grants=[held])
    story.expect("a key of a disabled server", retired["key"])
    story.call("PATCH", f"/v1/servers/{held['server_id']}", {"disabled": True})


def sessions(story: Story) -> None:
    """Tokens, exchanges, and what ends them."""
    agent, other = story.make("agents", name="clerk"), story.make("agents", name="helper")
    key = story.key(agent, {"mail": ["tools/call", "tools/list"]})
    helper = story.key(other, {"mail": ["tools/call"]})
    parent = story.token(key, "mail")
    story.expect("a token", parent, "mail")
    story.expect("a smaller one made of it", story.exchange(parent, scope="tools/list"), "mail")
    story.expect("one with an actor", story.exchange(parent, by=helper), "mail")
    doomed = story.token(key, "mail")
    child = story.exchange(doomed)
    story.expect("a revoked token", doomed)
    story.expect("what was made of a revoked token", child)
    jti = json.loads(base64.urlsafe_b64decode(doomed.split(".")[1] + "=="))["jti"]
    story.call("POST", f"/v1/sessions/{jti}/revoke", {})
    returned = story.token(key, "mail")
    story.expect("a token that its server revoked", returned)
    revoke_form(story.servers["mail"], returned)
    cut = story.make("agents", name="cut")
    key = story.key(cut, {"mail": ["tools/call"]})
    story.expect("a token from before its agent was cut off", story.token(key, "mail"))
    story.revoke("agent", cut["id"], reason="strange calls")
    story.expect("the key of that agent", key["key"], "mail")
    story.expect("a token from after it", story.token(key, "mail"), "mail")
    off = story.make("agents", name="off")
    key = story.key(off, {"mail": ["tools/call"]})
    story.expect("a key of a disabled agent", key["key"])
    story.expect("a token of a disabled agent", story.token(key, "mail"))
    story.call("PATCH", f"/v1/agents/{off['id']}", {"disabled": True})
    money = story.make("agents", name="bookkeeper", project="finance")
    key = story.key(money, {"ledger": ["tools/call"]})
    story.expect("a token from before its project was cut off", story.token(key, "ledger"))
    story.revoke("project", "finance")
    story.expect("a token from before its server was cut off", story.token(key, "ledger"))
    story.revoke("server", story.servers["ledger"]["id"])
    story.expect("a key of that project", key["key"], "ledger")
    story.expect("a token from after both", story.token(key, "ledger"), "ledger")


def revoke_form(server: dict, token: str) -> None:
    """`/oauth/revoke` by a server; its reply is empty."""
    basic = base64.b64encode(f"{server['id']}:{server['secret']}".encode()).decode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Basic {basic}"}
    body = urllib.parse.urlencode({"token": token}).encode()
    request = urllib.request.Request(URL + "/oauth/revoke", body, headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=PATIENCE) as reply:  # noqa: S310
        assert reply.status == 200


def operators(story: Story) -> list[dict]:
    """Operators, each with a read that it may make and the status that it must get."""
    found = []

    def note(what: str, key: str, status: int, path: str = "/v1/keys") -> None:
        found.append({"what": what, "key": key, "path": path, "status": status})

    narrow = story.make("operators", name="reader", scopes=["keys:read"], projects=["finance"])
    note("a narrow operator", narrow["key"], 200)
    note("a narrow operator, beyond its scopes", narrow["key"], 403, "/v1/servers")
    rotated = story.make("operators", name="rotated", scopes=["keys:read"])
    newer = story.call("POST", f"/v1/operators/{rotated['id']}/rotate", {"grace_seconds": 0})
    note("an operator's secret that was rotated away", rotated["key"], 401)
    note("what replaced it", newer["key"], 200)
    gone = story.make("operators", name="gone", scopes=["keys:read"])
    story.call("POST", f"/v1/operators/{gone['id']}/revoke", {})
    note("a revoked operator", gone["key"], 401)
    listed = story.make("operators", name="elsewhere", scopes=["keys:read"], allowed_cidrs=["192.0.2.0/24"])
    note("an operator from an address that it may not use", listed["key"], 401)
    note("the first operator", story.operator, 200)
    for entry in found:
        story.call("GET", entry["path"], status=entry["status"], by=entry["key"])
    return found


def listed(story: Story, what: str, *members: str) -> list[dict]:
    """All things of a list, with these members."""
    found, cursor = [], ""
    while True:
        page = story.call("GET", f"/v1/{what}?limit=200{cursor}")
        found += [{name: item[name] for name in members if name in item} for item in page["items"]]
        if "next_cursor" not in page:
            return found
        cursor = "&cursor=" + urllib.parse.quote(page["next_cursor"])


def until_ready(service: subprocess.Popen) -> None:
    """Waits until the service answers."""
    for _ in range(PATIENCE * 10):
        assert service.poll() is None
        try:
            if send("GET", "/health/ready", {}, None)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError("not ready")


def serve(data: pathlib.Path, secret_keys: str) -> subprocess.Popen:
    """Starts the release on its private PostgreSQL."""
    env = {"PATH": os.environ["PATH"], "MCPA_DATA_DIR": str(data), "MCPA_SECRET_KEYS": secret_keys,
           "MCPA_LISTEN": f"127.0.0.1:{PORT}", "MCPA_METRICS_LISTEN": "off", "MCPA_PUBLIC_URL": "http://localhost:8080"}
    service = subprocess.Popen([BINARY, "serve"], env=env, stdout=subprocess.DEVNULL)  # noqa: S603
    until_ready(service)
    return service


def stop(service: subprocess.Popen) -> None:
    """Ends it as an init system would."""
    service.terminate()
    service.wait(PATIENCE)


def wait_for_checkpoint(story: Story, number: int) -> None:
    """One more change, and the checkpoint that covers it."""
    before = len(story.call("GET", "/v1/audit/checkpoints")["items"])
    story.make("agents", name=f"before checkpoint {number}")
    for _ in range(PATIENCE * 2):
        if len(story.call("GET", "/v1/audit/checkpoints")["items"]) > before:
            return
        time.sleep(0.5)
    raise AssertionError("no checkpoint")


def connection(data: pathlib.Path) -> tuple[list[str], dict[str, str]]:
    """How to reach the database of the running service: arguments and environment of PostgreSQL's programs."""
    lines = (data / "cluster" / "postmaster.pid").read_text().splitlines()
    password = (data / "postgres.password").read_text().strip()
    # Beside the cluster when the path is short enough, else elsewhere.
    arguments = ["-h", str(data / "cluster" / lines[4]), "-p", lines[3], "-U", "authority", "-d", "authority"]
    return arguments, {"PATH": os.environ["PATH"], "PGPASSWORD": password}


def main() -> None:
    """Fills, checks, dumps."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103
        data = pathlib.Path(folder) / "data"
        service = serve(data, OLDER)
        story = Story((data / "operator.key").read_text().strip())
        scene(story)
        first_generation(story)
        stop(service)
        service = serve(data, f"{NEWER},{OLDER}")
        keys(story)
        sessions(story)
        found = operators(story)
        # A checkpoint covers what happened; more follow it.
        for number in range(2):
            wait_for_checkpoint(story, number)
        story.make("agents", name="after the checkpoints")
        story.answers()
        told = {
            "what": f"secrets of a test: the database beside this file was filled by {VERSION} for the test of upgrades",
            "test_secret_keys": f"{NEWER},{OLDER}",
            "servers": story.servers,
            "operators": found,
            "credentials": story.credentials,
            "keys": listed(story, "keys", "id", "status", "name", "expires_at", "agent_id", "direct"),
            "sessions": listed(story, "sessions", "id", "status", "agent_id", "key_id", "server_id", "permissions",
                               "issued_at", "expires_at"),
            "revocations": listed(story, "revocations", "id", "kind", "target", "reason", "sequence", "at"),
            "agents": listed(story, "agents", "id", "name", "status", "disabled", "project"),
            "settings": story.call("GET", "/v1/settings"),
        }
        # What is written behind is written when the service stops.
        arguments, environment = connection(data)
        dumped = subprocess.run(  # noqa: S603
            [PG_DUMP, "--no-owner", "--no-privileges", "--inserts", "--rows-per-insert=100", *arguments],
            env=environment, check=True, capture_output=True, text=True).stdout
        told["dumped_at"] = int(time.time())
        stop(service)
    # Lines of the client psql; the test has none.
    lines = [line for line in dumped.splitlines() if not line.startswith("\\")]
    (HERE / f"{VERSION}.dump").write_text("\n".join(lines) + "\n")
    (HERE / f"{VERSION}.json").write_text(json.dumps(told, indent=1) + "\n")


main()
