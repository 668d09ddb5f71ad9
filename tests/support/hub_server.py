"""A hub on the loopback that speaks as much of the protocol as fetching a repository takes.

Faults stand under the end of a path, in the order in which answers are given; `[x, "always"]` is
the same each time.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ERRORS = {401: "GatedRepo", 403: "GatedRepo", 404: "RepoNotFound"}


class Hub(ThreadingHTTPServer):
    """`files` by name; `faults` by the end of a path: a status, "hang", or "cut" and
    "none" for half of what was asked for, or nothing of it, and the connection closed."""

    daemon_threads = True

    def __init__(
        self, files: dict[str, bytes], faults: dict[str, list[Any]], wait: str, repository: str
    ):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files, self.wait, self.repository = files, wait, repository
        self.faults = {path: list(each) for path, each in faults.items()}
        self.requests: list[tuple[str, str, str | None]] = []
        self.stop = threading.Event()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, path: str) -> Any:
        """What is wrong with this answer, if anything."""
        for end, faults in self.faults.items():
            if path.endswith(end) and faults:
                return faults[0] if faults[1:] == ["always"] else faults.pop(0)
        return None


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *arguments):
        """Nothing is printed."""

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()

    def do_GET(self):
        path, _, query = self.path.partition("?")
        path = unquote(path)
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        fault = None if self.command == "HEAD" else self.server.fault(path)
        if fault == "hang":
            self.server.stop.wait(30)
            self.close_connection = True
        elif isinstance(fault, int):
            self.refuse(fault)
        elif path.startswith("/api/"):
            self.describe(path, "recursive=true" in query.lower())
        else:
            self.give(path, fault)

    def refuse(self, status: int, code: str | None = None):
        body = json.dumps({"error": f"status {status}"}).encode()
        self.send_response(status)
        if code := code or ERRORS.get(status):
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", "no access to this repository")
        if status == 429:
            self.send_header("Retry-After", self.server.wait)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def describe(self, path: str, recursive: bool):
        files = [
            {"type": "file", "path": name, "rfilename": name, "size": len(data), "oid": _oid(data)}
            for name, data in self.server.files.items()
        ]
        name = self.server.repository
        answer: Any = {"id": name, "modelId": name, "sha": COMMIT, "siblings": files}
        if "/tree/" in path:
            folder = path.partition("/tree/")[2].partition("/")[2]
            answer = _listed(files, f"{folder}/" if folder else "", recursive)
            if not answer:
                return self.refuse(404, "EntryNotFound")
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def give(self, path: str, fault: str | None):
        data = self.server.files.get(path.partition("/resolve/")[2].partition("/")[2])
        if data is None:
            return self.refuse(404, "EntryNotFound")
        start = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        part = data[start:]
        self.send_response(206 if start else 200)
        for name, value in {
            "ETag": f'"{_oid(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes",
            "Content-Length": str(len(part)),
        }.items():  # fmt: skip
            self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(
                part[: len(part) // 2] if fault == "cut" else b"" if fault == "none" else part
            )
            self.close_connection = fault in ("cut", "none")


def _listed(files: list[dict[str, Any]], below: str, recursive: bool) -> list[dict[str, Any]]:
    """The files of a folder, and the folders in it."""
    inside = [file for file in files if file["path"].startswith(below)]
    if recursive:
        return inside
    folders = {file["path"][len(below) :].partition("/") for file in inside}
    return [file for file in inside if "/" not in file["path"][len(below) :]] + [
        {"type": "directory", "path": below + name, "size": 0, "oid": _oid(name.encode())}
        for name in sorted({name for name, slash, _ in folders if slash})
    ]


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def hub(
    files: dict[str, bytes], faults: dict[str, list[Any]] | None = None, *, wait: str = "1",
    repository: str = "owner/model",
) -> Iterator[Hub]:  # fmt: skip
    """A hub with these files of one repository, while the block runs; `wait`: its Retry-After."""
    server = Hub(files, faults or {}, wait, repository)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def python(script, url, home):
    """A process of its own, for the client reads the hub's address when it is imported."""
    environment = os.environ | {
        "HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_VERBOSITY": "error", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    environment.pop("HF_HUB_OFFLINE", None)
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
