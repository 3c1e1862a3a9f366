"""A real endpoint on this machine, whose answers follow from the question."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ChatServer:
    """Answers `answer(text of the last message)`, a text or a message.

    `faults` are status codes to give before, one a request. `continued(ids, body)` is the text after a prompt of
    token ids, at `/completions`.
    """

    def __init__(self, answer, faults=(), delay=0.0, continued=None):
        self.requests = []
        self.headers = []
        self._faults = list(faults)
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    outer.requests.append(body)
                    outer.headers.append({k.lower(): v for k, v in self.headers.items()})
                    fault = outer._faults.pop(0) if outer._faults else 0
                if delay:
                    threading.Event().wait(delay)
                if self.path == "/v1/completions" and continued and not fault:
                    self._say(200, _completion(continued(body["prompt"], body), body))
                    return
                if self.path != "/v1/chat/completions":
                    fault = 404
                text = None if fault else answer(body["messages"][-1]["content"])
                message = {"role": "assistant", **(text if isinstance(text, dict) else {"content": text})}
                choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
                reply = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
                said, asked = str(message["content"] or ""), str(body.get("messages"))
                usage = {"prompt_tokens": len(asked.split()), "completion_tokens": len(said.split())}
                reply["usage"] = {**usage, "total_tokens": sum(usage.values())}
                reply |= {"error": {"message": "no"}} if fault else {"choices": choices}
                self._say(fault or 200, reply)

            def _say(self, status, reply):
                data = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("retry-after-ms", "5")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def _completion(text, body):
    usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": max(1, len(text.split()))}
    choices = [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}]
    reply = {"id": "1", "object": "text_completion", "created": 0, "model": body["model"], "choices": choices}
    return {**reply, "usage": {**usage, "total_tokens": sum(usage.values())}}
