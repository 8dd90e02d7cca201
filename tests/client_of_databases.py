"""Writes a row to every database that it is given, all the time, until its input ends: a line of JSON for each write
that was confirmed, with when and by whom. It runs in the network of a lab's machine, with what this host has."""

from __future__ import annotations

import json
import select
import sys
import threading
import time

import psycopg
from psycopg import pq

EVERY_SECONDS = 0.025
LOOK_SECONDS = 0.002
STATEMENT = (
    b"INSERT INTO attacks (schedule, place, number) VALUES ($1, $2, $3) RETURNING host(inet_server_addr()),"
    b" pg_walfile_name(pg_current_wal_insert_lsn()), extract(epoch FROM clock_timestamp())"
)
WAYS = (
    " connect_timeout=2 sslmode=prefer gssencmode=disable tcp_user_timeout=3000"
    " keepalives_idle=1 keepalives_interval=1 keepalives_count=2"
)
lock = threading.Lock()


def write(connection: pq.abc.PGconn, schedule: str, place: str, number: int) -> None:
    """One row. What is not confirmed, or may be, is not told of."""
    sent = quiet = time.monotonic_ns()
    offset = time.time_ns() - sent
    connection.send_query_params(STATEMENT, [schedule.encode(), place.encode(), str(number).encode()])
    rows = []
    while True:
        looked = time.monotonic_ns()
        connection.consume_input()
        if connection.is_busy():
            quiet = looked
            select.select([connection.socket], [], [], LOOK_SECONDS)
        elif (result := connection.get_result()) is not None:
            rows.append(result)
        else:
            break  # the server is ready for more: only now is it committed
    ended = time.monotonic_ns()
    if rows and all(one.status == pq.ExecStatus.TUPLES_OK for one in rows):
        server, file, at = ((rows[0].get_value(0, column) or b"").decode() for column in range(3))
        done = {"place": place, "number": number, "sent_ns": sent, "quiet_ns": quiet, "ended_ns": ended}
        told = {**done, "at_ns": int(float(at) * 1e9) - offset, "server": server, "timeline": int(file[:8], 16)}
        with lock:
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()


def attack(schedule: str, place: str, conninfo: str) -> None:
    """Rows to one place, over a new connection whenever one is lost. A client that waits for an answer goes on to wait
    for as long as somebody is there."""
    number = 0
    while True:
        try:
            with psycopg.connect(conninfo + WAYS, autocommit=True) as connection:
                while True:
                    number += 1
                    write(connection.pgconn, schedule, place, number)
                    time.sleep(EVERY_SECONDS)
        except psycopg.Error:
            time.sleep(EVERY_SECONDS)


def main() -> None:
    """Begin at every place, and end with the input."""
    given = json.loads(sys.stdin.readline())
    for place, conninfo in given["places"].items():
        threading.Thread(target=attack, args=(given["schedule"], place, conninfo), daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
