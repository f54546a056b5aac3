"""A small OpenAI-compatible server that says what a test tells it to. Standard library only."""
import contextlib
import http.server
import json
import threading


class OpenAiServer:
    """A context manager. `script` makes the answer to a chat: it gets the request's body and a function
    that writes bytes to the client, after the head of a stream. A body with the field `refuse` gets a
    400 that names it."""

    def __init__(self, script, status: int = 200, models: tuple[str, ...] = ("first", "second"),
                 refuse: str = ""):
        self.script, self.status, self.models, self.refuse = script, status, models, refuse
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.vanished = threading.Event()  # a client went away before its answer was whole
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_) -> None:
                pass

            def do_GET(self) -> None:
                self.answer(200, {"data": [{"id": name} for name in outer.models]})

            def do_POST(self) -> None:
                outer.headers.append(dict(self.headers))
                outer.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                if outer.status != 200:
                    self.answer(outer.status, {"error": {"message": "the server is tired"}})
                    return
                if outer.refuse in outer.bodies[-1]:
                    problem = f"unknown field: {outer.refuse}"
                    self.answer(400, {"error": {"message": problem}})
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                try:
                    outer.script(outer.bodies[-1], self.write)
                except OSError:
                    outer.vanished.set()

            def write(self, data: bytes) -> None:
                self.wfile.write(data)
                self.wfile.flush()

            def answer(self, status: int, body: dict) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "OpenAiServer":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self.server.shutdown()
        with contextlib.suppress(OSError):
            self.server.server_close()


def event(data: dict | str) -> bytes:
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def piece(text: str, **more) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, **more}]})


def says(*texts: str):
    """A script that answers with `texts`, a piece each."""
    def script(_, write) -> None:
        for text in texts:
            write(piece(text))
        write(piece("", finish_reason="stop"))
        write(event("[DONE]"))
    return script
