"""Servers that products come from: with which keys, over how many connections, how patiently, and what they answer.

Objects (``s3://``) come through obstore. Zips over ``https://`` come through httpx, because obstore neither tells
how long a server asks to wait (``Retry-After``) nor accepts a zip whose size is not known before it is made. Both
libraries are told never to try again: the one loop that does is in ``download``.

Keys are taken from the environment. They are sent to the Copernicus Data Space or to hosts that the environment
names, never to a host only because a catalogue named it, and no message holds what a server or a library said.
"""

import logging
import os
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urljoin, urlsplit

from rsdata import __version__
from rsdata.errors import DownloadError
from rsdata.foreign import drop_empty_variables
from rsdata.records import RemoteFile
from rsdata.scenes.catalogue import missing_extra

if TYPE_CHECKING:
    import httpx

CDSE_S3 = "https://eodata.dataspace.copernicus.eu"
CDSE_TOKEN = "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
CDSE_DOMAIN = "dataspace.copernicus.eu"
CONNECTIONS = 4  # what the Copernicus Data Space allows a general user. Source: its page on quotas and limitations.
TRIES = 5  # without progress
BACKOFF_S = 1.0  # doubles from try to try
MAX_BACKOFF_S = 60.0
MAX_WAIT_S = 600.0  # a server that asks for more is left alone until the command is repeated
SYNC_BYTES = 32 * 2**20  # a killed run loses at most so much
MAX_OBJECTS = 10_000  # no product has so many files
CHUNK_BYTES = 2**20
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

_log = logging.getLogger(__name__)


