#!/usr/bin/env python3
"""What strangers, mistakes and attackers send to the admin API of a real fleet, through its gateway, and
the status that each gets; nothing of it changes anything.

Usage: registry_hostile_test.py CONCLAVE MODEL
"""
import json
import pathlib
import socket
import sys

from registry_stack import Admin, admin_of
from stack import Stack

HUGE = "x" * (2 << 20)
LONG = "a" * 300
INJECTION = "x'%3B%20DROP%20TABLE%20version%3B--"

# (who, method, path, body, status); who: a key of KEYS.
CASES = [
    # Nobody, or nobody known.
    ("nobody", "GET", "/models", None, 401),
    ("nobody", "POST", "/models", {"name": "x"}, 401),
    ("nobody", "GET", "/openapi.json", None, 401),
    ("nobody", "GET", "/nothing", None, 401),
    ("nobody", "GET", "/workers", None, 401),
    ("guess", "GET", "/models", None, 401),
    ("guess", "DELETE", "/models/conclave-demo", None, 401),
    ("prefix", "GET", "/models", None, 401),
    ("injection", "GET", "/models", None, 401),
    ("revoked", "GET", "/models", None, 401),
    ("expired", "GET", "/models", None, 401),
    # Roles.
    ("inference", "GET", "/models", None, 403),
    ("inference", "GET", "/usage", None, 403),
    ("inference", "POST", "/keys", {"tenant": "acme", "role": "admin"}, 403),
    ("inference", "DELETE", "/models/conclave-demo", None, 403),
    ("read", "GET", "/models", None, 200),
    ("read", "GET", "/audit", None, 200),
    ("read", "POST", "/models", {"name": "x"}, 403),
    ("read", "POST", "/keys", {"tenant": "acme", "role": "admin"}, 403),
    ("read", "PUT", "/models/conclave-demo/aliases/current", {"version": 1}, 403),
    ("read", "POST", "/models/conclave-demo/versions/1:archive", None, 403),
    ("read", "POST", "/models/conclave-demo/versions/1:verify", None, 403),
    ("read", "DELETE", "/models/conclave-demo", None, 403),
    ("read", "PUT", "/quotas/acme", {"tokens_per_day": 1}, 403),
    # Injection: names are names, and what is none is refused; a filter that fits nothing finds nothing.
    ("admin", "GET", f"/models/{INJECTION}", None, 400),
    ("admin", "GET", "/models/x'%20OR%201=1--", None, 400),
    ("admin", "GET", f"/models?after={INJECTION}", None, 400),
    ("admin", "GET", "/models/%00", None, 400),
    ("admin", "GET", "/models/..%2F..%2Fetc%2Fpasswd", None, 400),
    ("admin", "POST", "/models", {"name": "x'; DROP TABLE model;--"}, 400),
    ("admin", "POST", "/models", {"name": "$1"}, 400),
    ("admin", "POST", "/models", {"name": "a\0b"}, 400),
    ("admin", "POST", "/tenants", {"name": "a\"; --"}, 400),
    ("admin", "GET", f"/usage?tenant={INJECTION}", None, 200),
    ("admin", "GET", "/usage?model=%25", None, 200),
    ("admin", "GET", "/audit?actor=%27%20OR%201%3D1", None, 200),
    ("admin", "GET", "/keys?tenant=%27", None, 200),
    ("admin", "DELETE", "/keys/key-1'--", None, 404),
    ("admin", "GET", f"/deployments/{INJECTION}", None, 400),
    # Oversized.
    ("admin", "POST", "/models", {"name": LONG}, 400),
    ("admin", "GET", f"/models/{LONG}", None, 400),
    ("admin", "POST", "/models", {"name": "a", "description": HUGE}, 413),
    ("admin", "POST", "/models", {"name": "a", "description": "x" * 100_000}, 400),
    ("admin", "GET", "/models?after=" + "a" * 12_000, None, 414),
    ("admin", "POST", "/models", "[" * 200_000, 400),
    ("admin", "GET", "/models?limit=1001", None, 400),
    ("admin", "GET", "/models?limit=99999999999999999999999", None, 400),
    ("admin", "GET", "/usage?from=0001-01-01&to=9999-12-31", None, 400),
    # Malformed.
    ("admin", "POST", "/models", "", 400),
    ("admin", "POST", "/models", "{", 400),
    ("admin", "POST", "/models", "null", 400),
    ("admin", "POST", "/models", [1], 400),
    ("admin", "POST", "/models", {"name": 7}, 400),
    ("admin", "POST", "/models", {"name": "a", "nonsense": 1}, 400),
    ("admin", "POST", "/models", {"name": "a", "tags": [1]}, 400),
    ("admin", "POST", "/models", b'{"name":"\xff"}', 400),
    ("admin", "GET", "/models?limit=0", None, 400),
    ("admin", "GET", "/models?limit=ten", None, 400),
    ("admin", "GET", "/models/conclave-demo/versions/one", None, 404),
    ("admin", "GET", "/models/conclave-demo/versions/4294967296", None, 404),
    ("admin", "GET", "/models/conclave-demo/versions/9", None, 404),
    ("admin", "POST", "/models/tiny/versions", {}, 400),
    ("admin", "POST", "/models/tiny/versions", {"uri": "relative.gguf"}, 400),
    ("admin", "POST", "/models/tiny/versions", {"uri": "/x", "draft": "yes"}, 400),
    ("admin", "POST", "/models/UPPER/versions", {"uri": "/x"}, 400),
    ("admin", "PUT", "/models/conclave-demo/aliases/production", {}, 400),
    ("admin", "PUT", "/models/conclave-demo/aliases/production", {"version": -1}, 400),
    ("admin", "PUT", "/models/conclave-demo/aliases/production", {"version": 1.5}, 400),
    ("admin", "PUT", "/models/conclave-demo/aliases/production", {"version": 9}, 404),
    ("admin", "PUT", "/models/conclave-demo/aliases/current", {"version": 1, "if_version": 3}, 412),
    ("admin", "POST", "/models/conclave-demo/versions/1:archive", None, 409),
    ("admin", "DELETE", "/models/conclave-demo", None, 409),
    ("admin", "PUT", "/deployments/chat", {"split": []}, 400),
    ("admin", "PUT", "/deployments/chat", {"split": [{"reference": "nobody:1"}]}, 404),
    ("admin", "PUT", "/quotas/nobody", {"tokens_per_day": 1}, 404),
    ("admin", "POST", "/keys", {"tenant": "nobody"}, 404),
    ("admin", "POST", "/keys", {"tenant": "acme", "role": "root"}, 400),
    ("admin", "GET", "/usage?from=2025-02-30", None, 400),
    ("admin", "GET", "/usage?by=moon", None, 400),
    ("admin", "GET", "/audit?after=-1", None, 400),
    ("admin", "GET", "/operations/op-9-9", None, 404),
    ("admin", "GET", "/nothing", None, 404),
    ("admin", "PATCH", "/models", {}, 405),
    ("admin", "BREW", "/models", None, 405),
]

