"""A small hub on this machine: what huggingface_hub asks for, answered from folders.

The client is the real one; ``HF_ENDPOINT`` names this server instead of the hub's address.
"""

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


def commit_of(folder):
    """A revision of forty hexadecimal digits, as git names one."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha1(b"".join(path.read_bytes() for path in files)).hexdigest()


def _handler(repositories, asked):
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            parts = urlsplit(self.path).path.strip("/").split("/")
            asked.append((self.command, "/".join(parts)))
            described = parts[:2] == ["api", "models"]
            name = "/".join(parts[2:4] if described else parts[:2])
            folder = repositories.get(name)
            if folder is None:
                return self.send(
                    404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no such model"}
                )
            commit = commit_of(folder)
            revision = parts[5] if described and len(parts) > 5 else parts[3] if not described else "main"
            if revision not in {"main", commit}:
                return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
            if described:
                return self.send_json(self.description(name, commit, folder, files, tree="tree" in parts))
            path = folder / "/".join(parts[4:])
            if not path.is_file():
                return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
            content = path.read_bytes()
            tag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self.send(200, content, {"ETag": tag, "X-Repo-Commit": commit})

        def description(self, name, commit, folder, files, *, tree):
            if tree:
                return [
                    {
                        "type": "file",
                        "path": file,
                        "size": (folder / file).stat().st_size,
                        "oid": hashlib.sha1((folder / file).read_bytes()).hexdigest(),
                    }
                    for file in files
                ]
            siblings = [{"rfilename": file} for file in files]
            return {"id": name, "modelId": name, "sha": commit, "private": False, "siblings": siblings}

        def send_json(self, content):
            self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def send(self, status, content, headers):
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    return Handler


@contextlib.contextmanager
def hub_of(repositories: dict[str, Path]):
    """The address of a hub with these repositories, and the list of what it is asked for."""
    asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(repositories, asked))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
