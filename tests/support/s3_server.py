"""A small server that speaks S3's REST protocol: whole objects, ranges, uploads in parts, lists and removal.

It checks no signatures and holds everything in memory. The client in the tests is Arrow's, which is AWS's own SDK.
"""

import hashlib
import itertools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_WHEN, _WHEN_HTTP = "2026-01-01T00:00:00.000Z", "Thu, 01 Jan 2026 00:00:00 GMT"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Say nothing."""

    def _asked(self) -> tuple[str, dict[str, str]]:
        """Key (bucket/name) and query."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        return unquote(url.path).strip("/"), query

    def _body(self) -> bytes:
        data = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self._sized()
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return data
        whole, at = b"", 0
        while True:
            end = data.index(b"\r\n", at)
            size = int(data[at:end].split(b";")[0], 16)
            if size == 0:
                return whole
            whole += data[end + 2 : end + 2 + size]
            at = end + 2 + size + 2

    def _sized(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> bytes:
        whole = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return whole

    def _answer(self, code: int, body: bytes = b"", kind: str = "application/xml", **headers: str) -> None:
        self.server.requests.append((self.command, self.path))
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", kind)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self) -> None:
        self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")

    def do_HEAD(self):
        """Size of an object; a bucket exists as soon as it is named."""
        key, _ = self._asked()
        if "/" not in key:
            return self._answer(200, x_amz_bucket_region="us-east-1")
        data = self.server.objects.get(key)
        if data is None:
            return self._missing()
        return self._answer(200, Content_Length=str(len(data)), ETag=_tag(data), Last_Modified=_WHEN_HTTP)

    def do_GET(self):
        """An object, a range of it, or a list."""
        key, query = self._asked()
        if "/" not in key:
            return self._answer(200, self._listed(key, query))
        data = self.server.objects.get(key)
        if data is None:
            return self._missing()
        told = {"ETag": _tag(data), "Last_Modified": _WHEN_HTTP, "Accept_Ranges": "bytes"}
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not found:
            return self._answer(200, data, "application/octet-stream", **told)
        first, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
        told["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
        return self._answer(206, data[first : last + 1], "application/octet-stream", **told)

    def _listed(self, bucket: str, query: dict[str, str]) -> bytes:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        names = sorted(key.partition("/")[2] for key in self.server.objects if key.startswith(f"{bucket}/"))
        names, folders, held = [name for name in names if name.startswith(prefix)], [], []
        for name in names:
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.append(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                held.append(name)
        entries = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(self.server.objects[f'{bucket}/{name}'])}</Size>"
            f"<LastModified>{_WHEN}</LastModified><ETag>&quot;0&quot;</ETag><StorageClass>STANDARD</StorageClass>"
            "</Contents>"
            for name in held
        ) + "".join(f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>" for p in dict.fromkeys(folders))
        count = len(held) + len(set(folders))
        return (
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{escape(bucket)}</Name>'
            f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        ).encode()

    def do_PUT(self):
        """An object, or a part of one."""
        key, query = self._asked()
        data = self._body()
        if "uploadId" in query:
            self.server.parts.setdefault(query["uploadId"], {})[int(query["partNumber"])] = data
        elif "/" in key:
            self.server.objects[key + ("/" if urlsplit(self.path).path.endswith("/") else "")] = data
        self._answer(200, ETag=_tag(data))

    def do_POST(self):
        """Begin or end an upload in parts, or remove several objects."""
        key, query = self._asked()
        data = self._body()
        if "uploads" in query:
            number = str(next(self.server.numbers))
            self.server.parts[number] = {}
            name = f"<UploadId>{number}</UploadId>"
            return self._answer(200, f"<InitiateMultipartUploadResult>{name}</InitiateMultipartUploadResult>".encode())
        if "uploadId" in query:
            parts = self.server.parts.pop(query["uploadId"])
            self.server.objects[key] = b"".join(parts[number] for number in sorted(parts))
            body = f"<CompleteMultipartUploadResult><ETag>{_tag(b'')}</ETag></CompleteMultipartUploadResult>"
            return self._answer(200, body.encode())
        for name in re.findall(rb"<Key>([^<]*)</Key>", data):
            self.server.objects.pop(f"{key}/{name.decode()}", None)
        return self._answer(200, b"<DeleteResult></DeleteResult>")

    def do_DELETE(self):
        """Remove an object."""
        key, _ = self._asked()
        self.server.objects.pop(key, None)
        self._answer(204)


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


@contextmanager
def s3_server() -> Iterator[ThreadingHTTPServer]:
    """A running server with `objects` (bucket/name -> content) and `requests` (method, path); any bucket exists."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.objects, server.parts, server.requests, server.numbers = {}, {}, [], itertools.count(1)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
