"""The page for operators, without a browser: what it shows, and its plain forms."""

from __future__ import annotations

import gzip
import html
import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from werkzeug.test import Client, TestResponse

from pgflow_cli.admin.ui import template_filters
from pgflow_cli.admin.ui.rendering import local_path
from pgflow_cli.repository import Repository
from tests.admin.conftest import MakesClients
from tests.admin.planting import Planted, plant_everything
from tests.browser.hostile_texts import POLYGLOTS
from tests.support.deployment import parse
from tests.support.jobs import plant, plant_dead, status_of

Connection = psycopg.Connection[Any]

LISTS = (
    "/",
    "/ui/queues",
    "/ui/jobs",
    "/ui/dlq",
    "/ui/replays",
    "/ui/decisions",
    "/ui/workers",
    "/ui/audit",
    "/ui/doctor",
    "/ui/enqueue",
    "/ui/replays/new",
)
OWN = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
TOKEN = "q" * 43


@pytest.fixture
def planted(connection: Connection, repository: Repository) -> Planted:
    return plant_everything(connection, repository)


def page(client: Client, path: str, status: int = 200) -> str:
    """Return a page as text, once it has what all of them have."""
    response = client.get(path)
    assert response.status_code == status, f"{path}: {response.text[:2000]}"
    return checked(response)


def checked(response: TestResponse) -> str:
    assert response.content_type == "text/html; charset=utf-8"
    text = response.text
    assert '<html lang="en"' in text
    assert 'href="#main"' in text
    assert 'aria-live="polite"' in text
    assert response.headers["X-Request-Id"] in text
    # Nothing inline: the policy of scripts and styles would forbid it.
    assert not re.search(r"<[^>]+\s(style|on\w+)=", text)
    assert not re.search(r"<(style|script)(?![^>]* src=)", text)
    return text


def send(client: Client, path: str, **form: object) -> TestResponse:
    return client.post(path, data=form, headers=OWN)


def told(client: Client, response: TestResponse) -> str:
    """Follow a form to where it sends a browser, and return that page."""
    assert response.status_code == 303, response.text
    return page(client, response.location)


def flash(text: str) -> str:
    found = re.search(r'<p class="flash \w+" role="\w+">(.*?)</p>', text)
    return html.unescape(found[1]) if found else ""


def actions(connection: Connection) -> list[tuple[str, str, str | None]]:
    return connection.execute(
        "select action, actor, note from pgflow.operator_actions order by id"
    ).fetchall()


def commands_of(text: str) -> list[str]:
    return [html.unescape(line) for line in re.findall(r'data-copy="([^"]*)"', text)]


def every_page(planted: Planted, connection: Connection) -> list[str]:
    row = connection.execute("select worker_id::text from pgflow.workers").fetchone()
    assert row is not None
    return [
        *LISTS,
        "/ui/queues/default",
        "/ui/queues/billing?window=10m",
        f"/ui/workers/{row[0]}",
        *(f"/ui/jobs/{job}?payload=shown" for job in planted.jobs.values()),
        *(f"/ui/replays/{plan}" for plan in planted.plans.values()),
        *(f"/ui/dlq?by={key}" for key in ("error-code", "reason", "type", "queue")),
        "/ui/dlq?resolved=true",
        f"/ui/replays/new?job_id={planted.jobs['dead']}",
    ]


@pytest.mark.parametrize("path", LISTS)
def test_an_empty_database_says_what_it_means_and_what_next(
    client: Client, path: str
) -> None:
    text = page(client, path)

    if path not in ("/ui/doctor", "/ui/enqueue"):
        assert 'class="empty"' in text


def test_every_page_shows_every_state(
    client: Client, planted: Planted, connection: Connection
) -> None:
    for path in every_page(planted, connection):
        page(client, path)


def test_every_command_that_is_shown_can_be_pasted(
    client: Client, planted: Planted, connection: Connection
) -> None:
    shown: set[str] = set()
    for path in every_page(planted, connection):
        text = page(client, path)
        lines = commands_of(text)
        assert lines, path
        shown |= {*lines, *re.findall(r"<code>(pgflow [^<]+)</code>", text)}

    for line in shown:
        # A path that nobody has is an example of an explanation.
        if line.startswith("pgflow "):
            parse(shlex.split(html.unescape(line))[1:])


