"""The records application: lists records and adds one. All that it knows is in PostgreSQL; it keeps no state itself."""

import os
import secrets
import threading
from typing import Any

import psycopg2
from flask import Flask, Response, abort, jsonify, redirect, render_template, request
from psycopg2.extensions import connection

HOST = os.environ["RECORDS_HOST"]
LONGEST = 200
SHOWN = 20
# A peer that lost its power never says goodbye: give up after three seconds, not after two hours.
ALIVE = {"keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 2, "tcp_user_timeout": 3000}
TABLE = """
SELECT pg_advisory_xact_lock(7236001);
CREATE TABLE IF NOT EXISTS records (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text text NOT NULL CHECK (length(text) BETWEEN 1 AND 200),
    web text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
)"""

application = Flask(__name__)
application.config.update(MAX_CONTENT_LENGTH=16 * 1024)
local = threading.local()


def connected() -> connection:
    """This thread's connection to the database that takes writes. PG* variables say where that may be."""
    known: connection | None = getattr(local, "connection", None)
    if known is None or known.closed:
        known = psycopg2.connect("", **ALIVE)
        with known, known.cursor() as cursor:
            cursor.execute(TABLE)
        local.connection = known
    return known


def query(text: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
    """Rows of one statement in a transaction of its own. After an error the next request connects anew."""
    found = connected()
    try:
        with found, found.cursor() as cursor:
            cursor.execute(text, values)
            return list(cursor.fetchall())
    except psycopg2.Error:
        found.close()
        raise


def database() -> str:
    """The name of the database server that answers."""
    return str(query("SELECT current_setting('cluster_name')")[0][0])


def state_of(host: str) -> dict[str, object]:
    """What one database server is, and the newest record that it has; ``down`` when it does not answer."""
    try:
        found = psycopg2.connect(host=host, target_session_attrs="any", **ALIVE)
        try:
            with found.cursor() as cursor:
                cursor.execute(
                    "SELECT current_setting('cluster_name'), pg_is_in_recovery(), (SELECT max(id) FROM records)"
                )
                name, follows, last = cursor.fetchone()
        finally:
            found.close()
    except psycopg2.Error as error:
        application.logger.warning("database %s: %s", host, str(error).strip().replace("\n", " | "))
        return {"host": host, "role": "down"}
    return {"host": host, "name": name, "role": "standby" if follows else "primary", "newest": last}


def newest() -> list[dict[str, object]]:
    """The newest records first."""
    rows = query("SELECT id, text, web, at FROM records ORDER BY id DESC LIMIT %s", (SHOWN,))
    return [
        {"id": number, "text": text, "web": web, "at": at.isoformat(timespec="milliseconds")}
        for number, text, web, at in rows
    ]


def add(text: object) -> int:
    """Write a record down and answer its number. 400 for a text that is empty or too long."""
    if not isinstance(text, str) or not 1 <= len(text.strip()) <= LONGEST or "\0" in text:
        abort(400, f"a record has 1 to {LONGEST} characters")
    return int(query("INSERT INTO records (text, web) VALUES (%s, %s) RETURNING id", (text.strip(), HOST))[0][0])


@application.get("/")
def page() -> Response:
    """The page for people."""
    nonce = secrets.token_urlsafe(16)
    total = query("SELECT count(*) FROM records")[0][0]
    body = render_template(
        "records.html", nonce=nonce, records=newest(), total=total, web=HOST, database=database(), longest=LONGEST
    )
    response = Response(body, mimetype="text/html")
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    response.headers["Content-Security-Policy"] = policy
    return response


@application.post("/")
def form() -> Any:
    """The form of the page; the browser then asks for the page again."""
    add(request.form.get("text"))
    return redirect("/", code=303)


@application.get("/records")
def as_json() -> Response:
    """The same for programs."""
    return jsonify(records=newest(), web=HOST, database=database())


@application.post("/records")
def add_json() -> Any:
    """Add a record: ``{"text": "..."}``."""
    body = request.get_json(silent=True)
    number = add(body.get("text") if isinstance(body, dict) else None)
    return jsonify(id=number, web=HOST, database=database()), 201


@application.get("/databases")
def databases() -> Response:
    """Each database server: whether it is the primary, and how far it has come."""
    return jsonify(web=HOST, databases=[state_of(host) for host in os.environ["PGHOST"].split(",")])


@application.get("/healthz")
def health() -> Response:
    """200 while this host can serve, that is while the database answers it."""
    return jsonify(web=HOST, database=database())


@application.errorhandler(psycopg2.Error)
def no_database(error: psycopg2.Error) -> Any:
    """Say that the database does not answer, and log why; the reason is nothing for strangers."""
    application.logger.warning("database: %s", str(error).strip().replace("\n", " | "))
    return jsonify(web=HOST, error="the database does not answer"), 503


@application.after_request
def careful(response: Response) -> Response:
    """Headers for every answer."""
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response