# --- keys -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Keys:
    """Credentials as the environment gives them; they show in no repr."""

    s3_access: str | None = field(default=None, repr=False)
    s3_secret: str | None = field(default=None, repr=False)
    s3_session: str | None = field(default=None, repr=False)
    s3_endpoint: str = CDSE_S3
    s3_region: str = "default"
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_url: str = CDSE_TOKEN
    token_hosts: tuple[str, ...] = ()  # beside the Copernicus Data Space, hosts that may see the token

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> "Keys":
        """``CDSE_S3_ACCESS_KEY`` and ``_SECRET``; ``CDSE_TOKEN``, else ``CDSE_USERNAME`` and ``CDSE_PASSWORD``.

        Without the former, ``AWS_ACCESS_KEY_ID`` and its fellows count, but only where an endpoint is named too: most
        often they belong to somebody else's store. Nor do the keys of one go to the endpoint of the other.
        """
        env = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
        endpoint = env.get("CDSE_S3_ENDPOINT")
        own = "CDSE_S3_ACCESS_KEY" in env
        if not own:
            endpoint = endpoint or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or _gdal_endpoint(env)
        theirs = env if not own and endpoint else {}
        return cls(
            s3_access=env["CDSE_S3_ACCESS_KEY"] if own else theirs.get("AWS_ACCESS_KEY_ID"),
            s3_secret=env.get("CDSE_S3_SECRET") if own else theirs.get("AWS_SECRET_ACCESS_KEY"),
            s3_session=theirs.get("AWS_SESSION_TOKEN"),
            s3_endpoint=endpoint or CDSE_S3,
            s3_region=(None if own else env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")) or "default",
            username=env.get("CDSE_USERNAME"),
            password=env.get("CDSE_PASSWORD"),
            token=env.get("CDSE_TOKEN"),
            token_url=env.get("CDSE_TOKEN_URL", CDSE_TOKEN),
            token_hosts=tuple(env.get("RSDATA_TOKEN_HOSTS", "").split(",")) if env.get("RSDATA_TOKEN_HOSTS") else (),
        )

    @property
    def for_s3(self) -> bool:
        return bool(self.s3_access and self.s3_secret)

    def may_see_token(self, url: str) -> bool:
        """Whether a token may go to this address: over TLS to the Copernicus Data Space, or to a host named for it."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        safe = parts.scheme == "https" or _is_loopback(host)
        ours = host == CDSE_DOMAIN or host.endswith(f".{CDSE_DOMAIN}")
        return safe and (ours or host in self.token_hosts or parts.netloc in self.token_hosts)


# --- one run ----------------------------------------------------------------------------------------------


class PassingError(Exception):
    """Worth another try."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class ChangedError(Exception):
    """The file at the server is not the one whose beginning lies here."""


class Session:
    """Connections of one run: how many at a time, how patient, and with which keys.

    Use it as a context manager. It may be shared between threads.
    """

    def __init__(
        self,
        keys: Keys | None = None,
        connections: int = CONNECTIONS,
        tries: int = TRIES,
        backoff_s: float = BACKOFF_S,
        sync_bytes: int = SYNC_BYTES,
    ) -> None:
        self.keys = keys or Keys.from_environment()
        self.connections = connections
        self.tries = tries
        self.backoff_s = backoff_s
        self.sync_bytes = sync_bytes
        self._slots = threading.BoundedSemaphore(connections)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._quiet_until: dict[str, float] = {}  # host to a time.monotonic() before which nothing is asked of it
        self._token: tuple[str, float] | None = None
        self._client: httpx.Client | None = None
        self._stores: dict[str, Any] = {}

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._client is not None:
            self._client.close()

    def stop(self) -> None:
        """Make every transfer end soon; what has come is kept."""
        self._stop.set()

    def check_stopped(self) -> None:
        if self._stop.is_set():
            raise DownloadError("stopped; what has come is kept, the same command goes on from there")

    @contextmanager
    def connection(self, host: str) -> Iterator[None]:
        """Wait for one of the connections, and for a host that asked not to be disturbed."""
        with self._slots:
            while (wait_s := self._quiet_until.get(host, 0.0) - time.monotonic()) > 0:
                self._stop.wait(wait_s)
                self.check_stopped()
            yield

    def be_quiet(self, host: str, seconds: float) -> None:
        """Ask nothing of a host for a while, on any connection."""
        with self._lock:
            self._quiet_until[host] = max(self._quiet_until.get(host, 0.0), time.monotonic() + seconds)

    def wait(self, seconds: float) -> None:
        self._stop.wait(seconds)
        self.check_stopped()

    @property
    def client(self) -> "httpx.Client":
        with self._lock:
            if self._client is None:
                try:
                    import httpx
                except ImportError:
                    raise missing_extra("httpx") from None
                self._client = httpx.Client(
                    timeout=httpx.Timeout(60, connect=15),
                    follow_redirects=False,
                    headers={"User-Agent": f"rsdata/{__version__}", "Accept-Encoding": "identity"},
                    limits=httpx.Limits(max_connections=self.connections + 1),
                )
            return self._client

    def store(self, bucket: str) -> Any:
        """The object store of one bucket at the endpoint that the environment names."""
        with self._lock:
            if bucket not in self._stores:
                try:
                    from obstore.store import S3Store
                except ImportError:
                    raise missing_extra("obstore") from None
                drop_empty_variables("AWS_")  # which count as not set for the keys, too
                keys = self.keys
                access: dict[str, Any] = {"skip_signature": True}
                if keys.for_s3:
                    given = {"access_key_id": keys.s3_access, "secret_access_key": keys.s3_secret}
                    given |= {"token": keys.s3_session, "expires_at": None}
                    access = {"credential_provider": lambda: given}  # so obstore adds no key of its own from the environment
                self._stores[bucket] = S3Store(
                    bucket,
                    endpoint=keys.s3_endpoint,
                    aws_endpoint_url_s3=keys.s3_endpoint,  # else the environment's would go first
                    region=keys.s3_region,
                    virtual_hosted_style_request=False,
                    client_options={
                        "allow_http": keys.s3_endpoint.startswith("http://"),
                        "user_agent": f"rsdata/{__version__}",
                        "connect_timeout": timedelta(seconds=15),
                        "read_timeout": timedelta(seconds=60),
                        "timeout": timedelta(hours=24),  # else a large object ends after 30 s
                    },
                    retry_config={"max_retries": 0},
                    **access,
                )
            return self._stores[bucket]

    def authorization(self, url: str) -> dict[str, str]:
        """The header that shows who asks, for hosts that may see it; tokens are fetched anew before they run out."""
        keys = self.keys
        if not keys.may_see_token(url):
            return {}
        if keys.token:
            return {"Authorization": f"Bearer {keys.token}"}
        if not (keys.username and keys.password):
            return {}
        client = self.client
        with self._lock:
            if self._token is None or self._token[1] < time.monotonic():
                self._token = _fetch_token(client, keys)
            return {"Authorization": f"Bearer {self._token[0]}"}


def _fetch_token(client: "httpx.Client", keys: Keys) -> tuple[str, float]:
    """A token for a user name and password, and when to ask for the next.

    Raises: DownloadError if they are refused; PassingError if the server is out of service.
    """
    import httpx

    host = urlsplit(keys.token_url).netloc
    form = {"client_id": "cdse-public", "grant_type": "password", "username": keys.username, "password": keys.password}
    try:
        response = client.post(keys.token_url, data=form)
        if response.status_code in _PASSING:
            raise PassingError(f"{host} answers {response.status_code}", _retry_after(response.headers.get("retry-after")))
        if response.status_code != 200:
            raise DownloadError(
                f"{host} gives no token ({response.status_code}); look at CDSE_USERNAME and CDSE_PASSWORD, or set CDSE_TOKEN", host=host
            )
        answer = response.json()
        return str(answer["access_token"]), time.monotonic() + max(5.0, float(answer.get("expires_in", 600)) - 30)
    except (ValueError, KeyError, TypeError):
        raise DownloadError(f"{host} answers with something else than a token; look at CDSE_TOKEN_URL", host=host) from None
    except httpx.HTTPError as error:
        raise PassingError(f"{host} cannot be reached ({type(error).__name__})") from None


# --- where bytes come from --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Body:
    """What a server sends: the bytes from ``start`` on of a file of ``size`` bytes."""

    start: int
    size: int | None
    mark: str | None
    chunks: Iterator[bytes]


class Source(Protocol):
    """A file at a server."""

    @property
    def host(self) -> str: ...

    def body(self, start: int, mark: str | None) -> AbstractContextManager[Body]: ...


@dataclass(frozen=True)
class HttpSource:
    """A file behind an address."""

    url: str
    name: str
    session: Session

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @contextmanager
    def body(self, start: int, mark: str | None) -> Iterator[Body]:
        client = self.session.client  # says so where httpx is missing
        import httpx

        headers = {}
        if start and mark:
            headers["Range"] = f"bytes={start}-"
            if not mark.startswith("W/"):  # a weak ETag may not be used as a condition
                headers["If-Range"] = mark
        try:
            with self._get(client, headers) as response:
                yield self._read(response)
        except httpx.HTTPError as error:
            raise PassingError(f"the connection to {self.host} broke ({type(error).__name__})") from None

    @contextmanager
    def _get(self, client: "httpx.Client", headers: dict[str, str]) -> "Iterator[httpx.Response]":
        """Ask, and follow redirects; the token goes only to hosts that may see it, and never from TLS to plain HTTP."""
        url = self.url
        for _ in range(6):
            request = client.build_request("GET", url, headers=headers | self.session.authorization(url))
            response = client.send(request, stream=True)
            target = response.headers.get("location")
            if response.status_code not in (301, 302, 303, 307, 308) or target is None:
                try:
                    yield response
                finally:
                    response.close()
                return
            response.close()
            following = urljoin(url, target)
            if urlsplit(following).scheme not in ("http", "https") or (url.startswith("https:") and following.startswith("http:")):
                raise DownloadError(f"{self.host} redirects {self.name} to an address without TLS; that is refused", host=self.host)
            url = following
        raise DownloadError(f"{self.host} redirects {self.name} in circles; search again for its present address", host=self.host)

    def _read(self, response: "httpx.Response") -> Body:
        status, headers = response.status_code, response.headers
        if status in (412, 416):
            raise ChangedError
        if status not in (200, 206):
            raise _refusal(status, self.host, self.name, "CDSE_USERNAME and CDSE_PASSWORD, or CDSE_TOKEN", headers.get("retry-after"))
        mark = headers.get("etag") or headers.get("last-modified")
        start, size = 0, _whole_number(headers.get("content-length"))
        if status == 206:
            match = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", headers.get("content-range", ""))
            if match is None:
                raise ChangedError
            start, size = int(match[1]), _whole_number(match[2])
        return Body(start, size, mark, response.iter_raw())


@dataclass(frozen=True)
class ObjectSource:
    """An object in a bucket."""

    href: str
    name: str
    session: Session

    @property
    def host(self) -> str:
        return urlsplit(self.session.keys.s3_endpoint).netloc

    @contextmanager
    def body(self, start: int, mark: str | None) -> Iterator[Body]:
        bucket, key = split_s3(self.href)
        store = self.session.store(bucket)  # says so where obstore is missing
        import obstore

        options: Any = {"range": {"offset": start}, "if_match": mark} if start and mark else {}
        with object_errors(self.host, self.name):
            result = obstore.get(store, key, options=options)
            meta = result.meta
            chunks = (bytes(chunk) for chunk in result.stream(min_chunk_size=CHUNK_BYTES))
            yield Body(result.range[0], meta["size"], meta["e_tag"] or meta["last_modified"].isoformat(), chunks)


def list_folder(folder: str, session: Session) -> list[RemoteFile]:
    """Every object below ``s3://bucket/…/<product>.SAFE``, by path.

    Raises: DownloadError if there are none, too many, or one whose path leaves the folder.
    """
    bucket, prefix = split_s3(folder)
    host = urlsplit(session.keys.s3_endpoint).netloc
    store = session.store(bucket)  # says so where obstore is missing
    import obstore

    tries = 0
    while True:
        files: list[RemoteFile] = []
        try:
            with session.connection(host), object_errors(host, folder):
                for page in obstore.list(store, prefix=prefix):
                    for meta in page:
                        inside = meta["path"].removeprefix(f"{prefix}/")
                        if inside and not inside.endswith("/"):
                            files.append(RemoteFile(path=inside, href=f"s3://{bucket}/{meta['path']}", bytes=meta["size"]))
                    if len(files) > MAX_OBJECTS:
                        raise DownloadError(f"{folder} holds more than {MAX_OBJECTS:,} objects; no product does, so look at its address")
            break
        except PassingError as error:
            tries += 1
            pause(session, host, error, tries)
    if not files:
        raise DownloadError(f"{folder} holds no objects at {host}; the product was removed or replaced, search again", folder=folder)
    for file in files:
        check_inside(file.path)
    return sorted(files, key=lambda file: file.path)


@contextmanager
def object_errors(host: str, name: str) -> Iterator[None]:
    """Turn obstore's errors into ours; its texts hold what the server said, so only the status is taken from them."""
    from obstore.exceptions import BaseError, PreconditionError

    try:
        yield
    except PreconditionError:
        raise ChangedError from None
    except FileNotFoundError:
        raise _refusal(404, host, name) from None
    except BaseError as error:
        text = str(error)
        status = re.search(r"status code: (\d{3})", text)
        if (status and status[1] == "416") or "Wanted range" in text:
            raise ChangedError from None
        if status:
            raise _refusal(int(status[1]), host, name, "CDSE_S3_ACCESS_KEY and CDSE_S3_SECRET") from None
        raise PassingError(f"the connection to {host} broke ({type(error).__name__})") from None


def _refusal(status: int, host: str, name: str, keys: str = "the keys", retry_after: str | None = None) -> Exception:
    """What an HTTP status other than success means for one file."""
    if status in _PASSING:
        return PassingError(f"{host} answers {status}", _retry_after(retry_after))
    said = {
        401: f"{host} wants to know who asks for {name} (401); set {keys} in the environment, or renew them",
        403: f"{host} refuses {name} (403); look whether {keys} are right, the account may fetch it, and its quota is not used up",
        404: f"{host} no longer has {name} (404); the product was removed or replaced, search again",
        410: f"{host} no longer has {name} (410); the product was removed or replaced, search again",
    }
    text = said.get(status, f"{host} answers {status} to a request for {name}; the product may be offline, so order it or try later")
    return DownloadError(text, status=status, host=host, file=name)


def source_of(href: str, name: str, session: Session) -> Source:
    """Where a file comes from, by its address.

    Raises: DownloadError if it is neither an address on the web nor an object.
    """
    scheme = urlsplit(href).scheme
    if scheme in ("http", "https"):
        return HttpSource(href, name, session)
    if scheme == "s3":
        return ObjectSource(href, name, session)
    raise DownloadError(f"{name} lies at an address that begins with {scheme!r}; expected https:// or s3://", file=name)


def pause(session: Session, host: str, error: PassingError, tries: int) -> None:
    """Wait before the next try: as long as the server asks for, else longer each time, and never all at once.

    Raises: DownloadError if that was the last try, or the server asks for more patience than a run has.
    """
    if tries >= session.tries:
        raise DownloadError(f"{error}, and did so {tries} times; what has come is kept, run the same command later", host=host) from None
    if error.wait_s is not None and error.wait_s > MAX_WAIT_S:
        raise DownloadError(
            f"{error} and asks to be left alone for {error.wait_s:.0f} s; what has come is kept, run the same command after that", host=host
        ) from None
    backoff_s = min(MAX_BACKOFF_S, session.backoff_s * 2 ** (tries - 1)) * random.uniform(0.5, 1.0)
    wait_s = max(backoff_s, error.wait_s or 0.0)
    _log.info("%s; next try in %.1f s", error, wait_s)
    if error.wait_s is not None:
        session.be_quiet(host, wait_s)
    session.wait(wait_s)


# --- addresses and headers --------------------------------------------------------------------------------


def check_inside(path: str) -> None:
    """See that a path from a server stays inside the product's folder.

    Raises: DownloadError if it does not.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path or PurePosixPath(path).as_posix() != path:
        raise DownloadError(f"the server names a file {path[:120]!r}, which would leave the product's folder; that is refused", file=path)


def split_s3(href: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``."""
    parts = urlsplit(href)
    return parts.netloc, parts.path.strip("/")


def public_href(href: str) -> str:
    """An address without user, password and query, any of which may hold a key."""
    parts = urlsplit(href)
    return f"{parts.scheme}://{quote(parts.netloc.rpartition('@')[2], safe=':[]')}{parts.path}"


def _retry_after(text: str | None) -> float | None:
    """Seconds that a server asks to wait, given as a number or as a date."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}", text.strip()):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d{1,18}", text) else None


def _gdal_endpoint(env: Mapping[str, str]) -> str | None:
    """The endpoint under the names GDAL knows, so that one environment serves pixels and whole files."""
    named = env.get("AWS_S3_ENDPOINT")
    if named is None or "://" in named:
        return named
    return f"http{'' if env.get('AWS_HTTPS', 'YES').upper() in ('NO', 'OFF', 'FALSE', '0') else 's'}://{named}"


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