def test_the_first_page_names_what_is_wrong_and_since_when(
    client: Client, connection: Connection
) -> None:
    plant(connection, 2, queue="lonely", due_in="-10 min")

    text = page(client, "/")

    assert "lonely has no live worker" in text
    assert "the oldest for 10m" in text
    assert "pgflow work -q lonely" in text
    assert re.search(r"Oldest</span> <strong>10m</strong> <small>waits in lonely", text)


def test_of_many_queues_the_first_page_shows_those_in_trouble(
    client: Client, connection: Connection
) -> None:
    for number in range(60):
        plant(connection, queue=f"tenant-{number}", due_in="1 hour")
    plant(connection, queue="unserved")

    text = page(client, "/")

    assert text.count('<th scope="row" class="name">') == 40
    assert text.index('id="q-unserved"') < text.index('id="q-tenant-0"')
    assert "The 21 queues with the least need of attention are not shown here" in text
    assert page(client, "/ui/queues").count('<th scope="row" class="name">') == 61


def test_many_alerts_leave_room_for_the_page(
    client: Client, connection: Connection
) -> None:
    for number in range(12):
        plant(connection, queue=f"tenant-{number}", due_in=f"-{number + 1} min")

    assert page(client, "/").count("has no live worker") == 6
    jobs = page(client, "/ui/jobs")
    assert jobs.count("has no live worker") == 1
    assert "tenant-11 has no live worker" in jobs
    assert "and 11 more alerts" in jobs


def test_a_pause_hides_no_other_alert(client: Client, connection: Connection) -> None:
    plant(connection, queue="paused", due_in="-20 min")
    plant(connection, queue="lonely", due_in="-10 min")
    send(client, "/ui/queues/paused/pause")

    text = page(client, "/ui/workers")

    assert "lonely has no live worker" in text
    assert "paused is paused, 1 job waits" not in text
    assert "and 1 more alert<" in text


def test_jobs_that_die_are_the_gravest_alert_and_lead_to_their_groups(
    client: Client, connection: Connection
) -> None:
    plant(connection, queue="lonely", due_in="-10 min")
    plant(connection, queue="mails")
    connection.execute(
        "insert into pgflow.queue_rates (since, queue, dlq)"
        " values (date_bin('10 s', now(), '2000-01-01 00:00:00+00'), 'mails', 300)"
    )

    text = page(client, "/ui/workers")

    assert re.search(r">mails has \d+ new dead letters a minute<", text)
    assert 'href="/ui/dlq?queue=mails&amp;since=10m"' in text


def test_a_queues_page_names_its_own_alert(
    client: Client, connection: Connection
) -> None:
    plant(connection, queue="older", due_in="-20 min")
    plant(connection, queue="younger", due_in="-10 min")

    text = page(client, "/ui/queues/younger")

    assert "younger has no live worker" in text
    assert "older has no live worker" not in text
    assert "and 1 more alert<" in text


def test_the_title_counts_what_is_wrong(client: Client, connection: Connection) -> None:
    plant(connection, queue="lonely")
    assert "<title>(1) Overview –" in page(client, "/")


def test_a_queues_page_says_why_its_first_job_waits_and_where_to_act(
    client: Client, connection: Connection
) -> None:
    plant(connection, 2, queue="mails", due_in="-10 min")

    lonely = page(client, "/ui/queues/mails")
    send(client, "/ui/queues/mails/pause", note="smtp is down")
    paused = page(client, "/ui/queues/mails")

    assert "Why its first job waits" in lonely
    assert "NO_WORKER: runnable for 10m" in lonely
    assert 'id="remedy" href="/ui/workers">See who works' in lonely
    assert "QUEUE_PAUSED: runnable for 10m" in paused
    assert 'id="remedy" href="#pause">Resume it…' in paused


