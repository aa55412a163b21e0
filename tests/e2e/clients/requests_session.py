"""A caller written with Python's requests: one session that pulls, pushes, uploads and downloads.

Usage: requests_session.py BASE ACTION. Prints what the daemon answered, for the test to judge.
"""

import hashlib
import json
import sys

import requests

PULL = "/sb-partner-oauth-proxy-api/rest/v1/pull/call"
PUSH = "/sb-partner-oauth-proxy-api/rest/v1/push/call"
TSP_CODES = "/sb-partner-oauth-proxy-api/tsp/api/v1/xylem/tspcodes"


def pull_and_push(session, base):
    """Three calls one after the other, for which requests keeps one connection."""
    pulled = session.get(base + PULL, timeout=20)
    print(pulled.status_code, pulled.text)
    pushed = session.post(base + PUSH, json={"Calls": {"CustCallID": "INC2"}}, timeout=20)
    print(pushed.status_code, pushed.json()["message"])
    outcome = session.get(base + PULL, timeout=20)
    print(outcome.status_code, outcome.json()["Calls"]["CustCallID"])


def download(session, base):
    """The TSP codes, piece by piece."""
    digest = hashlib.sha256()
    size = 0
    with session.get(base + TSP_CODES, stream=True, timeout=20) as answer:
        for piece in answer.iter_content(64 * 1024):
            digest.update(piece)
            size += len(piece)
    print(answer.status_code, size, digest.hexdigest())


def upload(session, base):
    """A ticket of unknown length: a generator makes requests send it chunked."""

    def ticket():
        yield b'{"Calls":{"CustCallID":"INC3","Description":"'
        for _ in range(300):
            yield b"x" * 10_000
        yield b'"}}'

    pushed = session.post(
        base + PUSH, data=ticket(), headers={"Content-Type": "application/json"}, timeout=20
    )
    print(pushed.status_code, json.loads(pushed.text)["status"])


if __name__ == "__main__":
    with requests.Session() as session:
        {"pull_and_push": pull_and_push, "download": download, "upload": upload}[sys.argv[2]](
            session, sys.argv[1]
        )
