"""Receives hooks: prints its port, then each request as a line of JSON, and answers by the stream's name.

A blocking event of a stream named no... is answered with code 1, of one named hang... never; all else with code 0,
except that a path with flaky in it gets status 500 the first time. With a certificate and a key it speaks TLS.
"""

import json
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

seen = set()
# A call is one line, whoever else calls.
said = threading.Lock()
ASKED = {"on_connect", "on_publish", "on_play"}


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        body = json.loads(text) if text else None
        call = {"method": self.command, "path": self.path, "headers": dict(self.headers), "body": body, "from": self.client_address[1]}
        with said:
            print(json.dumps(call), flush=True)
        name = body.get("stream", "") if body and body.get("action") in ASKED else ""
        if name.startswith("hang") and body.get("action") != "on_connect":
            self.rfile.read(1)  # until the caller has enough of it
            return
        refuses = name.startswith("no") and body["action"] != "on_connect"
        answer = b'{"code":1}' if refuses else b'{"code":0,"data":null}'
        if self.path.startswith("/zero"):
            answer = b"0"
        first = "flaky" in self.path and self.path not in seen
        seen.add(self.path)
        self.send_response(500 if first else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", 0), Receiver)
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