def test_a_queue_in_which_nothing_waits_has_no_reason(
    client: Client, connection: Connection
) -> None:
    plant(connection, queue="mails", due_in="1 hour")

    assert "Why its first job waits" not in page(client, "/ui/queues/mails")


def test_the_first_page_tells_of_refused_enqueues(
    client: Client, connection: Connection
) -> None:
    assert "Held back or refused" not in page(client, "/")
    connection.execute(
        "insert into pgflow.ingest_decisions"
        " (minute, queue, decision, reason_code, details_json)"
        " values (date_trunc('minute', now()), 'uploads', 'DENIED',"
        " 'PAYLOAD_TOO_LARGE', '{\"bytes\": 1234567, \"from_policy\": true}')"
    )

    panel = page(client, "/").partition("Held back or refused")[2]

    assert "enqueue refused" in panel
    assert 'href="/ui/decisions?queue=uploads&amp;reason=PAYLOAD_TOO_LARGE' in panel
    assert 'href="/ui/queues/uploads#limits">Change the limits' in panel
    assert "bytes 1,234,567, from_policy yes" in page(client, "/ui/decisions")


def test_running_jobs_are_told_with_their_worker_and_lease(
    client: Client, planted: Planted, connection: Connection
) -> None:
    running = page(client, "/ui/jobs?status=running")
    none = page(client, "/ui/jobs?stuck=true")
    connection.execute("update pgflow.leases set expires_at = now() - interval '1 min'")
    stuck = page(client, "/ui/jobs?stuck=true")

    assert planted.jobs["running"] in running
    assert "ran out" not in running.partition('id="panel"')[2]
    assert "No lease has run out" in none
    assert planted.jobs["running"] in stuck
    assert "✕</span> ran out" in stuck
    assert "pgflow jobs list --stuck" in commands_of(stuck)


@pytest.mark.parametrize(
    "path", ["/ui/jobs?queue=none", "/ui/jobs?queue=none&since=2h"]
)
def test_a_filter_that_nothing_fits_says_so(client: Client, path: str) -> None:
    text = page(client, path)

    assert "No job fits this filter" in text
    assert ("no further back than 2h" in text) is ("since" in path)


def test_on_an_empty_database_nothing_looks_wrong(client: Client) -> None:
    text = page(client, "/")

    assert 'class="tile bad"' not in text
    assert "pgflow work --app jobs.py" in commands_of(text)


def test_pages_are_sent_compressed_to_whoever_takes_that(client: Client) -> None:
    packed = client.get("/ui/jobs", headers={"Accept-Encoding": "gzip"})
    plain = client.get("/ui/jobs")

    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert "Content-Encoding" not in plain.headers
    assert len(packed.data) < len(plain.data) / 2
    assert "There is no job yet" in gzip.decompress(packed.data).decode()


def test_without_an_alert_the_page_says_so(client: Client) -> None:
    assert "Nothing is wrong that pgflow knows of" in page(client, "/")


@pytest.mark.parametrize(
    ("path", "seen", "unseen"),
    [
        ("/ui/queues?queue=mail*", "mails", "reports"),
        ("/ui/jobs?queue=mails", "send_mail", "make_report"),
        ("/ui/jobs?job_type=make_report", "make_report", "send_mail"),
        ("/ui/jobs?status=queued&queue=reports", "make_report", "send_mail"),
        ("/ui/dlq?queue=mails", "send_mail", "make_report"),
        ("/ui/dlq?match=refused", "refused", "out of paper"),
        ("/ui/audit?queue=reports", "printer is empty", "smtp is down"),
    ],
)
def test_every_filter_is_a_url(
    client: Client, connection: Connection, path: str, seen: str, unseen: str
) -> None:
    for queue, job_type, said, note in (
        ("mails", "send_mail", "refused", "smtp is down"),
        ("reports", "make_report", "out of paper", "printer is empty"),
    ):
        plant(connection, queue=queue, job_type=job_type)
        plant_dead(connection, queue=queue, job_type=job_type, error_message=said)
        send(client, f"/ui/queues/{queue}/pause", note=note)

    panel = page(client, path).partition('id="panel"')[2]

    assert seen in panel
    assert unseen not in panel


