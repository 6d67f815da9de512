"""Receives hooks: prints its port, then each request as a line of JSON, and answers by the stream's name.

A blocking event of a stream named no... is answered with code 1, of one named hang... never; all else with code 0.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ASKED = {"on_connect", "on_publish", "on_play"}


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        body = json.loads(text) if text else None
        print(json.dumps({"method": self.command, "path": self.path, "headers": dict(self.headers), "body": body}), flush=True)
        name = body.get("stream", "") if body and body["action"] in ASKED else ""
        if name.startswith("hang") and body["action"] != "on_connect":
            self.rfile.read(1)  # until the caller has enough of it
            return
        refuses = name.startswith("no") and body["action"] != "on_connect"
        answer = b'{"code":1}' if refuses else b'{"code":0,"data":null}'
        if self.path.startswith("/zero"):
            answer = b"0"
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", 0), Receiver)
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
