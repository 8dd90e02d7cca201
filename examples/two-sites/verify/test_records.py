"""What the service promises from end to end, asked at each edge: the page answers, and what is written there reaches
every database."""

import json
import time

DEADLINE_SECONDS = 20


def ask(host, ismgr_host, *words):
    url = f"http://{ismgr_host.variables['addresses'][ismgr_host.site]}{words[-1]}"
    return host.check_output(" ".join(["curl --silent --show-error --fail --max-time 10", *words[:-1], url]))


def test_the_page_answers_through_haproxy(host, ismgr_host):
    page = ask(host, ismgr_host, "/")
    assert "<h1>Records" in page
    assert f"web1.{ismgr_host.site}" in page


def test_a_record_written_here_reaches_every_database(host, ismgr_host):
    body = json.dumps({"text": f"verified from {ismgr_host.name}"})
    written = json.loads(ask(host, ismgr_host, f"--json '{body}'", "/records"))
    end = time.monotonic() + DEADLINE_SECONDS
    while True:
        databases = json.loads(ask(host, ismgr_host, "/databases"))["databases"]
        behind = [one for one in databases if (one.get("newest") or 0) < written["id"]]
        if not behind or time.monotonic() > end:
            break
        time.sleep(0.2)
    assert not behind, f"record {written['id']} has not reached {behind}"
    assert sorted(one["role"] for one in databases) == ["primary", "standby"]
