"""Asks and writes at every edge that it is given, all the time, until its input ends: a line of JSON for each answer.
It runs inside a lab's machine, where nothing but Python itself is there."""

import http.client
import json
import sys
import threading
import time

HEADERS = {"Host": "records.two-sites.test", "Content-Type": "application/json"}
stop = threading.Event()
lock = threading.Lock()


def ask(edge: str, method: str, path: str, body: "str | None" = None) -> "tuple[int, bytes]":
    """One request; 0 stands for an edge that does not answer."""
    connection = http.client.HTTPConnection(edge, 80, timeout=10)
    try:
        connection.request(method, path, body, HEADERS)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError as problem:
        return 0, str(problem).encode()
    finally:
        connection.close()


def read(edge: str) -> None:
    """Ask for the page."""
    while not stop.wait(0.02):
        began = time.time()
        status, body = ask(edge, "GET", "/")
        tell(kind="read", edge=edge, at=began, status=status, ok=status == 200 and b"<html" in body, id=0)


def write(edge: str) -> None:
    """Add records."""
    while not stop.wait(0.02):
        began = time.time()
        status, body = ask(edge, "POST", "/records", json.dumps({"text": "while it is patched"}))
        number = json.loads(body)["id"] if status == 201 else 0
        tell(kind="write", edge=edge, at=began, status=status, ok=status == 201, id=number)


def tell(**said: object) -> None:
    """What became of one request."""
    with lock:
        sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    threads = [threading.Thread(target=do, args=(edge,)) for edge in sys.argv[1:] for do in (read, write)]
    for one in threads:
        one.start()
    sys.stdin.read()
    stop.set()
    for one in threads:
        one.join()
