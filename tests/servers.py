"""Servers on the loopback for tests of search and download: files over HTTP, a STAC API, and the S3 protocol.

The file server can misbehave in the ways that real ones do, and writes down every request. The STAC API knows what
the Copernicus one does of item search: collections, datetime, intersects, a filter in CQL2 JSON, and paging.
"""

import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import shapely

CHUNK = 16 * 1024


@dataclass(frozen=True)
class Request:
    """One request as the server saw it, and how it was answered."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    status: int
    sent: int  # bytes of the body that were sent


@dataclass(frozen=True)
class Fault:
    """How the next request goes wrong; each is used once, in order."""

    status: int | None = None  # answered instead of the file
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes, then the connection closes
    stall_after: int | None = None  # bytes, then nothing until `release`
    echo: bool = False  # the body of a refusal repeats the request's headers


@dataclass
class Served:
    """A file behind a path."""

    content: bytes
    etag: str | None = None
    ranges: bool = True
    chunked: bool = False  # no size beforehand, as from a zip made while it is sent
    location: str | None = None  # redirects there instead
    needs_token: str | None = None

    def __post_init__(self) -> None:
        if self.etag is None:
            self.etag = f'"{hashlib.md5(self.content).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Threads"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("content-length", 0))))

    def _answer(self, body: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self.server.owner.answer(self, body)

    def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> int:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return len(body)


class _Threads(ThreadingHTTPServer):
    daemon_threads = True
    owner: Any


class _Local:
    """A server in a thread, as a context manager."""

    def __init__(self) -> None:
        self._server = _Threads(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self.port: int = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class FileServer(_Local):
    """Files by path, with faults to come and a log of what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, Served] = {}
        self.faults: list[Fault] = []
        self.release = threading.Event()
        self.busy = self.busiest = 0  # requests at the same time, now and at most
        self.pause_s = 0.0  # before every answer, so that requests overlap
        self._log: list[Request] = []
        self._lock = threading.Condition()

    @property
    def log(self) -> list[Request]:
        """What was asked. A client may have read its answer before the server has noted it, so this waits for that."""
        with self._lock:
            self._lock.wait_for(lambda: self.busy == 0, timeout=5)  # but not for one that stalls on purpose
            return list(self._log)

    def sent(self, path: str) -> int:
        """Bytes of one file that were sent, over all requests."""
        return sum(each.sent for each in self.log if each.path == path)

    def answer(self, handler: _Handler, body: bytes) -> None:
        with self._lock:
            fault = self.faults.pop(0) if self.faults else Fault()
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
        time.sleep(self.pause_s)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        answered, sent = [0], [0]
        try:
            self._answer(handler, fault, headers, answered, sent)
        finally:
            with self._lock:
                self.busy -= 1
                self._log.append(Request(handler.command, handler.path, headers, answered[0], sent[0]))
                self._lock.notify_all()

    def _answer(self, handler: _Handler, fault: Fault, headers: dict[str, str], answered: list[int], sent: list[int]) -> None:
        if fault.status is not None:
            answered[0] = fault.status
            handler.reply(fault.status, json.dumps(headers).encode() if fault.echo else b"", fault.headers)
            return
        served = self.files.get(handler.path)
        if served is None:
            answered[0] = 404
            handler.reply(404)
            return
        if served.needs_token is not None and headers.get("authorization") != f"Bearer {served.needs_token}":
            answered[0] = 401
            handler.reply(401)
            return
        if served.location is not None:
            answered[0] = 302
            handler.reply(302, headers={"Location": served.location})
            return
        start, wanted = 0, headers.get("range", "")
        condition = headers.get("if-range")
        if wanted.startswith("bytes=") and served.ranges and condition in (None, served.etag):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        answered[0] = 206 if start else 200
        content = served.content[start:]
        handler.send_response(answered[0])
        if served.etag:
            handler.send_header("ETag", served.etag)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
        if served.chunked and not start:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        stop = min(limit for limit in (fault.cut_after, fault.stall_after, len(content)) if limit is not None)
        while sent[0] < stop:
            piece = content[sent[0] : min(stop, sent[0] + CHUNK)]
            framed = b"%x\r\n%s\r\n" % (len(piece), piece) if served.chunked and not start else piece
            handler.wfile.write(framed)
            sent[0] += len(piece)
        handler.wfile.flush()
        if fault.stall_after is not None:
            self.release.wait(30)
        if stop < len(content):
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif served.chunked and not start:
            handler.wfile.write(b"0\r\n\r\n")


