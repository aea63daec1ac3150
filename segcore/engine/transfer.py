"""One attempt at bringing a file over HTTP, from where the last attempt ended."""

from __future__ import annotations

import json
import os
import re
import ssl
import sys
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from segcore.engine.fetched_file import Digest
from segcore.errors import WeightsError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
BROKEN = (ConnectionError, TimeoutError, HTTPException, ssl.SSLError)  # worth another try
BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses that are worth another try
CHUNK = 1 << 20  # bytes


class MissingFileError(WeightsError):
    """The server says that it has no such file."""


class _StartAnewError(ConnectionError):
    """The half file is of another version, so it was thrown away."""


def check_address(url: str) -> None:
    """WeightsError where others on the way could change what comes."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise WeightsError(
            f"{url}: weights are fetched over https only; give an https:// address, or download"
            " the file and give its path"
        )


class _Redirects(HTTPRedirectHandler):
    """Stays on safe addresses; remembers what the first server says of the file (a hub does)."""

    def __init__(self) -> None:
        self.size: int | None = None
        self.digest: Digest | None = None

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        check_address(newurl)
        if (size := headers.get("X-Linked-Size", "")).isdigit():
            self.size = int(size)
        if tag := re.fullmatch(r'"([0-9a-f]{64})"', headers.get("X-Linked-ETag", "")):
            self.digest = Digest(kind="sha256", start=tag[1])
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass(slots=True)
class Transfer:
    """A file on its way from `url` into `part`, which is gone on with if the file is the same.

    Beside `part` a note says which file it is of. `size` and `digest` of the whole are learned
    where the server says them.
    """

    url: str
    part: Path
    token: str = ""  # for the URL's own host
    size: int | None = None  # bytes
    digest: Digest | None = None

    @property
    def note(self) -> Path:
        """Holds the URL and the version of the half file."""
        return self.part.with_name(self.part.name + ".json")

    def have(self) -> int:
        """Bytes that have come."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def forget(self) -> None:
        """Throw away what has come."""
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def receive(self, timeout: float) -> None:
        """All that is missing, or one of BROKEN; what has come stays.

        Args:
            timeout: seconds without a byte.
        """
        version = self._version()
        with self._open(version, timeout) as response:
            start, total = _range(response) if response.status == 206 else (0, _length(response))
            theirs = _version_of(response)
            if response.status == 206 and (start != self.have() or theirs not in ("", version)):
                self.forget()  # some servers look at Range, but not at If-Range
                raise _StartAnewError("the file has changed at its source")
            if response.headers.get_content_type() == "text/html":
                raise WeightsError(f"{self.url}: a web page came instead of the file")
            if not start:
                self.note.write_text(
                    json.dumps({"url": self.url, "version": theirs}), encoding="utf-8"
                )
            self._copy(response, start, total)
        if total is not None and self.have() < total:
            raise ConnectionError(f"broken off after {self.have()} of {total} bytes")

    def _version(self) -> str:
        """Of the half file; "" where there is none that could be gone on with."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self.note.read_text(encoding="utf-8"))
            if note["url"] == self.url and self.have():
                return str(note["version"])
        return ""

    def _open(self, version: str, timeout: float) -> HTTPResponse:
        request = Request(
            self.url, headers={"Accept-Encoding": "identity", "User-Agent": "segcore"}
        )
        if self.token:  # never sent on to where the server redirects
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        if version:
            request.add_header("Range", f"bytes={self.have()}-")
            request.add_header("If-Range", version)
        redirects = _Redirects()
        try:
            response = build_opener(redirects).open(request, timeout=timeout)
        except HTTPError as error:
            raise self._refusal(error) from None
        except URLError as error:
            if isinstance(error.reason, BROKEN) and not isinstance(
                error.reason, ConnectionRefusedError | ssl.SSLCertVerificationError
            ):
                raise error.reason from None
            raise WeightsError(f"{self.url}: cannot be reached ({error.reason})") from None
        self.size = redirects.size or self.size
        self.digest = redirects.digest or self.digest
        return response

    def _refusal(self, error: HTTPError) -> Exception:
        """What an HTTP status of 400 and more means here."""
        if error.code == 416:  # there is nothing after what has come
            self.forget()
            return _StartAnewError("the half file is longer than the file")
        if error.code in BUSY:
            return ConnectionError(f"the server answers with status {error.code}")
        if error.code in (404, 410):
            return MissingFileError(f"{self.url}: the server has no such file ({error.code})")
        reason = f"status {error.code} {error.reason}"
        if error.code in (401, 403):
            reason += (
                "; access is refused: if this is a gated repository, accept its terms in a browser"
                " and set HF_TOKEN"
            )
        return WeightsError(f"{self.url}: {reason}")

    def _copy(self, response: HTTPResponse, start: int, total: int | None) -> None:
        """The response's body into the half file from byte `start` on."""
        columns = (
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(),
            TransferSpeedColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        console = Console(file=sys.stderr)
        bar = Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
        name = self.part.name.removesuffix(".part")
        with self.part.open("r+b" if start else "wb") as out, bar:
            out.seek(start)
            out.truncate()
            task = bar.add_task(name, total=total, completed=start)
            while chunk := _read(response):
                out.write(chunk)
                bar.advance(task, len(chunk))
            out.flush()
            os.fsync(out.fileno())  # or its new name may reach the disk before its content


def _read(response: HTTPResponse) -> bytes:
    """What has come, at least a byte; b"" at the end."""
    try:
        return response.read1(CHUNK)
    except OSError as error:  # must not be taken for trouble with the disk
        raise ConnectionError(str(error) or type(error).__name__) from error


def _length(response: HTTPResponse) -> int | None:
    """Bytes of the file, where the server says so."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _range(response: HTTPResponse) -> tuple[int, int | None]:
    """Of a part of a file: its first byte, and the bytes of the whole file."""
    text = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", text)
    if not match:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _version_of(response: HTTPResponse) -> str:
    """A strong ETag or a date: what If-Range takes."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
