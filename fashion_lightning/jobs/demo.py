"""A page on which pictures are predicted, served to this machine alone. Knows no command line."""

import base64
import errno
import hashlib
import http.server
import io
import json
import re
import signal
import socketserver
import sys
import threading
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pytorch_lightning.plugins import Precision

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data import photographs, pictures
from fashion_lightning.data.module import normalize
from fashion_lightning.errors import Stopped, UserError
from fashion_lightning.jobs.predict import described
from fashion_lightning.jobs.start import Start
from fashion_lightning.training.stopping import SIGNALS

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")  # in the header Host: another name may be that of a foreign page
PICTURE = "application/octet-stream"  # a foreign page needs a CORS preflight to send this type
MAX_BYTES = 20 * 2**20  # of a picture
SECONDS_TO_WAIT = 30  # for the next bytes of a connection
HTTP_PORT = 80
PAGE = Path(__file__).with_name("demo.html")


@dataclass(frozen=True)
class Demo:
    model: FashionClassifier
    device: torch.device
    precision: Precision
    start: Start
    port: int  # 0 for any that is free

    def run(self) -> None:
        """Until a signal raises Stopped."""
        self.start.load_into(self.model)
        self.model.to(self.device).eval()
        torch.set_num_threads(1)  # beside other work, two threads would wait for each other
        self.start.print()
        with _bound(self) as server:
            for signum in SIGNALS:  # also where a shell has made a process in the background ignore one
                signal.signal(signum, _stop)
            print(f"page        http://{ADDRESS}:{server.server_port}, until Ctrl-C")
            server.serve_forever()

    @torch.inference_mode()
    def predict(self, content: bytes) -> dict[str, Any]:
        """As `predict` does, `top` and `uncertain` of a picture file, `box` as shares of it, and `image` in base 64."""
        garment = photographs.prepare(pictures.read(io.BytesIO(content), "picture"))
        images = normalize(garment.image.unsqueeze(0).unsqueeze(0).to(self.device))
        with self.precision.forward_context():
            logits = self.model(self.precision.convert_input(images))
        [row] = described(logits, self.start.temperature or 1.0, [garment])
        return {**row, "box": garment.box, "image": base64.b64encode(garment.image.numpy().tobytes()).decode()}


def _stop(signum: int, frame: FrameType | None) -> None:
    for other in SIGNALS:  # some programs send one twice
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(f"stopped by {signal.Signals(signum).name}", 128 + signum)


def _bound(demo: Demo) -> "_Server":
    try:
        return _Server(demo)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise UserError(f"--port: {demo.port}: {error.strerror}; choose another, or 0 for any that is free") from error


class _Server(http.server.ThreadingHTTPServer):
    """A thread a connection, since browsers keep some open; one picture at a time."""

    daemon_threads = True

    def __init__(self, demo: Demo) -> None:
        super().__init__((ADDRESS, demo.port), _Handler)
        self.demo, self.lock = demo, threading.Lock()

    def server_bind(self) -> None:
        """Without the name of this machine, for which `http.server` may ask the network."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a page that is closed early is no error
            super().handle_error(request, client_address)

    @cached_property
    def hosts(self) -> set[str]:
        bare = NAMES if self.server_port == HTTP_PORT else ()  # which browsers leave out
        return {*bare, *(f"{name}:{self.server_port}" for name in NAMES)}

    @cached_property
    def page(self) -> bytes:
        page = PAGE.read_bytes().replace(b"\r\n", b"\n")  # as browsers read it for its digests
        return page.replace(b"MAX_BYTES", b"%d" % MAX_BYTES)

    @cached_property
    def policy(self) -> str:
        """Nothing from elsewhere, and no script or style but those of the page, by their digests."""

        def sources(tag: str) -> str:
            blocks = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), self.page, re.S)
            digests = (base64.b64encode(hashlib.sha256(block).digest()).decode() for block in blocks)
            return " ".join(f"'sha256-{digest}'" for digest in digests)

        return (
            f"default-src 'none'; script-src {sources('script')}; style-src {sources('style')}; img-src blob: data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fashion_lightning", ""
    timeout = SECONDS_TO_WAIT
    disable_nagle_algorithm = True  # or else each answer on an open connection waits 40 ms for an acknowledgement

    def do_GET(self) -> None:
        if self._is_from_here():
            if self.path == "/":
                self._answer("text/html; charset=utf-8", self.server.page)
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Of the bytes of a picture file, what `Demo.predict` gives, or `problem` in words."""
        if not self._is_from_here():
            return
        if self.path != "/predict":
            return self.send_error(HTTPStatus.NOT_FOUND)
        if self.headers.get("Content-Type") != PICTURE:
            return self.send_error(HTTPStatus.FORBIDDEN)
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return self.send_error(HTTPStatus.LENGTH_REQUIRED)
        if len(length) > len(str(MAX_BYTES)) or int(length) > MAX_BYTES:
            return self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        content = self.rfile.read(int(length))
        try:
            with self.server.lock:
                found = self.server.demo.predict(content)
        except (pictures.PictureError, photographs.NoGarmentError) as error:
            found = {"problem": str(error)}
        self._answer("application/json", json.dumps(found).encode())

    def _is_from_here(self) -> bool:
        """Whether the page itself asks, or a program; answers if not."""
        host, origin = self.headers.get("Host"), self.headers.get("Origin")
        if host in self.server.hosts and origin in (None, f"http://{host}"):
            return True
        self.send_error(HTTPStatus.FORBIDDEN)
        return False

    def _answer(self, kind: str, content: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing: a request is no news."""
