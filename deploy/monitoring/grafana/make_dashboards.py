#!/usr/bin/env python3
"""Writes dashboards/*.json, which Grafana reads as they are. Each panel is a line here; what they look like is
said once. `--check`: says whether the files are what this program writes.

A panel that shows what is rare ends in `or vector(0)` where its series come only with the first event: "no data" is
then always a fault. tests/monitoring/dashboards_test.py holds every query to that.
"""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24  # columns of Grafana's grid
COLORS = {"mode": "continuous-GrYlRd"}


def query(expr: str, legend: str = "", instant: bool = False) -> dict:
    made = {"datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto"}
    return made | ({"instant": True, "range": False, "format": "table"} if instant else {"range": True})


def panel(kind: str, title: str, targets: list[dict], unit: str, width: int, height: int, what: str, **more) -> dict:
    for index, target in enumerate(targets):
        target["refId"] = chr(ord("A") + index)
    return {"type": kind, "title": title, "description": what, "datasource": SOURCE, "targets": targets,
            "fieldConfig": {"defaults": {"unit": unit} | more.pop("defaults", {}), "overrides": []},
            "gridPos": {"w": width, "h": height}, **more}


def series(title: str, unit: str, *queries: tuple[str, str], what: str = "", width: int = 8, stacked: bool = False,
           **defaults) -> dict:
    custom = {"fillOpacity": 10, "showPoints": "never"} | ({"stacking": {"mode": "normal"}} if stacked else {})
    return panel("timeseries", title, [query(*one) for one in queries], unit, width, 8, what,
                 defaults={"custom": custom, "min": 0} | defaults,
                 options={"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}})


def number(title: str, unit: str, expr: str, what: str = "", good: str = "", **defaults) -> dict:
    """`good`: what is green: "high" (1 and more), "low" (0), or a list of steps."""
    steps = {"high": [("red", None), ("green", 1)], "low": [("green", None), ("red", 1e-9)], "": [("text", None)]}
    made = [{"color": color, "value": value} for color, value in steps[good]] if isinstance(good, str) else good
    return panel("stat", title, [query(expr)], unit, 4, 4, what,
                 defaults={"thresholds": {"mode": "absolute", "steps": made}} | defaults,
                 options={"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"})


def matrix(title: str, unit: str, expr: str, what: str) -> dict:
    """A heat map of layer x expert: a table whose cells are coloured by their value."""
    return panel("table", title, [query(expr, instant=True)], unit, WIDTH, 12, what,
                 defaults={"color": COLORS, "custom": {"cellOptions": {"type": "color-background", "mode": "basic"}, "width": 56,
                                                       "align": "center"}},
                 transformations=[{"id": "groupingToMatrix",
                                   "options": {"columnField": "expert", "rowField": "layer", "valueField": "Value"}}],
                 options={"showHeader": True})


def buckets(title: str, expr: str, what: str) -> dict:
    target = query(expr, "{{le}}") | {"format": "heatmap"}
    return panel("heatmap", title, [target], "s", 12, 8, what,
                 options={"calculate": False, "yAxis": {"unit": "s"}, "color": {"mode": "scheme", "scheme": "Spectral"}})


def listing(title: str, unit: str, expr: str, what: str, width: int = 12) -> dict:
    return panel("table", title, [query(expr, instant=True)], unit, width, 8, what,
                 transformations=[{"id": "organize", "options": {"excludeByName": {"Time": True, "__name__": True}}}],
                 options={"showHeader": True})


def choice(name: str, label_of: str, label: str) -> dict:
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "refresh": 2, "includeAll": True,
            "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
            "query": {"query": f"label_values({label_of})", "refId": name}}


def dashboard(uid: str, title: str, panels: list[dict | str], choices: list[dict] | None = None) -> dict:
    """Panels fill rows from the left; a string begins a titled row."""
    x = y = row_height = 0
    placed = []
    for index, one in enumerate(panels, 1):
        if isinstance(one, str):
            y, x, row_height = y + row_height, 0, 1
            one = {"type": "row", "title": one, "collapsed": False, "panels": [], "gridPos": {"w": WIDTH, "h": 1}}
        elif x + one["gridPos"]["w"] > WIDTH:
            y, x, row_height = y + row_height, 0, 0
        one["id"] = index
        one["gridPos"] |= {"x": x, "y": y}
        x += one["gridPos"]["w"]
        row_height = max(row_height, one["gridPos"]["h"])
        placed.append(one)
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1}
    return {"uid": uid, "title": title, "tags": ["conclave"], "editable": False, "schemaVersion": 38, "version": 1,
            "refresh": "10s", "time": {"from": "now-30m", "to": "now"}, "timezone": "browser",
            "links": [{"type": "dashboards", "tags": ["conclave"], "title": "Conclave", "asDropdown": True}],
            "templating": {"list": [source, *(choices or [])]}, "panels": placed}


