"""The conformance suite of the MCP project, unmodified, with this authority as the authorization server."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from pathlib import Path
from typing import Final

import httpx2
import pytest

from interop.browser import Browser
from people import NODE_MODULES, NOTES, People, register, register_itself
from support import REQUEST_SECONDS_MAX, free_port

NODE: Final = NODE_MODULES / "node" / "bin" / "node"
"""Node.js of the version that the suite needs; where the package has none for a machine, the machine's own."""

SUITE: Final = NODE_MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
SUITE_SECONDS_MAX: Final = 120.0

SCENARIOS: Final = {"authorization-server-metadata-endpoint", "authorization-code-grant"}
"""All that the suite has for authorization servers; more in a newer one are to be added here."""

CHECKS: Final = {
    "authorization-server-metadata": "SUCCESS",
    "authorization-server-metadata-cimd": "SUCCESS",
    "authorization-code-grant": "SUCCESS",
}


def suite(*arguments: str) -> subprocess.Popen[str]:
    assert SUITE.is_file(), "the conformance suite is missing: run `scripts/setup test`"
    node = str(NODE) if NODE.is_file() else "node"
    return subprocess.Popen(
        [node, str(SUITE), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(people: People, client: str, port: int, results: Path) -> tuple[int, str]:
    """Runs it whole; where it asks a person to open an address, a person does, agrees and signs in."""
    running = suite(
        *["authorization", "--url", people.authority.issuer, "--client-id", client],
        *["--port", str(port), "--resource", NOTES, "--output-dir", str(results)],
    )
    stop = threading.Timer(SUITE_SECONDS_MAX, running.kill)
    stop.start()
    said = ""
    try:
        assert running.stdout is not None
        for line in running.stdout:
            said += line
            asked = re.search(rf"{re.escape(people.authority.issuer)}/authorize\?\S+", line)
            if asked:
                with people.only(people.demo), Browser(people.authority.url) as browser:
                    back = browser.visit(asked.group())
                assert back.startswith(f"http://127.0.0.1:{port}/callback?")
                httpx2.get(back, timeout=REQUEST_SECONDS_MAX, trust_env=False)
        return running.wait(), said
    finally:
        stop.cancel()
        running.kill()
        running.wait()


def test_the_suite_has_no_scenario_that_is_not_run_here() -> None:
    listed, _ = suite("list", "--authorization").communicate(timeout=SUITE_SECONDS_MAX)
    assert set(re.findall(r"^ *- ([a-z-]+)", listed, re.MULTILINE)) == SCENARIOS


@pytest.mark.parametrize("enter", [register, register_itself], ids=["registered", "dynamic"])
def test_every_check_of_the_conformance_suite_passes(people: People, tmp_path: Path, enter: object) -> None:
    assert callable(enter)
    port = free_port()
    client = enter(people.authority, "The conformance suite", f"http://127.0.0.1:{port}/callback")
    status, said = run(people, client, port, tmp_path)
    files = sorted(tmp_path.glob("*/checks.json"))
    checks = [check for file in files for check in json.loads(file.read_text())]
    assert {check["id"]: check["status"] for check in checks} == CHECKS, said
    assert len(checks) == len(CHECKS)
    assert status == 0, said
