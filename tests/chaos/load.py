"""Streams under load, each held byte by byte against what it was when nothing was disturbed."""
import http.client
import json
import threading
import time

# Every way in which an answer can be cut: tokens alone, drawn ones with penalties, numbers beside
# them, several choices, text held back for a stop string, characters of several bytes, a chat.
REQUESTS = [
    {"prompt": "Count to one hundred: ", "temperature": 0},
    {"prompt": "What is 47 + 385?", "temperature": 1.3, "seed": 1, "repetition_penalty": 1.2,
     "frequency_penalty": 0.3, "min_tokens": 20},
    {"prompt": "Sort: 9 3 7 1", "temperature": 1.0, "seed": 2, "logprobs": 3},
    {"prompt": "Reverse: conclave", "temperature": 1.5, "seed": 3, "n": 3},
    {"prompt": "a b c", "temperature": 1.2, "seed": 4, "stop": ["never spelled like this", "zzzz"]},
    {"prompt": "€ 😀 ü", "temperature": 2.0, "seed": 5},
    {"prompt": "Echo me, please", "temperature": 1.0, "seed": 6, "echo": True, "logprobs": 1},
    {"messages": [{"role": "user", "content": "What is 900 - 13?"}], "temperature": 1.4, "seed": 7,
     "logprobs": True, "top_logprobs": 2},
]


def requests(count: int, model: str, tokens: int) -> list[dict]:
    """`count` different ones, in turns of the kinds."""
    made = []
    for i in range(count):
        request = dict(REQUESTS[i % len(REQUESTS)])
        if "seed" in request:
            request["seed"] += 100 * i
        elif "prompt" in request:
            request["prompt"] += str(i)
        made.append(request | {"model": model, "max_tokens": tokens, "ignore_eos": True, "stream": True,
                               "return_token_ids": True, "stream_options": {"include_usage": True}})
    return made


class Stream:
    """One streamed answer, as it comes."""

    def __init__(self):
        self.tokens = 0
        self.gaps: list[tuple[float, float]] = []  # when it ended, how long it was, seconds
        self.answer: dict | str | None = None      # a text: what went wrong


def run(connection: http.client.HTTPConnection, request: dict, stream: Stream) -> None:
    """Reads one answer: of each choice all that was said, however it was cut into events."""
    try:
        stream.answer = _read(connection, request, stream)
    except (OSError, http.client.HTTPException, ValueError) as error:
        stream.answer = f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def _read(connection, request: dict, stream: Stream) -> dict | str:
    path = "/v1/chat/completions" if "messages" in request else "/v1/completions"
    connection.request("POST", path, json.dumps(request), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        return f"status {response.status}: {response.read()[:500]!r}"
    choices, usage, last, ended = {}, None, None, False
    for line in response:
        if not line.startswith(b"data: "):
            continue
        now = time.monotonic()
        if last is not None:
            stream.gaps.append((now, now - last))
        last = now
        data = line[6:].strip()
        if data == b"[DONE]":
            ended = True
            break
        event = json.loads(data)
        if "error" in event:
            return f"error after {stream.tokens} tokens: {event['error']}"
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            _add(choices.setdefault(choice["index"], {}), choice)
            stream.tokens += len(choice.get("token_ids") or [])
    if not ended:
        return f"no end after {stream.tokens} tokens"
    # What was in a cache depends on what came before.
    return {"choices": choices, "prompt_tokens": usage["prompt_tokens"],
            "completion_tokens": usage["completion_tokens"]}


def _add(said: dict, choice: dict) -> None:
    """Texts and lists of all events one after the other."""
    for name, value in choice.items():
        if name in ("delta", "logprobs") and isinstance(value, dict):
            _add(said.setdefault(name, {}), value)
        elif isinstance(value, str):
            said[name] = said.get(name, "") + value
        elif isinstance(value, list):
            said[name] = said.get(name, []) + value


class Round:
    """All requests at once, one thread each."""

    def __init__(self, stack, wanted: list[dict]):
        self.streams = [Stream() for _ in wanted]
        self.threads = [threading.Thread(target=run, args=(stack.connection(300), request, stream))
                        for request, stream in zip(wanted, self.streams)]
        for thread in self.threads:
            thread.start()

    def tokens_least(self) -> int:
        return min(stream.tokens for stream in self.streams)

    def join(self) -> list:
        for thread in self.threads:
            thread.join()
        return [stream.answer for stream in self.streams]

    def longest_gap(self, since: float = 0.0) -> float:
        return max((gap for stream in self.streams for end, gap in stream.gaps if end > since),
                   default=0.0)


class Endless:
    """Each request again and again, in a thread of its own, until stopped."""

    def __init__(self, stack, wanted: list[dict], expected: list):
        self.wrong: list[str] = []
        self.streams: list[list[Stream]] = [[] for _ in wanted]  # one after another, the last one plays
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(stack, request, answer, streams))
                         for request, answer, streams in zip(wanted, expected, self.streams)]
        for thread in self._threads:
            thread.start()

    def _run(self, stack, request: dict, expected, streams: list[Stream]) -> None:
        while not self._stop.is_set():
            stream = Stream()
            streams.append(stream)
            run(stack.connection(300), request, stream)
            if stream.answer != expected:
                self.wrong.append(difference(expected, stream.answer))

    @property
    def answers(self) -> int:
        return sum(len(streams) - 1 for streams in self.streams)

    def tokens(self) -> int:
        return sum(stream.tokens for streams in self.streams for stream in list(streams))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def longest_gaps(self, since: float, until: float) -> list[float]:
        """Of each request, among those that ended then."""
        return [max((gap for stream in list(streams) for end, gap in list(stream.gaps) if since < end <= until),
                    default=0.0) for streams in self.streams]

    def longest_gap(self, since: float) -> float:
        return max(self.longest_gaps(since, float("inf")))


def difference(expected, answer) -> str:
    return answer if isinstance(answer, str) else f"expected {expected}\n  got {answer}"


def compare(expected: list, answers: list) -> list[str]:
    return [difference(want, got) for want, got in zip(expected, answers) if want != got]
