"""A download that breaks off goes on where it stopped: the real package, against a server that stands in."""

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from secateur.errors import ExitCode, UserError
from secateur.models import build, resolve, weights_hash

NAME = "robustbench:Sehwag2021Proxy_R18"


class Serving(BaseHTTPRequestHandler):
    """Sends half of ``body`` to the first request, later all that is asked for; ``asked`` are the ranges."""

    body = b""
    asked: list[str | None]

    def log_message(self, *_):
        pass

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        left = self.body[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Disposition", 'attachment; filename="w.pt"')
        self.send_header("Content-Length", str(len(left)))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        self.end_headers()
        # The package may look at the answer's head only, and hang up.
        with suppress(OSError):
            self.wfile.write(left[: len(left) // 2] if len(self.asked) == 1 else left)


@pytest.mark.reference
def test_a_broken_download_is_one_sentence_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    gdown = pytest.importorskip("gdown")
    torch.save({"state_dict": build("resnet18").state_dict()}, tmp_path / "w.pt")
    handler = type("Handler", (Serving,), {"body": (tmp_path / "w.pt").read_bytes(), "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    real, place = gdown.download, f"http://127.0.0.1:{server.server_port}/w.pt"
    monkeypatch.setattr(gdown, "download", lambda *, id, **how: real(url=place, **how))
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(UserError, match="could not be downloaded: Download is incomplete") as caught:
        resolve(NAME)
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert weights_hash(resolve(NAME)) == weights_hash(build("resnet18"))
    resumed = [wanted for wanted in handler.asked if wanted]
    assert len(resumed) == 1
    assert 0 < int(resumed[0].removeprefix("bytes=").partition("-")[0]) < len(handler.body)
    kept = sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert kept == ["Sehwag2021Proxy_R18.pt", "Sehwag2021Proxy_R18.sha256"]
    server.shutdown()
    server.server_close()