def test_a_next_page_is_a_link_and_ends(client: Client, connection: Connection) -> None:
    ids = set(plant(connection, 5))
    path, seen = "/ui/jobs?limit=2", []

    for _ in range(3):
        text = page(client, path)
        seen += re.findall(
            r'<th scope="row"><a class="id" id="j-([0-9a-f-]{36})"', text
        )
        found = re.search(r'<a href="([^"]+)" rel="next">', text)
        path = html.unescape(found[1]) if found else ""

    assert path == ""
    assert len(seen) == 5
    assert set(seen) == ids


def test_hostile_texts_are_only_ever_text(
    client: Client, connection: Connection
) -> None:
    [job] = plant(connection, payload=json.dumps(POLYGLOTS))
    for text in POLYGLOTS:
        plant_dead(connection, error_message=text.replace("\0", ""), payload="{}")
    send(client, "/ui/queues/default/pause", note=POLYGLOTS[0])

    pages = [
        page(client, path)
        for path in (
            "/ui/dlq",
            "/ui/audit",
            "/ui/queues/default",
            f"/ui/jobs/{job}?payload=all",
        )
    ]

    for text in pages:
        assert "<script>window" not in text
        assert not re.search(
            r"<(img|iframe|svg onload|details open on|base|meta http)", text
        )
        assert "\u202e" not in text
        assert "\x1b" not in text
    assert "&lt;script&gt;window.pwned=1" in pages[0]


def test_a_payload_is_shown_on_request_and_capped(
    client: Client, connection: Connection
) -> None:
    [job] = plant(
        connection, payload=json.dumps({"text": "x" * 9000, "zzzzz": "the end"})
    )

    assert "xxxx" not in page(client, f"/ui/jobs/{job}")
    capped = page(client, f"/ui/jobs/{job}?payload=shown")
    assert "xxxx" in capped
    assert f"the first {template_filters.LONGEST:,} shown" in capped
    assert "the end" not in capped
    assert "the end" in page(client, f"/ui/jobs/{job}?payload=all")


def test_each_attempt_says_why_it_failed_and_the_same_is_said_once(
    client: Client, connection: Connection
) -> None:
    [job] = plant_dead(connection, error_message="no route to host")
    connection.execute(
        """
        insert into pgflow.job_attempts (job_id, lease_id, started_at, finished_at,
          attempt_no, status, worker_name, error_code, error_message)
        select job_id, gen_random_uuid(), started_at, finished_at + number * interval
          '1 s', number + 1, status, worker_name, error_code, 'reset by <peer>'
        from pgflow.job_attempts, generate_series(1, 3) as number
        where job_id = %s
        """,
        (job,),
    )

    text = page(client, f"/ui/jobs/{job}")

    story = text[text.index('id="scroll-story"') :]
    assert story.count("no route to host") == 1
    assert story.count("reset by &lt;peer&gt;") == 1
    assert story.index("no route") < story.index("reset by")


def test_times_are_relative_and_exact(client: Client, connection: Connection) -> None:
    [job] = plant(connection)

    text = page(client, f"/ui/jobs/{job}")

    assert re.search(
        r'<time datetime="20[\d-]+T[\d:.]+Z" title="20[\d-]+ [\d:]+ UTC">'
        r"(\w+ ago|now)</time>",
        text,
    )


# Forms, as a browser without scripts sends them.


def test_a_queue_is_paused_and_resumed(client: Client, connection: Connection) -> None:
    plant(connection, queue="mails")

    paused = told(
        client, send(client, "/ui/queues/mails/pause", length="30m", note="smtp <b>")
    )
    again = page(client, "/ui/queues/mails")
    resumed = told(client, send(client, "/ui/queues/mails/resume", note="up"))

    assert flash(paused).startswith("mails is paused")
    assert "smtp &lt;b&gt;" in paused
    assert flash(again) == ""
    assert flash(resumed) == "mails is resumed."
    assert actions(connection) == [
        ("queues.pause", "unknown", "smtp <b>"),
        ("queues.resume", "unknown", "up"),
    ]


