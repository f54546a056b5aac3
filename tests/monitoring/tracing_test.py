#!/usr/bin/env python3
"""Follows requests through gateway, router and workers by the spans that these send to a collector: one request is
one tree with right parents, whoever began the trace, and without tracing nothing is sent.

Usage: tracing_test.py CONCLAVE MODEL
"""
import collections
import contextlib
import http.server
import json
import sys
import threading

from watched import Watched, wait_for

STEPS = 3


class Collector:
    """Takes what OTLP/HTTP says a collector takes, and keeps the spans."""

    def __init__(self):
        self.spans: list[dict] = []
        self.wrong: list[str] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path != "/v1/traces" or self.headers["Content-Type"] != "application/json":
                    collector.wrong.append(f"{self.path} {self.headers['Content-Type']}")
                for resource in json.loads(body)["resourceSpans"]:
                    about = values_of(resource["resource"])
                    for scope in resource["scopeSpans"]:
                        collector.spans += [span | {"service": about["service.name"], "node": about["service.instance.id"]}
                                            for span in scope["spans"]]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def trace(self, trace_id: str) -> list[dict]:
        return [span for span in self.spans if span["traceId"] == trace_id]


def values_of(thing: dict) -> dict:
    return {one["key"]: next(iter(one["value"].values())) for one in thing.get("attributes", [])}


def ask(fleet: Watched, number: int, traceparent: str | None = None) -> None:
    body = {"model": fleet.model, "temperature": 0, "max_tokens": 16, "messages": [{"role": "user", "content": f"What is {number} + 385?"}]}
    headers = {"Content-Type": "application/json"} | ({"traceparent": traceparent} if traceparent else {})
    with contextlib.closing(fleet.connection()) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
        assert response.status == 200, (response.status, text)


def check_tree(spans: list[dict], parent: str) -> None:
    """`parent`: of the gateway's span; empty: it is the root."""
    by_name = collections.defaultdict(list)
    for span in spans:
        by_name[span["name"]].append(span)
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]), span
        assert "status" not in span, span
    assert set(by_name) == {"POST /v1/chat/completions", "generate", "step", "experts"}, dict(by_name)
    assert len({span["spanId"] for span in spans}) == len(spans), "a span id comes twice"

    [request] = by_name["POST /v1/chat/completions"]
    [stream] = by_name["generate"]
    assert request.get("parentSpanId", "") == parent and request["service"] == "conclave-gateway" and request["kind"] == 2, request
    assert stream["parentSpanId"] == request["spanId"] and stream["service"] == "conclave-router" and stream["kind"] == 2, stream
    steps = {step["spanId"]: step for step in by_name["step"]}
    assert len(steps) == STEPS, f"{len(steps)} steps"
    assert all(step["parentSpanId"] == stream["spanId"] and step["service"] == "conclave-router" for step in steps.values())
    layers = collections.defaultdict(set)
    for call in by_name["experts"]:
        assert call["parentSpanId"] in steps and call["service"] == "conclave-expert-worker", call
        step = steps[call["parentSpanId"]]
        # Clocks of one machine, read apart: a millisecond is much.
        assert int(call["startTimeUnixNano"]) >= int(step["startTimeUnixNano"]) - 1_000_000, (call, step)
        assert int(call["endTimeUnixNano"]) <= int(step["endTimeUnixNano"]) + 1_000_000, (call, step)
        layers[call["parentSpanId"]].add(values_of(call)["conclave.layer"])
    assert set(layers) == set(steps) and len({frozenset(one) for one in layers.values()}) == 1, f"steps without calls of all layers: {layers}"
    counted = values_of(request)
    assert counted["conclave.generated_tokens"] == values_of(stream)["conclave.generated_tokens"], (counted, stream)
    assert int(request["startTimeUnixNano"]) <= int(stream["startTimeUnixNano"]) + 1_000_000


def complete(collector: Collector, trace_id: str) -> list[dict] | None:
    """A trace whose spans have come from all three services, the router's and the gateway's last."""
    spans = collector.trace(trace_id)
    names = [span["name"] for span in spans]
    calls = {span["parentSpanId"] for span in spans if span["name"] == "experts"}
    steps = {span["spanId"] for span in spans if span["name"] == "step"}
    ends = {"POST /v1/chat/completions", "generate"} <= set(names)
    return spans if ends and len(steps) == STEPS and calls == steps else None


def main() -> int:
    conclave, model = sys.argv[1:3]
    with contextlib.closing(Collector()) as collector, \
            Watched(conclave, model, "--workers", "2", "--set", f"tracing.endpoint={collector.url}", "--set", "tracing.sample-ratio=0",
                    "--set", f"tracing.steps-max={STEPS}", nodes=6) as fleet:
        ask(fleet, 1)
        ask(fleet, 2, f"00-{'ab' * 16}-{'cd' * 8}-00")
        ask(fleet, 3, f"00-{'12' * 16}-{'34' * 8}-01")
        spans = wait_for("the spans of the traced request", lambda: complete(collector, "12" * 16))
        check_tree(spans, "34" * 8)
        others = {span["traceId"] for span in collector.spans} - {"12" * 16}
        assert not others, f"requests were traced that the ratio and their clients did not want: {others}"
        for service, node in fleet.admin:
            sent = fleet.scrape(service, node)
            assert 'conclave_trace_spans_total{outcome="failed"} 0' in sent and 'conclave_trace_spans_total{outcome="dropped"} 0' in sent, node
        assert not collector.wrong, collector.wrong

    with contextlib.closing(Collector()) as collector, \
            Watched(conclave, model, "--workers", "1", "--set", f"tracing.endpoint={collector.url}", "--set", "tracing.sample-ratio=1",
                    "--set", f"tracing.steps-max={STEPS}", nodes=5) as fleet:
        ask(fleet, 4)
        [trace_id] = wait_for("a trace of its own", lambda: {span["traceId"] for span in collector.spans})
        check_tree(wait_for("its spans", lambda: complete(collector, trace_id)), "")

    # A collector that is away costs spans, and nothing else.
    with Watched(conclave, model, "--workers", "1", "--set", "tracing.endpoint=http://127.0.0.1:1", "--set", "tracing.sample-ratio=1",
                 "--set", "tracing.queue-max=8", nodes=5) as fleet:
        for number in range(5):
            ask(fleet, number)
        wait_for("the router counts what nobody took",
                 lambda: any(line.startswith('conclave_trace_spans_total{outcome="failed"}') and not line.endswith(" 0")
                             for line in fleet.scrape("router", "router-1").splitlines()))
    print("tracing: 3 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
