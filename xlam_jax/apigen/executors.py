"""How a call of a library's API is run, behind one interface; each result says which way it was.

- `python`: the function itself, behind the walls;
- `rest`: the operation over HTTP, at hosts that the user named and no others;
- `mcp`: the tool of a running MCP server, at servers that the user named and no others;
- `replay`: what a service answered before, from a file, and nothing else;
- `mock`: nothing is run: the arguments are held against the schema, and the answer is the document's example or
  made of nothing. Counted apart in every table.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pydantic

from xlam_jax.apigen.answers import Answers
from xlam_jax.apigen.api import Api
from xlam_jax.apigen.mcp_servers import McpServers
from xlam_jax.apigen.sandbox import Outcome, Sandbox
from xlam_jax.apigen.walls.kinds import Kind
from xlam_jax.config import Config
from xlam_jax.errors import InputError
from xlam_jax.format import ToolCall
from xlam_jax.records.quality.schema_check import check_call

Executor = Literal["python", "rest", "mcp", "replay", "mock"]


class RestConfig(Config):
    """Calls over HTTP.

    Attributes:
      hosts: hosts that may be called, such as `localhost:8080`; operations of other hosts are mocked.
      server: base URL in the place of the documents' own, such as `http://localhost:8080`.
      headers: header by environment variable that holds its value, such as `Authorization: SHOP_TOKEN`; the value
        goes into requests and nowhere else, and an answer that repeats it has the variable's name in its place.
      seconds: longest wait for an answer.
      per_second: most requests a second.
      retries: of an answer 429 or 503, or of no connection.
    """

    hosts: tuple[str, ...] = ()
    server: str = ""
    headers: dict[str, str] = pydantic.Field(default_factory=dict)
    seconds: float = pydantic.Field(default=10.0, gt=0)
    per_second: float = pydantic.Field(default=20.0, gt=0)
    retries: int = pydantic.Field(default=2, ge=0)

    @pydantic.field_validator("hosts")
    @classmethod
    def _hosts_alone(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if urllib.parse.urlsplit(f"//{host}").netloc != host or "@" in host:
                alone = urllib.parse.urlsplit(host).netloc.rpartition("@")[2] or "localhost:8080"
                raise ValueError(f"{host!r} is no host; write {alone}")
        return tuple(host.lower() for host in hosts)


class CallsConfig(Config):
    """How calls of a library folder are run.

    Attributes:
      sandbox: walls of Python functions, `auto`, `bubblewrap`, `docker`, `podman` or `none`.
      trust: run Python functions without walls where there are none.
      rest: what may be called over HTTP; operations elsewhere are mocked.
      mcp: MCP servers that may be started and called, by their names in the library; others are mocked.
      mcp_seconds: longest wait for an MCP server's answer.
      answers: a file in which answers of services and MCP servers are kept; a call that stands there is not made again.
      offline: make none that does not stand there.
    """

    sandbox: Kind | Literal["auto"] = "auto"
    trust: bool = False
    rest: RestConfig = RestConfig()
    mcp: tuple[str, ...] = ()
    mcp_seconds: float = pydantic.Field(default=10.0, gt=0)
    answers: str = ""
    offline: bool = False

    @pydantic.model_validator(mode="after")
    def _answers_named(self) -> CallsConfig:
        if self.offline and not self.answers:
            raise ValueError("offline needs answers, the file that they are in")
        return self


@dataclass(frozen=True)
class Executed:
    """The outcome of a call, and the way it was run."""

    executor: Executor
    outcome: Outcome


class Executors:
    """Runs calls of any door.

    Args:
      sandbox: for Python functions; it looks modules up in the folders of `apis`.
      calls: what may be called over HTTP, and which MCP servers.
      result_bytes: longest answer.
    """

    def __init__(self, sandbox: Sandbox, calls: CallsConfig = CallsConfig(), result_bytes: int = 64 * 1024):
        self.sandbox, self.rest, self.result_bytes = sandbox, calls.rest, result_bytes
        self.mcp, self._mcp_seconds = frozenset(calls.mcp), calls.mcp_seconds
        self._client: Any = None
        self._secrets: dict[str, str] = {}
        self._servers: McpServers | None = None
        self._next = 0.0
        self._offline = calls.offline
        self._answers = Answers(calls.answers) if calls.answers else None

    def kind(self, api: Api) -> Executor:
        """The way a call of this API is run."""
        if api.door in ("python", "standard"):
            return "python"
        if api.door == "mcp":
            return "mcp" if api.run and api.group in self.mcp else "mock"
        host = (
            urllib.parse.urlsplit(self._url(api)).netloc.rpartition("@")[2].lower()
            if api.door == "openapi"
            else ""
        )
        return "rest" if host and host in self.rest.hosts else "mock"

    def run(self, calls: Sequence[tuple[Api, dict[str, Any]]]) -> list[Executed]:
        """Runs `(api, arguments)` and returns the results in order."""
        kinds: list[Executor] = [self.kind(api) for api, _ in calls]
        functions = [i for i, kind in enumerate(kinds) if kind == "python"]
        jobs = [(calls[i][0].run["target"], calls[i][1]) for i in functions]
        done = dict(zip(functions, self.sandbox.run(jobs), strict=True))
        return [
            Executed(kind, done[i]) if i in done else self._service(kind, *calls[i])
            for i, kind in enumerate(kinds)
        ]

    def _service(self, kind: Executor, api: Api, arguments: dict[str, Any]) -> Executed:
        if kind == "mock":
            return Executed(kind, _mock(api, arguments))
        known = self._answers.get(api, arguments) if self._answers else None
        if self._offline:
            return Executed("replay", known or Outcome("raised", error="this call stands in no record"))
        if known is None:
            known = self._request(api, arguments) if kind == "rest" else self._tool(api, arguments)
            if self._answers:
                self._answers.keep(api, arguments, known)
        return Executed(kind, known)

    def close(self) -> None:
        """Closes connections; the sandbox is its owner's."""
        if self._client is not None:
            self._client.close()
        if self._servers is not None:
            self._servers.close()

    def _tool(self, api: Api, arguments: dict[str, Any]) -> Outcome:
        if self._servers is None:
            self._servers = McpServers(self._mcp_seconds, self.result_bytes)
        return self._servers.call(api.run["server"], api.tool.name, arguments)

    def _url(self, api: Api) -> str:
        return (self.rest.server or api.run["server"]).rstrip("/") + api.run["route"]

    def _request(self, api: Api, arguments: dict[str, Any]) -> Outcome:
        import httpx

        if self._client is None:
            headers = {name: os.environ.get(variable, "") for name, variable in self.rest.headers.items()}
            if missing := [v for name, v in self.rest.headers.items() if not headers[name]]:
                raise InputError(
                    f"the environment has no {missing[0]}",
                    where="rest.headers",
                    hint=f"export {missing[0]}=...",
                )
            self._secrets = {
                part: f"${{{variable}}}"
                for name, variable in self.rest.headers.items()
                for part in (
                    headers[name],
                    *headers[name].split()[-1:],
                )  # "Bearer TOKEN", and the token alone
                if len(part) > 5  # a shorter one is in too many words
            }
            self._client = httpx.Client(headers=headers, timeout=self.rest.seconds, follow_redirects=False)
        start = time.monotonic()
        parts: dict[str, dict[str, Any]] = {
            p: {} for p in ("path", "query", "header", "form", "body", "whole")
        }
        for name, value in arguments.items():
            parts[api.run["places"].get(name, "query")][name] = value
        url = self._url(api)
        for name, value in parts["path"].items():
            url = url.replace("{" + name + "}", urllib.parse.quote(_text(value), safe=""))
        if unfilled := re.findall(r"\{(\w+)\}", url):
            return Outcome("raised", error=f"missing path parameter {unfilled[0]}")
        body = next(iter(parts["whole"].values()), parts["body"] or None)
        query = {
            name: _text(value) if not isinstance(value, list) else list(map(_text, value))
            for name, value in parts["query"].items()
        }
        options: dict[str, Any] = {
            "params": query,
            "headers": {n: _text(v) for n, v in parts["header"].items()},
        }
        if body is not None:
            options["json"] = body
        if parts["form"]:
            options["data"] = {n: _text(v) for n, v in parts["form"].items()}
        for attempt in range(self.rest.retries + 1):
            time.sleep(max(0.0, self._next - time.monotonic()))
            self._next = time.monotonic() + 1 / self.rest.per_second
            again = attempt < self.rest.retries
            try:
                with self._client.stream(api.run["method"].upper(), url, **options) as response:
                    if response.status_code in (429, 503) and again:
                        time.sleep(min(30.0, 0.5 * 2**attempt))
                        continue
                    return self._answer(response, start)
            except httpx.TimeoutException:
                return Outcome(
                    "timeout",
                    error=f"no answer after {self.rest.seconds} s",
                    seconds=time.monotonic() - start,
                )
            except (httpx.HTTPError, httpx.InvalidURL) as e:
                if not again:
                    return Outcome(
                        "raised", error=f"{type(e).__name__}: {e}"[:300], seconds=time.monotonic() - start
                    )
                time.sleep(min(30.0, 0.5 * 2**attempt))
        raise AssertionError

    def _answer(self, response: Any, start: float) -> Outcome:
        data = b""
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > self.result_bytes:
                return Outcome(
                    "too_large", error=f"over {self.result_bytes} bytes", seconds=time.monotonic() - start
                )
            if time.monotonic() - start > self.rest.seconds:
                return Outcome(
                    "timeout", error=f"no end after {self.rest.seconds} s", seconds=time.monotonic() - start
                )
        seconds = time.monotonic() - start
        text = data.decode("utf-8", "replace")
        for secret, name in self._secrets.items():
            text = text.replace(secret, name)
        if not 200 <= response.status_code < 300:
            return Outcome("raised", error=f"HTTP {response.status_code}: {text[:200]}", seconds=seconds)
        try:
            value = json.loads(text) if text.strip() else None
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            value = text
        return Outcome("ok", value, seconds=seconds)


def _mock(api: Api, arguments: dict[str, Any]) -> Outcome:
    faults = check_call(ToolCall(api.tool.name, arguments), {api.tool.name: api.tool})
    if faults:
        return Outcome("raised", error=f"{faults[0].code}: {faults[0].detail}"[:300])
    return Outcome("ok", api.answers[0] if api.answers else {"status": "mocked"})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