def test_limits_are_what_the_form_holds(client: Client, connection: Connection) -> None:
    plant(connection, queue="mails")
    path = "/ui/queues/mails/policy"

    told(client, send(client, path, max_in_flight="7", throttle_delay_ms="100"))
    text = told(client, send(client, path, max_in_flight="7", note="enough"))
    nothing = told(client, send(client, path, max_in_flight="7"))

    assert 'name="max_in_flight" inputmode="numeric"' in text
    assert 'value="7"' in text
    assert flash(nothing) == "Nothing was changed."
    row = connection.execute(
        "select max_in_flight, throttle_delay_ms from pgflow.queue_policies"
    ).fetchone()
    assert row == (7, None)
    assert len(actions(connection)) == 2


def test_a_job_is_canceled(client: Client, connection: Connection) -> None:
    [job] = plant(connection)

    text = told(client, send(client, f"/ui/jobs/{job}/cancel", note="twice"))
    again = told(client, send(client, f"/ui/jobs/{job}/cancel"))

    assert flash(text) == "It is canceled."
    assert status_of(connection, job) == "canceled"
    assert "has been canceled already; it was left alone" in flash(again)
    assert actions(connection) == [("jobs.cancel", "unknown", "twice")]


def test_a_scheduled_job_runs_now(client: Client, connection: Connection) -> None:
    [job] = plant(connection, due_in="1 hour")

    assert "Run it now" in page(client, f"/ui/jobs/{job}")
    told(client, send(client, f"/ui/jobs/{job}/run-now"))

    assert status_of(connection, job) == "queued"


