"""The demo as a server: it answers as `predict` does, to this machine alone, and to nothing that it should not."""

import base64
import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from fashion_lightning import demo, predict
from fashion_lightning.data import photographs, pictures
from fashion_lightning.jobs import demo as job

BINARY = {"Content-Type": "application/octet-stream"}


@contextlib.contextmanager
def served():
    """The port of a demo, as a user starts it in the current folder."""
    command = [sys.executable, "-m", "fashion_lightning.demo", "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ) as process:
        try:
            yield next(int(m[1]) for line in process.stdout if (m := re.search(r"http://127\.0\.0\.1:(\d+)", line)))
            for _ in range(2):  # as `timeout` does
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
            assert (process.returncode, out, err) == (130, "", "stopped by SIGINT\n")
        finally:
            process.kill()


def asked(port: int, method: str, path: str, headers: dict[str, str], content: bytes = b"") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(content)
    answer = connection.getresponse()
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    found = answer.status, answer.read()
    connection.close()
    return found


def photograph() -> bytes:
    """A dark garment on a light ground, with an orientation that only its metadata tell."""
    picture = Image.new("RGB", (300, 200), "linen")
    picture.paste("navy", (60, 50, 180, 150))
    picture.paste("navy", (150, 80, 260, 120))
    content, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    picture.save(content, "JPEG", exif=exif)
    return content.getvalue()


def test_it_answers_as_predict_does_and_to_nobody_else(wardrobe):
    Path("photograph.jpg").write_bytes(photograph())
    [expected] = predict.main(["photograph.jpg"])
    before = sorted(Path().rglob("*"))
    with served() as port:
        status, content = asked(port, "POST", "/predict", BINARY, photograph())
        found = json.loads(content)
        assert (status, found["top"], found["uncertain"]) == (200, expected["top"], expected["uncertain"])
        garment = photographs.prepare(pictures.opened(Path("photograph.jpg")))
        assert base64.b64decode(found["image"]) == garment.image.numpy().tobytes()
        assert found["box"] == list(garment.box)

        for content, problem in ((b"text", "not a picture"), (b"", "the file is empty"), (b"\x89PNG\r\n", None)):
            status, answer = asked(port, "POST", "/predict", BINARY, content)
            assert (status, json.loads(answer).keys()) == (200, {"problem"})
            assert problem in (json.loads(answer)["problem"], None)
        blank = io.BytesIO()
        Image.new("RGB", (50, 50), "white").save(blank, "PNG")
        answer = json.loads(asked(port, "POST", "/predict", BINARY, blank.getvalue())[1])
        assert answer["problem"].startswith("no garment found")

        page = f"http://127.0.0.1:{port}"
        for status, method, path, headers in (
            (200, "GET", "/", {}),
            (200, "GET", "/", {"Host": f"localhost:{port}"}),
            (200, "GET", "/", {"Origin": page}),
            (403, "GET", "/", {"Host": "example.org"}),
            (403, "GET", "/", {"Host": f"example.org:{port}"}),
            (403, "POST", "/predict", {**BINARY, "Origin": "http://example.org"}),
            (403, "POST", "/predict", {**BINARY, "Origin": "null"}),
            (403, "POST", "/predict", {"Content-Type": "text/plain"}),
            (403, "POST", "/predict", {"Content-Type": "multipart/form-data; boundary=x"}),
            (413, "POST", "/predict", {**BINARY, "Content-Length": str(21 * 2**20)}),
            (413, "POST", "/predict", {**BINARY, "Content-Length": "9" * 5000}),
            (411, "POST", "/predict", {**BINARY, "Content-Length": "-1"}),
            (404, "GET", "/../../etc/passwd", {}),
            (404, "GET", "/demo.html", {}),
            (404, "POST", "/", BINARY),
            (501, "PUT", "/", {}),
        ):
            assert asked(port, method, path, headers)[0] == status, (method, path, headers)
        with socket.socket() as other, pytest.raises(OSError, match="refused"):
            other.connect(("127.0.0.2", port))  # it listens at one address only
        with socket.create_connection(("127.0.0.1", port)) as left:  # a client that goes away is no error
            left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # and resets its connection
            left.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode() * 20)
        assert asked(port, "GET", "/", {})[0] == 200
    assert sorted(Path().rglob("*")) == before


def test_browsers_leave_out_the_usual_port():
    hosts = job._Server.hosts.func
    assert hosts(SimpleNamespace(server_port=80)) >= {"127.0.0.1", "localhost"}
    assert hosts(SimpleNamespace(server_port=8000)) == {"127.0.0.1:8000", "localhost:8000"}


@pytest.mark.parametrize(
    ("port", "problem"),
    [("70000", "expected 0 to 65535, got 70000"), (None, "Address already in use; choose another, or 0 for any that")],
)
def test_a_port_that_cannot_be_used_is_said(port, problem, wardrobe, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit) as exit_:
        demo.main(["--port", port or str(taken.getsockname()[1])])
    assert exit_.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --port: ")
    assert problem in line