def rate(name: str, by: str = "", where: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ''}(rate({name}{{{where}}}[$__rate_interval]))"


def quantile(share: float, histogram: str, by: str = "", where: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket{{{where}}}[$__rate_interval])))"


def overview() -> dict:
    return dashboard("conclave-overview", "Conclave / Overview", [
        number("Nodes that do not answer", "short", 'count(up{job="conclave"} == 0) or vector(0)', good="low"),
        number("Experts without a copy", "short", "max(conclave_scheduler_experts) - max(conclave_scheduler_experts_ready)",
               "Tokens that want one of them wait", good="low"),
        number("Routers", "short", "min(conclave_gateway_routers_up)", "That take requests, as the worst gateway sees it", good="high"),
        number("Requests", "reqps", 'sum(rate(conclave_gateway_http_requests_total{path=~"/v1/.*"}[$__rate_interval]))'),
        number("Requests that fail", "percentunit", "conclave:request_errors:ratio5m", "5xx of the last five minutes", good="low"),
        number("Alerts", "short", 'count(ALERTS{alertname=~"Conclave.*", alertstate="firing"}) or vector(0)', good="low"),
        "Requests",
        series("Requests by path", "reqps", (rate("conclave_gateway_http_requests_total", "path"), "{{path}}"), stacked=True),
        series("Requests by status", "reqps", (rate("conclave_gateway_http_requests_total", "status"), "{{status}}"), stacked=True),
        series("Running and waiting", "short", ("sum by (model_name) (vllm:num_requests_running)", "{{model_name}} running"),
               ("sum by (model_name) (vllm:num_requests_waiting)", "{{model_name}} waiting"),
               what="Waiting: no token yet"),
        series("Tokens", "short", (rate("vllm:prompt_tokens_total", "model_name"), "{{model_name}} prompt"),
               (rate("vllm:generation_tokens_total", "model_name"), "{{model_name}} generated"), what="A second"),
        series("Time to the first token", "s", (quantile(0.5, "vllm:time_to_first_token_seconds"), "half within"),
               (quantile(0.95, "vllm:time_to_first_token_seconds"), "95 % within")),
        series("Time between tokens", "s", (quantile(0.5, "vllm:inter_token_latency_seconds"), "half within"),
               (quantile(0.99, "vllm:inter_token_latency_seconds"), "99 % within")),
        "Fleet",
        series("Nodes", "short", ("sum by (role, state) (conclave_scheduler_nodes) > 0", "{{role}} {{state}}"), stacked=True),
        series("Processes that are ready", "short", ("sum by (service) (conclave_ready)", "{{service}}"), stacked=True),
        series("Placement", "short", (rate("conclave_scheduler_plans_total"), "plans"), (rate("conclave_scheduler_moves_total"), "moves of experts"),
               what="A second"),
        series("Links refused", "short", (rate("conclave_fabric_refused_total", "service, reason") + " > 0 or vector(0)", "{{service}} {{reason}}"),
               what="What links turned away: strangers, malformed or oversized frames"),
        series("Control messages", "short", (rate("conclave_fabric_messages_total", "kind", 'direction="in"'), "{{kind}}"), stacked=True),
        series("Registry", "reqps", (rate("conclave_registry_requests_total", "request, outcome"), "{{request}} {{outcome}}"),
               (rate("conclave_registry_stale_answers_total"), "answered without the database"), what="Requests answered"),
    ])


