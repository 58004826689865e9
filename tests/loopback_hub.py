"""The part of the Hub's HTTP interface that pushing and loading models uses, as a server on the loopback device.

Repositories live in memory. `fail` breaks requests on purpose; `requests` is what was asked for.

    python tests/loopback_hub.py 8765       # until Ctrl-C; docs/tutorial.md says how clients find it
"""

import base64
import hashlib
import json
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


LARGE = 20_000  # bytes from which a file goes the way of large files; the Hub's own rule looks at names, too
REPO = r"(?P<repo>[^/]+/[^/]+)"


@dataclass(frozen=True)
class File:
    """Content of a file, and whether it went the way of large files."""

    content: bytes
    large: bool = False

    @property
    def oid(self) -> str:
        """As in git: SHA-256 of a large file, else SHA-1 of the blob."""
        if self.large:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Repo:
    """Commits by their hash, and where the branches are; the first commit is the one that the Hub makes itself."""

    private: bool
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, File], message: str) -> str:
        """A new commit on a branch; its hash."""
        described = f"{len(self.commits)} {branch} {sorted((name, file.oid) for name, file in files.items())}"
        sha = hashlib.sha1(described.encode()).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        self.messages.append(message)
        return sha

    def files(self, branch: str = "main") -> dict[str, File]:
        """What a branch has."""
        return self.commits[self.branches[branch]]


