"""MCP servers that run: their tools, and calls of them, over stdio and HTTP, by the official client.

A server that is started here is a program that the user named; it runs outside the walls, with its own environment and
the variables that are named for it, no others.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from xlam_jax.apigen.outcome import Outcome
from xlam_jax.errors import InputError, WorkError
from xlam_jax.extras import need

_START_SECONDS = 60.0


def server_of(where: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """How a server is reached, from a client's configuration: `{command, args, env}` or `{url}`; {} for neither.

    `env` names variables of this environment; their values go nowhere else.

    Raises:
      InputError: a value in the place of a variable's name.
    """
    if isinstance(row.get("url"), str) and row["url"]:
        return {"url": row["url"]}
    if not isinstance(row.get("command"), str) or not row["command"]:
        return {}
    args, env = row.get("args") or [], row.get("env") or {}
    if not isinstance(args, list) or not isinstance(env, list | dict):
        raise InputError("args is a list, env names variables", where=where)
    names = []
    for name in env:
        value = env[name] if isinstance(env, dict) else ""
        if value and not re.fullmatch(rf"\$\{{?{re.escape(str(name))}\}}?", str(value)):
            raise InputError(
                f"the value of {name} stands in the file", where=where,
                hint=f"export {name}=..., and \"env\": [\"{name}\"] here",
            )  # fmt: skip
        names.append(str(name))
    return {"command": row["command"], "args": [str(a) for a in args], "env": names}


class McpServers:
    """Open connections, one a server; a context manager.

    Args:
      seconds: longest wait for an answer of a call.
      result_bytes: longest answer.
    """

    def __init__(self, seconds: float = 10.0, result_bytes: int = 64 * 1024):
        self.seconds, self.result_bytes = seconds, result_bytes
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._open: dict[str, tuple[Any, asyncio.Event, concurrent.futures.Future]] = {}

    def __enter__(self) -> McpServers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def tools(self, server: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What the server answers to tools/list, all pages.

        Raises:
          WorkError: it does not start, or does not answer.
        """
        client, listed, cursor = self._client(server), [], None
        while True:
            page = self._wait(client.list_tools(cursor=cursor), _START_SECONDS)
            listed += [tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in page.tools]
            cursor = page.next_cursor
            if not cursor:
                return listed

    def call(self, server: Mapping[str, Any], name: str, arguments: dict[str, Any]) -> Outcome:
        """Calls a tool; whatever the server does ends as an outcome."""
        start = time.monotonic()
        try:
            client = self._client(server)
            answer = self._wait(
                client.call_tool(name, arguments, read_timeout_seconds=self.seconds), 2 * self.seconds
            )
        except WorkError as e:
            return Outcome("raised", error=e.what[:300], seconds=time.monotonic() - start)
        except Exception as e:
            seconds = time.monotonic() - start
            self._drop(server)  # a server that hangs may go on to hang
            if isinstance(e, TimeoutError) or "timed out" in str(e):
                return Outcome("timeout", error=f"no answer after {self.seconds} s", seconds=seconds)
            return Outcome("raised", error=f"{type(e).__name__}: {e}"[:300], seconds=seconds)
        seconds = time.monotonic() - start
        value = _value(answer)
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
            size = len(text.encode())
        except (ValueError, RecursionError, TypeError):
            return Outcome("not_serialisable", error="an answer that is no JSON", seconds=seconds)
        if size > self.result_bytes:
            return Outcome("too_large", error=f"over {self.result_bytes} bytes", seconds=seconds)
        if answer.is_error:
            said = value if isinstance(value, str) else text
            return Outcome("raised", error=said[:300], seconds=seconds)
        return Outcome("ok", value, seconds=seconds)

    def close(self) -> None:
        """Ends every server."""
        for key in list(self._open):
            self._end(key)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _client(self, server: Mapping[str, Any]) -> Any:
        key = json.dumps(server, sort_keys=True)
        if key not in self._open:
            need("mcp", "mcp", where=str(server.get("url") or server["command"]))
            from mcp import Client, StdioServerParameters, stdio_client

            said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - while it runs
            if "url" in server:
                target: Any = server["url"]
            else:
                if missing := [n for n in server["env"] if n not in os.environ]:
                    raise InputError(
                        f"the environment has no {missing[0]}", where=server["command"], hint=f"export {missing[0]}=..."
                    )  # fmt: skip
                env = {n: os.environ[n] for n in server["env"]} or None
                start = StdioServerParameters(command=server["command"], args=server["args"], env=env)
                target = stdio_client(start, errlog=said)
            stop, ready = asyncio.Event(), concurrent.futures.Future()
            done = asyncio.run_coroutine_threadsafe(_serve(Client(target), ready, stop), self._loop)
            try:
                client = ready.result(_START_SECONDS)
            except Exception as e:
                done.cancel()
                said.seek(0)
                words = said.read(4000).strip() or str(e).strip() or type(e).__name__
                raise WorkError(
                    f"the MCP server does not answer: {words[-300:]}",
                    where=server.get("url") or server["command"],
                ) from e
            self._open[key] = (client, stop, done)
        return self._open[key][0]

    def _wait(self, work: Coroutine, seconds: float) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise

    def _drop(self, server: Mapping[str, Any]) -> None:
        key = json.dumps(server, sort_keys=True)
        if key in self._open:
            self._end(key)

    def _end(self, key: str) -> None:
        _, stop, done = self._open.pop(key)
        self._loop.call_soon_threadsafe(stop.set)
        try:
            done.result(5)
        except Exception:
            done.cancel()


async def _serve(client: Any, ready: concurrent.futures.Future, stop: asyncio.Event) -> None:
    """Holds a connection open in one task, as the client's cancel scopes want it."""
    try:
        async with client as entered:
            ready.set_result(entered)
            await stop.wait()
    except Exception as e:
        if not ready.done():
            ready.set_exception(e)


def _value(answer: Any) -> Any:
    """What a result says: its structured content, else its text (as JSON where it is some)."""
    if answer.structured_content is not None:
        structured = answer.structured_content
        return (
            structured["result"]
            if isinstance(structured, dict) and set(structured) == {"result"}
            else structured
        )
    text = "\n".join(part.text for part in answer.content if getattr(part, "type", "") == "text")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