# Whole requests of their own; what comes back must begin with this status.
RAW = [
    (b"GET /admin/v1/models HTTP/9.9\r\nHost: x\r\n\r\n", (400, 505)),
    (b"GET /admin/v1/mod els HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    (b"POST /admin/v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", (400,)),
    (b"GET /admin/v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YTpi\r\n\r\n", (401,)),
    (b"GET /admin/v1/models HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", (431,)),
]


def keys_of(admin: Admin) -> dict[str, str | None]:
    def make(**key) -> dict:
        status, body, _ = admin.call("POST", "/keys", {"tenant": "acme", **key})
        assert status == 201, body
        return body
    assert admin.call("POST", "/tenants", {"name": "acme"})[0] == 201
    revoked = make(role="admin")
    assert admin.call("DELETE", f"/keys/{revoked['id']}")[0] == 200
    expired = make(role="admin", expires_unix_ms=1)
    return {"nobody": None, "guess": "sk-conclave-" + "A" * 43, "prefix": admin.key[:-1],
            "injection": "' OR 1=1 --", "admin": admin.key, "revoked": revoked["secret"],
            "expired": expired["secret"], "read": make(role="read")["secret"],
            "inference": make(role="inference")["secret"]}


def raw_status(port: int, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    return int(answer.split()[1]) if answer.startswith(b"HTTP/") else 0


def main() -> int:
    conclave, model = sys.argv[1:3]
    with Stack(conclave, "up", "-m", model, "--workers", "1") as stack:
        admin = admin_of(stack)
        keys = keys_of(admin)
        before = [admin.get("/models"), admin.list("/audit"), admin.get("/keys?limit=1000")]
        wrong = []
        for who, method, path, body, expected in CASES:
            status, told, headers = Admin(stack.port, keys[who]).call(method, path, body)
            is_told = status < 400 or isinstance(told.get("error", {}).get("message"), str)
            leaks = any(secret and secret in json.dumps(told) for secret in keys.values())
            if status != expected or not is_told or leaks:
                wrong.append((who, method, path[:80], str(body)[:60], expected, status, str(told)[:200]))
        for request, expected in RAW:
            status = raw_status(stack.port, request)
            if status not in expected:
                wrong.append((request[:60], expected, status))
        after = [admin.get("/models"), admin.list("/audit"), admin.get("/keys?limit=1000")]
        assert before == after, "something of it was done"
        assert admin.verify_audit()["ok"]
        print(f"{len(CASES) + len(RAW)} hostile calls, {len(wrong)} with another status than expected")
        print("\n".join(map(str, wrong)))
        # Its key is 0600, and no process shows it on its command line.
        key_file = pathlib.Path(stack.state.name) / "admin.key"
        assert key_file.stat().st_mode & 0o777 == 0o600
        for pid in stack.pids().values():
            assert admin.key.encode() not in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
