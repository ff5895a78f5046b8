"""A stand-in for HDFS on loopback, by the WebHDFS REST API's specification, over a local directory.

https://hadoop.apache.org/docs/stable/hadoop-project-dist/hadoop-hdfs/WebHDFS.html. As Hadoop does, it gives and takes a
file's contents after a redirection, replaces a file only where that is asked for, moves what is renamed to a directory
into it, answers a renaming that cannot be with `false`, and lets users who may not write list and read.
"""

import contextlib
import http.server
import json
import os
import pathlib
import shutil
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator

USER = "builder"
LOST = "lost"  # of a fault: done, but the answer does not arrive
_READS = ("GETFILESTATUS", "LISTSTATUS", "OPEN")
_PREFIX = "/webhdfs/v1"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Of the subclass that `serve` makes.
    root: pathlib.Path
    fault: Callable[[str, str], int | str | None]

    def _answer(self, value: object, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, exception: str, message: str) -> None:
        self._answer({"RemoteException": {"exception": exception, "message": message}}, status)

    def _local(self, path: str) -> pathlib.Path:
        return self.root / path.strip("/")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _handle(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        body = self._body()
        path = urllib.parse.unquote(parts.path).removeprefix(_PREFIX)
        operation = query["op"].upper()
        fault = self.fault(operation, path)
        if fault == LOST:
            self._send = lambda *arguments, **named: self.connection.shutdown(socket.SHUT_RDWR)
        elif fault:
            self._refuse(fault, "AccessControlException" if fault == 403 else "IOException", f"no luck with {path}")
            return
        if operation not in _READS and query.get("user.name") != USER:
            self._refuse(403, "AccessControlException", f"Permission denied: user={query.get('user.name')}")
            return
        try:
            getattr(self, f"_{operation.lower()}")(path, self._local(path), query, body)
        except FileNotFoundError:
            self._refuse(404, "FileNotFoundException", f"File does not exist: {path}")
        except NotADirectoryError:
            self._refuse(403, "ParentNotDirectoryException", f"{path} (is not a directory)")

    do_GET = do_PUT = do_DELETE = _handle

    def _status(self, file: pathlib.Path, suffix: str) -> dict[str, object]:
        status = file.stat()
        kind = "DIRECTORY" if file.is_dir() else "FILE"
        length = 0 if file.is_dir() else status.st_size
        return {"pathSuffix": suffix, "type": kind, "length": length, "modificationTime": int(status.st_mtime * 1000)}

    def _getfilestatus(self, path, file, query, body) -> None:
        self._answer({"FileStatus": self._status(file, "")})

    def _liststatus(self, path, file, query, body) -> None:
        entries = [(one, one.name) for one in sorted(file.iterdir())] if file.is_dir() else [(file, "")]
        self._answer({"FileStatuses": {"FileStatus": [self._status(*entry) for entry in entries]}})

    def _mkdirs(self, path, file, query, body) -> None:
        file.mkdir(parents=True, exist_ok=True)
        self._answer({"boolean": True})

    def _redirect(self) -> None:
        self._send(b"", 307, {"Location": f"http://{self.headers['Host']}{self.path}&datanode=1"})

    def _open(self, path, file, query, body) -> None:
        if "datanode" not in query:
            self._redirect()
            return
        start = int(query.get("offset", 0))
        self._send(file.read_bytes()[start : start + int(query["length"])] if "length" in query else file.read_bytes())

    def _create(self, path, file, query, body) -> None:
        if file.exists() and query.get("overwrite", "false").lower() != "true":
            self._refuse(403, "FileAlreadyExistsException", f"{path} already exists")
        elif "datanode" not in query:
            self._redirect()
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
            self._send(b"", 201)

    def _rename(self, path, file, query, body) -> None:
        target = self._local(query["destination"])
        if target.is_dir():
            target /= file.name
        can = file.exists() and not target.exists() and target.parent.is_dir()
        if can:
            os.rename(file, target)
        self._answer({"boolean": can})

    def _delete(self, path, file, query, body) -> None:
        there = file.exists()
        if file.is_dir():
            shutil.rmtree(file) if query["recursive"].lower() == "true" else file.rmdir()
        elif there:
            file.unlink()
        self._answer({"boolean": there})

    def log_message(self, *arguments) -> None:
        pass


def _no_fault(operation: str, path: str) -> None:
    pass


@contextlib.contextmanager
def serve(root: pathlib.Path, fault: Callable[[str, str], int | str | None] = _no_fault) -> Iterator[list[str]]:
    """Serves a local directory, in threads of this process.

    Args:
      root: The directory, for HDFS's own root.
      fault: Told of each operation and its path: an HTTP status to refuse it with, `LOST`, or None.

    Yields:
      Beam's options that a job needs to use it.
    """
    handler = type("Handler", (_Handler,), {"root": root, "fault": staticmethod(fault)})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            port = f"--hdfs_port={server.server_port}"
            yield ["--hdfs_host=127.0.0.1", port, f"--hdfs_user={USER}", "--hdfs_full_urls"]
        finally:
            server.shutdown()
            thread.join()
