"""A model hub on this machine: the few addresses of the Hugging Face hub that fetching and publishing need."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Files = dict[str, bytes]


class Hub:
    """Repositories and their commits, each all files by name, the newest last."""

    def __init__(self) -> None:
        self.commits: dict[str, list[Files]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        """Method, path and token of every request."""
        self.error_status: int | None = None
        """The status of every response, if not None."""

    def names(self, repository: str) -> list[str]:
        return [hashlib.sha1(f"{repository} {index}".encode()).hexdigest() for index in range(99)]

    def files(self, repository: str, revision: str) -> tuple[str, Files] | None:
        """The commit's name and its files."""
        commits = self.commits[repository]
        names = self.names(repository)[: len(commits)]
        index = len(commits) - 1 if revision == "main" else names.index(revision) if revision in names else None
        return None if index is None or index < 0 else (names[index], commits[index])


@contextmanager
def serve(hub: Hub) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each body would wait 40 ms for the client to have seen its headers

        def log_message(self, format: str, *args: object) -> None:
            pass

        def respond(self, status: int, body: bytes = b"{}", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.asked.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')}".strip())
            match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
            if hub.error_status is not None or match is None:
                return self.respond(hub.error_status or 404)
            repository, revision, name = match.groups()
            if repository not in hub.commits:
                return self.respond(404, X_Error_Code="RepoNotFound")
            found = hub.files(repository, revision)
            if found is None:
                return self.respond(404, X_Error_Code="RevisionNotFound")
            commit, files = found
            if name not in files:
                return self.respond(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            digest = hashlib.sha256(files[name]).hexdigest()
            return self.respond(200, files[name], ETag=f'"{digest}"', X_Repo_Commit=commit)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hub.asked.append(f"POST {self.path} {self.headers.get('Authorization', '')}".strip())
            if hub.error_status is not None:
                return self.respond(hub.error_status)
            if self.path == "/api/repos/create":
                return self.create(json.loads(body))
            if self.path == "/api/validate-yaml":
                return self.respond_json({"errors": [], "warnings": []})
            _, _, _, owner, name, act, _ = self.path.split("/")
            if act == "preupload":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                return self.respond_json({"files": files})
            return self.commit(f"{owner}/{name}", [json.loads(line) for line in body.splitlines()])

        def create(self, wanted: dict[str, Any]) -> None:
            repository = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
            there = repository in hub.commits
            if not there:
                hub.commits[repository] = []
                hub.private[repository] = wanted.get("visibility") == "private"
            self.respond_json({"url": f"https://huggingface.co/{repository}"}, 409 if there else 200)

        def commit(self, repository: str, lines: list[dict[str, Any]]) -> None:
            before = hub.commits[repository][-1] if hub.commits[repository] else {}
            added = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            hub.commits[repository].append(before | added)
            name = hub.names(repository)[len(hub.commits[repository]) - 1]
            address = f"https://huggingface.co/{repository}/commit/{name}"
            self.respond_json({"commitUrl": address, "commitOid": name, "hookOutput": ""})

        def respond_json(self, content: object, status: int = 200) -> None:
            self.respond(status, json.dumps(content).encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the hub's client send its requests there only, without a login."""
    import huggingface_hub

    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    huggingface_hub.close_session()
