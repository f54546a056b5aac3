#!/usr/bin/env python3
"""The demo model answers its held-out questions through the gateway exactly as `conclave eval` does.

Usage: accuracy_test.py CONCLAVE MODEL QUESTIONS
"""
import concurrent.futures
import json
import pathlib
import subprocess
import sys

from stack import Stack


def main() -> int:
    conclave, model, questions = sys.argv[1:4]
    done = subprocess.run([conclave, "eval", "-m", model, "--set", questions, "-o", "json"],
                          capture_output=True, text=True, check=True)
    expected = json.loads(done.stdout)
    cases = [json.loads(line) for line in pathlib.Path(questions).read_text().splitlines() if line]
    with Stack(conclave, "up", "-m", model, "--workers", "2") as stack:
        name = stack.call("/v1/models")[1]["data"][0]["id"]

        def ask(case: dict) -> bool:
            status, body = stack.call("/v1/chat/completions", {
                "model": name, "temperature": 0, "max_tokens": 64,
                "messages": [{"role": "user", "content": case["question"]}]})
            assert status == 200, body
            return body["choices"][0]["message"]["content"].strip() == case["answer"]

        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            right = sum(pool.map(ask, cases))
    print(f"through the gateway {right} of {len(cases)}, by eval {expected['right']}")
    return 0 if right == expected["right"] else 1


if __name__ == "__main__":
    sys.exit(main())