def experts() -> dict:
    chosen = 'model=~"$model"'
    return dashboard("conclave-experts", "Conclave / Experts", [
        number("Experts", "short", "max(conclave_scheduler_experts)"),
        number("Without a copy", "short", "max(conclave_scheduler_experts) - max(conclave_scheduler_experts_ready)", good="low"),
        number("Fewest copies", "short", f"min(conclave_scheduler_expert_replicas{{{chosen}}})",
               "1: the loss of one worker may stop tokens", good=[{"color": "red", "value": None}, {"color": "orange", "value": 1},
                                                                  {"color": "green", "value": 2}]),
        number("Not shown one by one", "short", "max(conclave_scheduler_expert_series_left_out)",
               "More experts than scheduler.expert-series-max: the heat maps below are empty"),
        number("Pairs", "short", rate("conclave_router_expert_pairs_total"), "A second, of all routers"),
        number("Refused by workers", "short", 'sum(conclave_expert_worker_loads_total{outcome="refused"})',
               "Experts whose bytes are not those that were registered", good="low"),
        "Layer x expert",
        matrix("Load", "short", f"sum by (layer, expert) (conclave_scheduler_expert_pairs_per_second{{{chosen}}})", "Pairs a second"),
        matrix("Copies", "short", f"sum by (layer, expert) (conclave_scheduler_expert_replicas{{{chosen}}})", "Ready copies"),
        matrix("Time for a pair", "s", f"avg by (layer, expert) (conclave_scheduler_expert_pair_seconds{{{chosen}}})",
               "Mean of the workers that have the expert, computing alone"),
        "Balance",
        series("Hottest expert by the mean", "short", (f"max by (layer) (conclave_scheduler_layer_load_max_over_mean{{{chosen}}})", "layer {{layer}}"),
               what="1: all experts of the layer alike"),
        series("Evenness", "short", (f"min by (layer) (conclave_scheduler_layer_load_entropy{{{chosen}}})", "layer {{layer}}"),
               what="Normalised entropy: 1 all alike, 0 all to one", max=1),
        series("Hottest experts", "short", (f"topk(10, conclave_scheduler_expert_pairs_per_second{{{chosen}}})", "({{layer}}, {{expert}})"),
               what="Pairs a second"),
        "Calls",
        series("A layer, from pairs to outputs", "s", (quantile(0.5, "conclave_router_expert_layer_seconds"), "half within"),
               (quantile(0.95, "conclave_router_expert_layer_seconds"), "95 % within"),
               (quantile(0.99, "conclave_router_expert_layer_seconds"), "99 % within")),
        series("Calls", "short", (rate("conclave_router_expert_calls_total"), "calls"), (rate("conclave_router_expert_pairs_total"), "pairs"), what="A second"),
        series("Calls that did not go well", "short", *[(rate(f"conclave_router_expert_{name}_total"), label) for name, label in
                                                       [("resends", "sent again"), ("hedges", "hedged"), ("late_answers", "answered late"),
                                                        ("suspects", "missed a deadline"), ("stalls", "nobody had the expert")]], what="A second"),
        series("Pairs done without the gate's choice", "short", (rate("conclave_router_degraded_pairs_total"), "degraded pairs"), what="A second"),
        series("Experts loaded", "short", (rate("conclave_expert_worker_loads_total", "outcome"), "{{outcome}}"), what="A second"),
        series("Requests without some experts", "short", (rate("conclave_gateway_degraded_requests_total", "policy"), "{{policy}}"), what="A second"),
    ], [choice("model", "conclave_scheduler_layer_load_entropy, model", "Version")])