def test_a_job_is_enqueued_once(client: Client, connection: Connection) -> None:
    job = re.findall(r'name="job_id" value="([^"]+)"', page(client, "/ui/enqueue"))[0]
    form = {"job_id": job, "job_type": "send", "queue": "mails", "payload": '{"a": 1}'}

    text = told(client, send(client, "/ui/enqueue", **form, when="10m", note="by hand"))
    told(client, send(client, "/ui/enqueue", **form, when="10m"))

    assert flash(text) == "Enqueued in mails."
    assert status_of(connection, job) == "scheduled"
    rows = connection.execute("select count(*) from pgflow.jobs").fetchone()
    assert rows == (1,)
    assert [(name, note) for name, _, note in actions(connection)] == [
        ("jobs.enqueue", "by hand")
    ]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"job_type": "send", "payload": '{"a":<b>'}, "the payload is not JSON"),
        ({"job_type": "se nd", "payload": "{}"}, "job_type is not"),
        ({"payload": "{}"}, "job_type is required"),
        ({"job_type": "send", "priority": "many"}, "priority is not a whole number"),
        ({"job_type": "send", "when": "sometime"}, "when is not acceptable"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(
    client: Client, form: dict[str, str], said: str
) -> None:
    response = send(client, "/ui/enqueue", **form)

    assert response.status_code == 400
    text = checked(response)
    assert said in html.unescape(text)
    for value in form.values():
        assert html.escape(value, quote=False).replace('"', "&#34;") in text


def test_a_replay_is_previewed_confirmed_and_followed(
    client: Client, connection: Connection, wait_until: Callable[..., None]
) -> None:
    jobs = plant_dead(connection, 7, error_code="TIMEOUT")
    path = "/ui/replays/new?error_code=TIMEOUT"

    seen = page(client, path)
    assert "Selected 7 of 7 dead letters" in seen
    assert "Use a canary of 5" in seen
    form = {"error_code": "TIMEOUT", "expected": "7", "note": "mended"}
    response = send(client, "/ui/replays", **form)
    text = told(client, response)
    wait_until(
        lambda: "✓</span> finished" in page(client, response.location),
        "the replay to end",
    )

    assert flash(text).startswith("Replaying 7 jobs")
    count = connection.execute(
        "select count(*) from pgflow.jobs where replay_of_job_id = any (%s)", (jobs,)
    ).fetchone()
    assert count == (7,)
    undone = told(client, send(client, f"{response.location}/undo", note="no"))
    assert flash(undone) == "Canceled 7 jobs that had not been tried."


def test_more_than_was_shown_is_not_replayed(
    client: Client, connection: Connection
) -> None:
    plant_dead(connection, 3, queue="mails")

    text = told(client, send(client, "/ui/replays", queue="mails", expected="2"))

    assert "Nothing was replayed: there are 3 now" in flash(text)
    rows = connection.execute("select count(*) from pgflow.replay_plans").fetchone()
    assert rows == (0,)


def test_a_replay_of_more_than_max_is_refused_until_more_are_allowed(
    client: Client, connection: Connection
) -> None:
    plant_dead(connection, 3, queue="mails")
    path = "/ui/replays/new?queue=mails"

    seen = html.unescape(page(client, f"{path}&max=2"))
    assert "More than 2 jobs are selected." in seen
    assert "or allow more below, up to 1,000,000." in seen
    assert 'name="max" value="2"' in seen
    assert 'action="/ui/replays"' not in seen
    refused = send(client, "/ui/replays", queue="mails", max="2", expected="3")
    assert refused.status_code == 409

    seen = html.unescape(page(client, f"{path}&max=3"))
    assert "pgflow replay run -q mails --max 3" in seen
    allowed = send(client, "/ui/replays", queue="mails", max="3", expected="3")
    assert flash(told(client, allowed)).startswith("Replaying 3 jobs")
    assert client.get(f"{path}&max=1000001").status_code == 400


def test_a_canary_is_waited_for_and_the_rest_is_not_created(
    client: Client, connection: Connection
) -> None:
    plant_dead(connection, 4, queue="mails")

    response = send(client, "/ui/replays", queue="mails", canary="2", expected="4")

    text = told(client, response)
    assert "Canary of 2 jobs: <strong>waiting</strong>" in text
    stopped = told(client, send(client, f"{response.location}/stop"))
    assert "■</span> stopped" in stopped


def test_the_canary_that_a_button_proposes_is_the_one_that_runs(
    client: Client, connection: Connection
) -> None:
    plant_dead(connection, 7, queue="mails")

    # As a browser sends it: the form's own field is empty, the button has the number.
    path = "/ui/replays/new?queue=mails&canary=&rate=&to_queue=&patch=&canary=5"
    seen = page(client, path)
    confirming = seen[seen.index('action="/ui/replays"') :]
    confirming = confirming[: confirming.index("</form>")]
    fields = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', confirming)
    hidden = dict(fields)
    response = send(client, "/ui/replays", **hidden)

    assert "pgflow replay run -q mails --canary 5" in html.unescape(seen)
    assert "Canary of 5 jobs: <strong>waiting</strong>" in told(client, response)
    send(client, f"{response.location}/stop")


def test_a_worker_is_told_to_be_quiet(
    client: Client, planted: Planted, connection: Connection
) -> None:
    row = connection.execute(
        "select worker_id::text from pgflow.workers where name = 'idle'"
    ).fetchone()
    assert row is not None

    text = told(client, send(client, f"/ui/workers/{row[0]}/quiet", note="deploy"))

    assert flash(text) == "It leases nothing."
    assert ("workers.quiet", "unknown", "deploy") in actions(connection)
    assert "Resume this process" in text

    text = told(client, send(client, f"/ui/workers/{row[0]}/resume", note="done"))

    assert flash(text) == "It leases again."
    assert ("workers.resume", "unknown", "done") in actions(connection)
    assert "Quiet this process" in text


def test_a_theme_is_remembered(client: Client) -> None:
    response = send(client, "/ui/theme", theme="dark", back="/ui/jobs?queue=a")

    assert response.location == "/ui/jobs?queue=a"
    assert '<html lang="en" data-theme="dark">' in page(client, "/")


def test_updates_can_be_paused(client: Client) -> None:
    assert 'data-updates="on"' in page(client, "/")
    send(client, "/ui/updates", updates="off", back="/")
    assert 'data-updates="off"' in page(client, "/")


@pytest.mark.parametrize(
    "there", ["//evil.example/", "/\\evil.example", "https://e", ""]
)
def test_a_form_sends_nobody_elsewhere(there: str) -> None:
    assert local_path(there) == "/"


def test_what_updates_a_part_leaves_the_flash_alone(
    client: Client, connection: Connection
) -> None:
    plant(connection, queue="mails")
    response = send(client, "/ui/queues/mails/resume")

    part = client.get(response.location, headers={"HX-Request": "true"})

    assert flash(part.text) == ""
    assert flash(page(client, response.location)) == "mails was not paused."


# Who may, and what goes wrong.


@pytest.mark.parametrize("path", LISTS)
def test_without_a_token_there_is_no_data(client_of: MakesClients, path: str) -> None:
    response = client_of(api_tokens=(TOKEN,)).get(path)

    assert response.status_code == 303
    assert response.location.startswith("/login?next=/")


def test_a_form_sent_after_the_login_has_ended_leads_to_the_login(
    client_of: MakesClients,
) -> None:
    response = send(client_of(api_tokens=(TOKEN,)), "/ui/queues/mails/pause")

    assert response.status_code == 401
    assert 'href="/login">Log in</a>' in checked(response)


def test_a_reader_sees_no_form_that_changes_something(
    client_of: MakesClients, connection: Connection
) -> None:
    plant(connection, queue="mails")
    client = client_of(read_only=True)

    text = page(client, "/ui/queues/mails")
    response = send(client, "/ui/queues/mails/pause")

    assert "read-only" in text
    assert 'action="/ui/queues' not in re.sub(r'<form[^>]*method="get"[^>]*>', "", text)
    assert response.status_code == 403
    assert "read-only" in checked(response)
    # How somebody likes the page is nobody else's business.
    assert send(client, "/ui/theme", theme="dark", back="/").status_code == 303


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
    ids=["none", "another", "null"],
)
def test_a_form_of_another_origin_changes_nothing(
    client: Client, connection: Connection, headers: dict[str, str]
) -> None:
    plant(connection, queue="mails")

    response = client.post("/ui/queues/mails/pause", data={}, headers=headers)

    assert response.status_code == 403
    assert "another origin" in checked(response)
    assert actions(connection) == []


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/ui/nothing", 404, "there is nothing at this path"),
        ("/ui/queues/none", 404, 'there is no queue "none"'),
        ("/ui/jobs/ffffffffffff", 404, "no job"),
        ("/ui/replays/999999", 404, "there is no replay plan 999999"),
        ("/ui/jobs?status=odd", 400, "status is not one of"),
        ("/ui/jobs?nothing=1", 400, 'there is no parameter "nothing" here'),
    ],
)
def test_errors_are_pages_in_words_with_a_way_back(
    client: Client, path: str, status: int, said: str
) -> None:
    text = html.unescape(page(client, path, status))

    assert said in text
    assert 'href="/">overview' in text


def test_without_a_database_the_page_says_so(client_of: MakesClients) -> None:
    client = client_of(url="postgresql://nobody@127.0.0.1:1/none", connect_timeout=1.0)

    for path in ("/", "/ui/jobs"):
        text = page(client, path, 503)
        assert "the database does not answer" in text
        assert f'href="{path}">Try again</a>' in text


def test_an_id_that_several_jobs_have_in_common_names_them(
    client: Client, connection: Connection
) -> None:
    jobs = plant(connection, 2)
    same = "0123456789ab"
    for job in jobs:
        connection.execute(
            "update pgflow.pending set job_id = %s where job_id = %s",
            (job[:24] + same, job),
        )

    text = page(client, f"/ui/jobs/{same}", 409)

    assert text.count(f'{same}">') == 2


def test_every_page_stays_below_a_gateways_path(
    client: Client, planted: Planted, connection: Connection
) -> None:
    for path in every_page(planted, connection):
        text = client.get(path, environ_overrides={"SCRIPT_NAME": "/queue"}).text
        links = re.findall(r'(?:href|action|src|hx-get|data-events)="(/[^"]*)"', text)
        assert links
        assert [link for link in links if not link.startswith("/queue/")] == [], path