class LoopbackHub(ThreadingHTTPServer):
    """A Hub with one account, "me", whose token "write" may write and whose token "read" may not.

    Args:
        fail: (command, path) -> None, a status to answer with, or "drop" to close the connection without an answer.
    """

    daemon_threads = True

    def __init__(self, port: int = 0):
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock = threading.Lock()
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], int | str | None] = lambda command, path: None

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.shutdown()
        self.server_close()

    def add_repo(self, name: str, private: bool = False) -> Repo:
        """A new repository with the file that every new one has."""
        self.repos[name] = Repo(private)
        self.repos[name].commit("main", {".gitattributes": File(b"*.safetensors filter=lfs\n")}, "initial commit")
        return self.repos[name]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def log_message(self, *_) -> None:
        pass

    def answer(self, content: bytes | dict | list = b"", status: int = 200, **headers: str) -> None:
        """Sends an answer; names of headers have underscores for dashes."""
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers = {"Content_Type": "application/json", "Content_Length": str(len(content)), **headers}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status: int, code: str) -> None:
        """Sends an error as the Hub does, with its code in a header."""
        self.answer({"error": code}, status, X_Error_Code=code, X_Error_Message=code)

    def handle_request(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            self.server.requests.append((self.command, path))
            broken = self.server.fail(self.command, path)
            if broken == "drop":
                self.close_connection = True
                return self.connection.close()
            if broken:
                return self.refuse(broken, "Broken")
            for commands, pattern, method in ROUTES:
                if self.command in commands and (match := re.fullmatch(pattern, path)):
                    return getattr(self, method)(body, **match.groupdict())
        self.refuse(404, "NotFound")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    @property
    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def may_write(self, repo: str) -> bool:
        """Refuses those who may not."""
        if self.token not in ("read", "write"):
            self.refuse(401, "Unauthorized")
        elif self.token == "read" or not repo.startswith("me/"):
            self.refuse(403, "Forbidden")
        else:
            return True
        return False

    def found(self, repo: str, revision: str = "main") -> tuple[Repo, str] | None:
        """A repository that this token may see, and the commit of a revision."""
        known = self.server.repos.get(repo)
        if known is None or (known.private and not (self.token and repo.startswith("me/"))):
            return self.refuse(404 if self.token else 401, "RepoNotFound")
        sha = known.branches.get(revision, revision)
        if sha not in known.commits:
            return self.refuse(404, "RevisionNotFound")
        return known, sha

    def whoami(self, body: bytes) -> None:
        if self.token not in ("read", "write"):
            return self.refuse(401, "Unauthorized")
        self.answer({"type": "user", "name": "me", "orgs": [], "auth": {"accessToken": {"role": self.token}}})

    def validate_yaml(self, body: bytes) -> None:
        self.answer({"errors": [], "warnings": []})

    def create(self, body: bytes) -> None:
        given = json.loads(body)
        name = f"{given.get('organization') or 'me'}/{given['name']}"
        if not self.may_write(name):
            return
        address = {"url": f"{self.server.url}/{name}", "name": name}
        if name in self.server.repos:
            return self.answer(address, 409)
        self.server.add_repo(name, given.get("private") or given.get("visibility") == "private")
        self.answer(address)

    def branch(self, body: bytes, repo: str, branch: str) -> None:
        if self.may_write(repo) and (found := self.found(repo)):
            if branch in found[0].branches:
                return self.refuse(409, "BranchExists")
            found[0].branches[branch] = found[1]
            self.answer({})

    def info(self, body: bytes, repo: str, revision: str = "main") -> None:
        if found := self.found(repo, revision):
            known, sha = found
            siblings = [{"rfilename": name} for name in sorted(known.commits[sha])]
            self.answer(
                {"_id": repo, "id": repo, "sha": sha, "private": known.private, "siblings": siblings, "tags": []}
            )

    def tree(self, body: bytes, repo: str, revision: str) -> None:
        if found := self.found(repo, revision):
            files = found[0].commits[found[1]].items()
            self.answer([{"type": "file", "path": n, "size": len(f.content), "oid": f.oid} for n, f in sorted(files)])

    def preupload(self, body: bytes, repo: str, revision: str) -> None:
        if not (self.may_write(repo) and (found := self.found(repo, revision))):
            return
        files, answers = found[0].commits[found[1]], []
        for file in json.loads(body)["files"]:
            known = files.get(file["path"])
            way = {"uploadMode": "lfs" if file["size"] >= LARGE else "regular", "shouldIgnore": False}
            answers.append({"path": file["path"], **way, **({"oid": known.oid} if known else {})})
        self.answer({"files": answers})

    def large_files(self, body: bytes, repo: str) -> None:
        if not self.may_write(repo):
            return
        objects = []
        for item in json.loads(body)["objects"]:
            upload = {"actions": {"upload": {"href": f"{self.server.url}/large/{item['oid']}"}}}
            objects.append({**item, **({} if item["oid"] in self.server.large else upload)})
        self.answer({"transfer": "basic", "objects": objects})

    def put_large(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self.refuse(422, "WrongChecksum")
        self.server.large[oid] = body
        self.answer()

    def commit(self, body: bytes, repo: str, revision: str) -> None:
        if not (self.may_write(repo) and (found := self.found(repo, revision))):
            return
        files, message = dict(found[0].commits[found[1]]), ""
        for key, value in ((line["key"], line["value"]) for line in map(json.loads, body.splitlines())):
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                files[value["path"]] = File(self.server.large[value["oid"]], large=True)
            elif key == "deletedFile":
                del files[value["path"]]
        sha = found[0].commit(revision, files, message)
        self.answer({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{repo}/commit/{sha}"})

    def download(self, body: bytes, repo: str, revision: str, name: str) -> None:
        if not (found := self.found(repo, revision)):
            return
        known, sha = found
        if name not in known.commits[sha]:
            return self.refuse(404, "EntryNotFound")
        file = known.commits[sha][name]
        content_type = "application/octet-stream"
        self.answer(file.content, ETag=f'"{file.oid}"', X_Repo_Commit=sha, Content_Type=content_type)


ROUTES = [
    (("GET",), r"/api/whoami-v2", "whoami"),
    (("POST",), r"/api/validate-yaml", "validate_yaml"),
    (("POST",), r"/api/repos/create", "create"),
    (("POST",), rf"/api/models/{REPO}/branch/(?P<branch>.+)", "branch"),
    (("GET",), rf"/api/models/{REPO}", "info"),
    (("GET",), rf"/api/models/{REPO}/revision/(?P<revision>.+)", "info"),
    (("GET",), rf"/api/models/{REPO}/tree/(?P<revision>[^/]+)", "tree"),
    (("POST",), rf"/api/models/{REPO}/preupload/(?P<revision>.+)", "preupload"),
    (("POST",), rf"/api/models/{REPO}/commit/(?P<revision>.+)", "commit"),
    (("POST",), rf"/{REPO}\.git/info/lfs/objects/batch", "large_files"),
    (("PUT",), r"/large/(?P<oid>[0-9a-f]{64})", "put_large"),
    (("GET", "HEAD"), rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", "download"),
]


if __name__ == "__main__":
    with LoopbackHub(int(sys.argv[1])) as server:
        print(f"a Hub in memory at {server.url}, with the account me and the token write", flush=True)
        threading.Event().wait()