def workers() -> dict:
    def share(above: str, below: str, by: str = "instance") -> str:
        return f"sum by ({by}) (rate({above}[$__rate_interval])) / sum by ({by}) (rate({below}[$__rate_interval]))"
    worker = "conclave_expert_worker_"
    return dashboard("conclave-workers", "Conclave / Workers and devices", [
        "Expert workers",
        listing("Devices", "short", f"count by (instance, device, isa) ({worker}device_info)", "What each worker computes on"),
        listing("Experts and memory", "bytes", f"sum by (instance) ({worker}expert_bytes)", "Memory that each worker's experts take"),
        series("Busy", "percentunit", (f"sum by (instance) (rate({worker}compute_seconds_total[$__rate_interval]))", "{{instance}}"),
               what="Share of the time in kernels", max=1),
        series("Pairs", "short", (rate(worker + "pairs_total", "instance"), "{{instance}}"), what="Computed a second"),
        series("Time for a pair", "s", (share(worker + "compute_seconds_total", worker + "pairs_total"), "{{instance}}")),
        series("Wait of a call", "s", (share(worker + "queue_seconds_total", worker + "calls_total"), "{{instance}}"), what="Mean, before it is computed"),
        series("Calls computed together", "percentunit", (share(worker + "merged_calls_total", worker + "calls_total"), "{{instance}}"),
               what="Of several routers, in one batch", max=1),
        series("Memory", "percentunit", (f"sum by (instance) ({worker}expert_bytes) / sum by (instance) ({worker}memory_bytes)", "{{instance}}"),
               what="Of experts, of what they may take", max=1),
        series("Experts", "short", (f"sum by (instance) ({worker}experts)", "{{instance}}"), what="Hosted"),
        series("Data calls by road", "short", (rate("conclave_fabric_data_calls_total", "road", 'end="server", outcome="ok"'), "{{road}}"), what="A second"),
        series("Data calls that failed", "short", (rate("conclave_fabric_data_calls_total", "outcome", 'end="client", outcome!="ok"'), "{{outcome}}"), what="A second, as routers see them"),
        series("Data bytes", "Bps", (rate("conclave_fabric_data_bytes_total", "direction, road", 'end="server"'), "{{direction}} {{road}}")),
        "Routers",
        series("Sequences", "short", ("sum by (instance) (conclave_router_sequences_running)", "{{instance}} running"),
               ("sum by (instance) (conclave_router_sequences_waiting)", "{{instance}} waiting")),
        series("KV cache in use", "percentunit", ("sum by (instance) (conclave_router_kv_tokens_used) / sum by (instance) (conclave_router_kv_tokens_max)", "{{instance}}"), max=1),
        series("Prompt tokens found in the prefix cache", "percentunit",
               (share("conclave_router_prefix_cache_hit_tokens_total", "conclave_router_prefix_cache_queried_tokens_total"), "{{instance}}"), max=1),
        series("Tokens", "short", (rate("conclave_router_prompt_tokens_total", "instance"), "{{instance}} prompt"),
               (rate("conclave_router_generated_tokens_total", "instance"), "{{instance}} generated"), what="A second"),
        series("Steps", "short", (rate("conclave_router_steps_total", "instance"), "{{instance}}"), what="A second"),
        series("Preemptions", "short", (rate("conclave_router_preemptions_total", "instance"), "{{instance}}"),
               what="Sequences that gave their blocks back, a second: the KV cache is too small"),
    ])


