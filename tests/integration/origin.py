"""A server that models come from, for tests: files by their path, with ranges and ETags, over HTTP and as S3
with signatures that are checked by this file's own reading of AWS's page (sig-v4-header-based-auth). It counts
what it sends and can break transfers, change, or be away. Standard library only."""
import hashlib
import hmac
import http.server
import pathlib
import re
import threading
import time
import urllib.parse

KEY, SECRET, REGION = "AKTEST", "a/secret+key", "eu-test-1"


class Origin:
    """A context manager. Knobs may be turned at any time."""

    def __init__(self):
        self.files: dict[str, pathlib.Path] = {}  # by URL path; those below /BUCKET/ of `buckets` are S3's
        self.buckets: set[str] = set()
        self.sent: dict[str, int] = {}  # bytes of bodies by path
        self.requests: list[tuple[str, str, int]] = []  # path, range, status
        self.break_every = 0  # bytes of an answer after which it breaks; 0: never
        self.status = 0  # of all answers; 0: what is right
        self.tag = "one"  # of all ETags
        self.change_after = 0  # bytes sent after which the tag is another one; 0: never
        self._lock = threading.Lock()
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments) -> None:
                pass

            def do_GET(self) -> None:
                origin._answer(self)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def total(self) -> int:
        with self._lock:
            return sum(self.sent.values())

    def __enter__(self) -> "Origin":
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # ---- one request

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = urllib.parse.urlsplit(request.path).path
        asked = request.headers.get("Range", "")
        status, body, headers = self._find(request, urllib.parse.unquote(path), asked)
        cut = self.break_every if 0 < self.break_every < len(body) else len(body)
        with self._lock:
            self.requests.append((path, asked, status))
            if status in (200, 206):
                self.sent[path] = self.sent.get(path, 0) + cut
                if self.change_after and sum(self.sent.values()) > self.change_after:
                    self.tag = "changed"
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        try:
            request.wfile.write(body[:cut])
        except OSError:
            pass  # it has heard enough
        if cut < len(body):
            request.close_connection = True

    def _find(self, request, path: str, asked: str) -> tuple[int, bytes, dict]:
        if self.status:
            return self.status, b"away", {}
        if path.split("/")[1] in self.buckets and not is_signed(request):
            return 403, b"<Code>SignatureDoesNotMatch</Code>", {}
        if path not in self.files:
            return 404, b"", {}
        tag = f'"{self.tag}-{path}"'
        if request.headers.get("If-Match", tag) != tag:
            return 412, b"", {}
        data = self.files[path].read_bytes()
        headers = {"ETag": tag, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
        if not wanted:
            return 200, data, headers
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return 206, data[first:last + 1], headers


def is_signed(request: http.server.BaseHTTPRequestHandler) -> bool:
    """Whether the request carries the signature that KEY and SECRET give it."""
    given = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?"
        r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})", request.headers.get("Authorization", ""))
    when = request.headers.get("x-amz-date", "")
    if not given or given[1] != KEY or given[3] != REGION or not re.fullmatch(r"\d{8}T\d{6}Z", when):
        return False
    day, names = given[2], given[4].split(";")
    now = time.strftime("%Y%m%dT%H%M", time.gmtime())
    if when[:8] != day or abs(int(when[9:11]) * 60 + int(when[11:13]) - int(now[9:11]) * 60 - int(now[11:])) > 15:
        return False
    if "host" not in names or names != sorted(names):
        return False
    if any(name.lower().startswith("x-amz-") and name.lower() not in names for name in request.headers):
        return False
    target = urllib.parse.urlsplit(request.path)
    canonical = "\n".join([
        request.command,
        urllib.parse.quote(urllib.parse.unquote(target.path), safe="/-_.~"),
        target.query,
        *(f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in names),
        "",
        ";".join(names),
        request.headers.get("x-amz-content-sha256", "")])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", when, f"{day}/{REGION}/s3/aws4_request",
                         hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + SECRET.encode()
    for part in (day, REGION, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.compare_digest(hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest(), given[5])
