"""The Hugging Face hub: its local cache, as its own package fills it, and a server that stands in for it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from huggingface_hub.file_download import repo_folder_name

COMMIT = "a" * 40


def put_in_cache(folder: Path, name: str, cache: Path, commit: str = COMMIT) -> Path:
    """Keep a folder as the newest snapshot of a model, each file a link to a blob; returns the snapshot.

    :param name: ``owner/model``.
    """
    kept = cache / repo_folder_name(repo_id=name, repo_type="model")
    snapshot = kept / "snapshots" / commit
    for made in (snapshot, kept / "blobs", kept / "refs"):
        made.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        blob = kept / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / path.name).unlink(missing_ok=True)
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    (kept / "refs/main").write_text(commit)
    return snapshot


def run_offline(folder: Path, name: str, home: Path, code: str, *arguments: str) -> list[str]:
    """Run code where the hub's cache holds one model; gives the lines that it prints.

    :param home: where the cache is made.
    """
    put_in_cache(folder, name, home)
    # The code imports helpers of the tests.
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "HF_HUB_CACHE": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


class HubServer:
    """A hub on this machine.

    :ivar models: name -> the commit and the folder that are the newest now.
    """

    def __init__(self) -> None:
        self.models: dict[str, tuple[str, Path]] = {}
        self.asked: list[str] = []
        self.address = ""

    def publish(self, name: str, commit: str, folder: Path) -> None:
        self.models[name] = commit, folder


@contextmanager
def serve_hub() -> Iterator[HubServer]:
    """Answers what ``snapshot_download`` and ``model_info`` ask, over HTTP."""
    hub = HubServer()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(self.path.partition("?")[0])
            hub.asked.append(path)
            for name, (commit, folder) in hub.models.items():
                file = folder / path.rpartition("/")[2]
                if path.startswith(f"/api/models/{name}"):
                    names = [{"rfilename": own.name} for own in sorted(folder.iterdir())]
                    body = json.dumps({"id": name, "sha": commit, "siblings": names}).encode()
                elif path.startswith(f"/{name}/resolve/") and file.is_file():
                    body = file.read_bytes()
                else:
                    continue
                self.send_response(200)
                self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("X-Repo-Commit", commit)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body if with_body else b"")
                return
            self.send_response(404)
            if path.startswith("/api/models/"):
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