def slo() -> dict:
    budget = [{"color": "red", "value": None}, {"color": "orange", "value": 0.25}, {"color": "green", "value": 0.5}]
    return dashboard("conclave-slo", "Conclave / Gateway SLO", [
        number("Availability, 30 days", "percentunit", "1 - conclave:request_errors:ratio30d", "Requests that did not end with a 5xx; the objective is 99.9 %",
               good=[{"color": "red", "value": None}, {"color": "green", "value": 0.999}], decimals=3),
        number("Error budget left", "percentunit", "1 - conclave:request_errors:ratio30d / 0.001", "Of the 0.1 % that may fail in 30 days", good=budget),
        number("Budget burnt now", "short", "conclave:request_errors:ratio1h / 0.001", "Times as fast as the 30 days allow; a page from 14.4 on"),
        number("First token, 95 % within", "s", "max(conclave:time_to_first_token:p95_5m)"),
        number("Between tokens, 99 % within", "s", "max(conclave:inter_token_latency:p99_5m)"),
        number("Streams open", "short", "sum(conclave_gateway_streams)"),
        "Availability",
        series("Requests that fail", "percentunit", ("conclave:request_errors:ratio5m", "5 minutes"), ("conclave:request_errors:ratio1h", "1 hour"),
               ("conclave:request_errors:ratio6h", "6 hours")),
        series("Refused", "reqps", (rate("conclave_gateway_http_requests_total", "status", 'status=~"4..", path=~"/v1/.*"') + " or vector(0)", "{{status}}"),
               (rate("conclave_gateway_http_rejected_total"), "by the HTTP server"), what="4xx; 429 is this gateway's own bound"),
        series("Choices by how they ended", "short", (rate("vllm:request_success_total", "finished_reason"), "{{finished_reason}}"), what="A second", stacked=True),
        "Latency",
        buckets("Time to the first token", "sum by (le) (increase(vllm:time_to_first_token_seconds_bucket[$__rate_interval]))", "Requests by how long they waited"),
        buckets("Time between tokens", "sum by (le) (increase(vllm:inter_token_latency_seconds_bucket[$__rate_interval]))", "Tokens by the gap before them"),
        series("Whole requests", "s", (quantile(0.5, "vllm:e2e_request_latency_seconds"), "half within"), (quantile(0.95, "vllm:e2e_request_latency_seconds"), "95 % within")),
        series("The gateway's own time", "s", (quantile(0.99, "conclave_gateway_dispatch_seconds"), "to a router, 99 % within"),
               (quantile(0.99, "conclave_gateway_delivery_seconds"), "to the client, 99 % within")),
        series("Tokens of requests", "short", (quantile(0.95, "vllm:request_prompt_tokens"), "prompt, 95 % below"),
               (quantile(0.95, "vllm:request_generation_tokens"), "generated, 95 % below")),
        "Streams",
        series("Streams", "short", ("sum by (instance) (conclave_gateway_streams)", "{{instance}} open"),
               ("sum by (instance) (conclave_gateway_streams_without_router)", "{{instance}} without a router")),
        series("Streams that changed their router", "short", *[(rate(f"conclave_gateway_streams_{name}_total"), label) for name, label in
                                                              [("resumed", "went on after a loss"), ("retried", "refused by the first"),
                                                               ("moved", "left one that drains"), ("given_up", "given up")]], what="A second"),
        series("Connections and clients", "short", ("sum(conclave_gateway_connections)", "connections"),
               (rate("conclave_gateway_clients_lost_total"), "clients that left, a second"), (rate("conclave_gateway_slow_clients_total"), "too slow, a second")),
        series("Usage not booked yet", "short", ("sum by (instance) (conclave_gateway_usage_waiting)", "{{instance}}"),
               what="What requests used, waiting for a registry"),
    ])


def main() -> int:
    wrong = []
    for made in (overview(), experts(), workers(), slo()):
        path = HERE / f"{made['uid'].removeprefix('conclave-')}.json"
        text = json.dumps(made, indent=1) + "\n"
        if "--check" in sys.argv:
            wrong += [] if path.exists() and path.read_text() == text else [path.name]
        else:
            path.write_text(text)
    if wrong:
        print(f"not what make_dashboards.py writes: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
