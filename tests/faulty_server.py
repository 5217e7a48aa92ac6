"""A process that answers chat at a port, and fails as its argument says; run as: faulty_server.py PORT MODE.

well: answers. hang: says nothing, for ever. error: 500. garbage: no JSON. missing: 404, no such model. other: another
model's name. mute: an answer without a message. full: the context is too long. once: 500 for every second request.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

MODE = sys.argv[2]
ASKED = count()
ANSWER = {
    "model": "policy",
    "choices": [{"message": {"role": "assistant", "content": "aa", "reasoning": "hm"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2},
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(200, {"data": [{"id": "policy"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if MODE == "hang":
            time.sleep(10_000)
        elif MODE == "error" or (MODE == "once" and next(ASKED) % 2 == 0):
            self.answer(500, {"error": {"message": "the engine is dead"}})
        elif MODE == "garbage":
            self.answer(200, "<html>a proxy's page</html>")
        elif MODE == "missing":
            self.answer(404, {"error": {"message": "The model `policy` does not exist."}})
        elif MODE == "full":
            self.answer(400, {"error": {"message": "This model's maximum context length is 4 tokens."}})
        else:
            changes = {"other": {"model": "stranger"}, "mute": {"choices": [{}]}}.get(MODE, {})
            self.answer(200, ANSWER | changes)

    def answer(self, status: int, said: object) -> None:
        body = (said if isinstance(said, str) else json.dumps(said)).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
