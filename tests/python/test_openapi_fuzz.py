"""Every route of the OpenAPI description is fuzzed as an operator: the service does what its description says.

Nothing is excluded. The seed is fixed and printed; `FUZZ_SEED` and `FUZZ_EXAMPLES` choose others for a longer run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, Final

from support import Authority

SEED: Final = int(os.environ.get("FUZZ_SEED", "20260728"))

EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "50"))
"""Generated cases of each operation, boundary values and chains of calls not counted in."""

BY_ID: Final = 5
"""Cases of an operation that takes nothing but an id."""

FUZZ_SECONDS_MAX: Final = 1_800
"""Past this the run is stopped, and that is a failure."""

REQUEST_SECONDS_MAX: Final = 15

CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)

# The key is taken from the environment, so that it stands in no list of processes and in no file.
CONFIGURATION: Final = '[headers]\nAuthorization = "Bearer ${MCPA_FUZZ_KEY}"\n'

METHODS: Final = ("get", "put", "post", "delete", "patch")


NOUNS: Final = (
    "projects",
    "servers",
    "agents",
    "keys",
    "roles",
    "clients",
    "sessions",
    "revocations",
    "audit",
    "nodes",
    "settings",
)


def test_the_service_does_what_its_description_says(own_authority: Authority, tmp_path: Path) -> None:
    # This operator may do everything but change operators: a run that takes its own key away would show nothing more.
    scopes = [f"{noun}:write" for noun in NOUNS] + ["grants:write", "operators:read"]
    key = own_authority.call("POST", "/v1/operators", {"name": "fuzzing", "scopes": scopes})["key"]
    schema = own_authority.call("GET", "/openapi.json")
    report = _fuzz(own_authority, key, tmp_path)
    assert report["operations"]["tested"] == report["operations"]["total"] > 0
    assert report["phases"]["stateful"]["status"] == "success"
    assert _answers(own_authority, key), "the run's own key stopped working; later cases showed nothing"
    _sent_enough(schema, _with_input(schema), tmp_path)


def test_the_routes_of_operators_do_what_their_description_says(own_authority: Authority, tmp_path: Path) -> None:
    # With all rights, among which is to take one's own away: what counts is that no answer is undocumented.
    schema = own_authority.call("GET", "/openapi.json")
    _fuzz(own_authority, own_authority.operator_key, tmp_path, "--include-tag=operators")
    of_operators = [operation for operation in _with_input(schema) if "/v1/operators" in operation]
    _sent_enough(schema, of_operators, tmp_path)


def _fuzz(authority: Authority, key: str, tmp_path: Path, *more: str) -> dict[str, Any]:
    print(f"seed {SEED}, {EXAMPLES} examples an operation")
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    finished = subprocess.run(
        [*_command(authority, configuration, tmp_path), *more],
        env={**os.environ, "MCPA_FUZZ_KEY": key},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=FUZZ_SECONDS_MAX,
        check=False,
    )
    print(finished.stdout[-20_000:], finished.stderr[-5_000:])
    assert finished.returncode == 0, f"the fuzzing found something (seed {SEED}); see above"
    report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    assert report["complete"] is True
    assert not report["failures"]
    assert not report["errors"]
    return report


def _answers(authority: Authority, key: str) -> bool:
    request = urllib.request.Request(f"{authority.url}/v1/agents", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=REQUEST_SECONDS_MAX) as response:
        return bool(response.status == 200)


def _sent_enough(schema: dict[str, Any], operations: list[str], tmp_path: Path) -> None:
    sent = _cases_sent(tmp_path / "events.ndjson")
    few = {operation: sent[operation] for operation in operations if sent[operation] < _wanted(schema, operation)}
    assert not few, f"too few cases of {few}"


def _wanted(schema: dict[str, Any], operation: str) -> int:
    # Ids are taken from what was answered before: the generator ends when it has no other one to try.
    method, path = operation.split(" ", 1)
    described = schema["paths"][path][method.lower()]
    by_id = all(parameter["in"] == "path" for parameter in described.get("parameters", []))
    return BY_ID if by_id and "requestBody" not in described else EXAMPLES


def _command(authority: Authority, configuration: Path, reports: Path) -> list[str]:
    return [
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={configuration}",
        "--no-color",
        "run",
        f"{authority.url}/openapi.json",
        f"--checks={','.join(CHECKS)}",
        "--phases=examples,coverage,fuzzing,stateful",
        f"--max-examples={EXAMPLES}",
        f"--seed={SEED}",
        # One worker and no memory of earlier runs: the seed alone decides.
        "--workers=1",
        "--generation-database=none",
        "--continue-on-failure",
        f"--request-timeout={REQUEST_SECONDS_MAX}",
        "--report=json,ndjson",
        f"--report-json-path={reports / 'report.json'}",
        f"--report-ndjson-path={reports / 'events.ndjson'}",
    ]


def _with_input(schema: dict[str, Any]) -> list[str]:
    """The operations that take anything; one that takes nothing has only one case."""
    operations = []
    for path, item in schema["paths"].items():
        for method in METHODS:
            operation = item.get(method)
            if operation and ("requestBody" in operation or operation.get("parameters") or item.get("parameters")):
                operations.append(f"{method.upper()} {path}")
    return operations


def _cases_sent(events: Path) -> Counter[str]:
    sent: Counter[str] = Counter()
    with events.open(encoding="utf-8") as lines:
        for line in lines:
            scenario = json.loads(line).get("ScenarioFinished") or {}
            for case in scenario.get("recorder", {}).get("cases", {}).values():
                sent[f"{case['value']['method']} {case['value']['path']}"] += 1
    return sent