class TokenServer(_Local):
    """Gives a token for one user name and password."""

    def __init__(self, username: str, password: str, token: str, expires_in: int = 600) -> None:
        super().__init__()
        self.expected, self.token, self.expires_in = (username, password), token, expires_in
        self.asked = 0

    def answer(self, handler: _Handler, body: bytes) -> None:
        from urllib.parse import parse_qs

        self.asked += 1
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        if (form.get("username"), form.get("password")) != self.expected or form.get("client_id") != "cdse-public":
            handler.reply(401, body)  # repeats what was sent
            return
        handler.reply(200, json.dumps({"access_token": self.token, "expires_in": self.expires_in}).encode())


class StacServer(_Local):
    """Item search over a list of items."""

    def __init__(self, items: list[dict[str, Any]], filters: bool = True) -> None:
        super().__init__()
        self.items, self.filters = items, filters
        self.searches: list[dict[str, Any]] = []
        self.broken: int | None = None  # status answered to every search

    def answer(self, handler: _Handler, body: bytes) -> None:
        path = handler.path.split("?")[0].rstrip("/")
        if path == "":
            self._json(handler, self._landing())
        elif path == "/conformance":
            self._json(handler, {"conformsTo": self._landing()["conformsTo"]})
        elif path == "/collections":
            self._json(
                handler, {"collections": [self._collection(name) for name in sorted({i["collection"] for i in self.items})], "links": []}
            )
        elif path == "/search" and handler.command == "POST":
            if self.broken is not None:
                handler.reply(self.broken)
                return
            asked = json.loads(body)
            self.searches.append(asked)
            self._json(handler, self._search(asked))
        else:
            handler.reply(404)

    def _json(self, handler: _Handler, content: dict[str, Any]) -> None:
        handler.reply(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _landing(self) -> dict[str, Any]:
        classes = ["core", "collections", "item-search"]
        classes += ["item-search#filter"] if self.filters else []
        conforms = [f"https://api.stacspec.org/v1.0.0/{name}" for name in classes]
        conforms += ["http://www.opengis.net/spec/cql2/1.0/conf/cql2-json"] if self.filters else []
        return {
            "type": "Catalog", "stac_version": "1.1.0", "id": "local", "description": "for tests", "conformsTo": conforms,
            "links": [
                {"rel": "self", "href": self.url}, {"rel": "root", "href": self.url},
                {"rel": "data", "href": f"{self.url}/collections"}, {"rel": "conformance", "href": f"{self.url}/conformance"},
                {"rel": "search", "href": f"{self.url}/search", "method": "POST", "type": "application/geo+json"},
                {"rel": "search", "href": f"{self.url}/search", "method": "GET", "type": "application/geo+json"},
            ],
        }  # fmt: skip

    def _collection(self, name: str) -> dict[str, Any]:
        extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
        return {
            "type": "Collection",
            "stac_version": "1.1.0",
            "id": name,
            "description": name,
            "license": "other",
            "extent": extent,
            "links": [],
        }

    def _search(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = [item for item in self.items if self._matches(item, asked)]
        start, limit = int(asked.get("token", 0)), int(asked.get("limit", 10))
        links = []
        if start + limit < len(found):
            links.append({"rel": "next", "href": f"{self.url}/search", "method": "POST", "body": asked | {"token": start + limit}})
        return {"type": "FeatureCollection", "features": found[start : start + limit], "links": links}

    def _matches(self, item: dict[str, Any], asked: dict[str, Any]) -> bool:
        if item["collection"] not in asked.get("collections", [item["collection"]]):
            return False
        if "datetime" in asked:
            first, last = (datetime.fromisoformat(text) for text in asked["datetime"].split("/"))
            if not first <= datetime.fromisoformat(item["properties"]["datetime"]) <= last:
                return False
        if "intersects" in asked and not shapely.geometry.shape(item["geometry"]).intersects(shapely.geometry.shape(asked["intersects"])):
            return False
        return "filter" not in asked or self._holds(item, asked["filter"])

    def _holds(self, item: dict[str, Any], condition: dict[str, Any]) -> bool:
        if condition["op"] == "and":
            return all(self._holds(item, each) for each in condition["args"])
        value, bound = item["properties"].get(condition["args"][0]["property"]), condition["args"][1]
        return value is not None and {"=": value == bound, "<=": value <= bound}[condition["op"]]


def stac_item(
    name: str,
    collection: str = "sentinel-2-l2a",
    lonlat: tuple[float, float] = (12.9, 48.2),
    cloud: float | None = 5.0,
    assets: dict[str, Any] | None = None,
    time: str | None = None,
) -> dict[str, Any]:
    """An item as the Copernicus catalogue writes it, with a footprint of two degrees around a place."""
    start = name.split("_")[4 if name.startswith("S1") else 2]
    moment = datetime.strptime(start, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    properties: dict[str, Any] = {"datetime": time or moment.isoformat().replace("+00:00", "Z")}
    if name.startswith("S2"):
        properties |= {"grid:code": f"MGRS-{name.split('_')[5][1:]}", "processing:version": f"{name[28:30]}.{name[30:32]}"}
        properties |= {"eo:cloud_cover": cloud} if cloud is not None else {}
    lon, lat = lonlat
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "collection": collection, "properties": properties, "links": [],
        "geometry": shapely.geometry.mapping(shapely.box(lon - 1, lat - 1, lon + 1, lat + 1)),
        "bbox": [lon - 1, lat - 1, lon + 1, lat + 1],
        "assets": assets if assets is not None else {"Product": zip_asset("https://download.dataspace.copernicus.eu/odata/v1/Products(1)/$value")},
    }  # fmt: skip


def zip_asset(href: str, content: bytes | None = None, **changes: Any) -> dict[str, Any]:
    """The asset ``Product``, with size and MD5 as a multihash."""
    promises = {} if content is None else {"file:size": len(content), "file:checksum": f"d50110{hashlib.md5(content).hexdigest()}"}
    return {"href": href, "type": "application/zip", "roles": ["data", "archive"], **promises, **changes}


@dataclass(frozen=True)
class S3Server:
    """A process that speaks the S3 protocol."""

    url: str

    def put(self, bucket: str, folder: Path, prefix: str) -> None:
        """Upload a folder."""
        client = self._client()
        client.create_bucket(Bucket=bucket)
        for path in sorted(item for item in folder.rglob("*") if item.is_file()):
            client.put_object(Bucket=bucket, Key=f"{prefix}/{path.relative_to(folder).as_posix()}", Body=path.read_bytes())

    @property
    def environment(self) -> dict[str, str]:
        """What names this server and its keys to a program."""
        return {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": "planted", "AWS_SECRET_ACCESS_KEY": "planted", "AWS_REGION": "us-east-1",
        }  # fmt: skip

    def _client(self) -> Any:
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id="planted", aws_secret_access_key="planted", region_name="us-east-1"
        )


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Start moto as its own process, so that its protocol is spoken over a real socket."""
    environment = {"PATH": str(shutil.which("env") or "/usr/bin"), "HOME": str(folder), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]  # a port that is free, which its log tells
    log = folder / "moto.log"
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
    try:
        end = time.monotonic() + 120
        while not (found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text())):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"moto did not start: {log.read_text()[-1000:]}")
            time.sleep(0.1)
        yield S3Server(found[1])
    finally:
        process.kill()
        process.wait(10)
