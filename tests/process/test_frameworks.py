"""What docs/api.md shows for web servers, task queues and scripts runs in them as it stands, and loses nothing at their end.

Each test writes the page's own blocks into modules, starts the framework's own command, and ends it as its users do.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kpipe.broker import EmbeddedBroker
from tests.broker.lab.cluster import until
from tests.broker.lab.leash import leashed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Kpipe

pytestmark = pytest.mark.cold

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def shown(mark: str) -> str:
    """The page's block in which something stands."""
    (block,) = [block for block in BLOCKS if mark in block]
    return block


class Place:
    """A folder with the page's `events.py`, a configuration, and a broker that it names."""

    def __init__(self, folder: Path, broker: str, kpipe: Kpipe) -> None:
        self._folder, self._broker, self._kpipe = folder, broker, kpipe
        self.write("config.toml", f'[clusters.prod]\nbootstrap.servers = "{broker}"\n')
        self.write("events.py", shown("# events.py"))

    def write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)

    @property
    def _environment(self) -> dict[str, str]:
        own = {"HOME": str(self._folder), "KPIPE_CONFIG": str(self._folder / "config.toml"), "PYTHONWARNINGS": "ignore"}
        return own | {"PATH": os.environ["PATH"], "PYTHONPATH": str(self._folder)}

    @contextmanager
    def running(self, *words: str) -> Iterator[None]:
        """A server, which is ended by SIGTERM; what it says is shown when a test fails."""
        with (self._folder / "said").open("wb") as said:
            command = leashed([sys.executable, "-m", *words])
            process = subprocess.Popen(
                command, stdout=said, stderr=said, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL
            )
            try:
                yield
                process.send_signal(signal.SIGTERM)
                process.wait(60)
            finally:
                process.kill()
                process.wait(10)
                sys.stdout.write((self._folder / "said").read_text())

    def run(self, text: str, *words: str) -> None:
        """A script, to its end."""
        done = subprocess.run(
            [sys.executable, "-c", text, *words],
            capture_output=True, text=True, timeout=60, check=False, cwd=self._folder, env=self._environment,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done.stderr

    def records(self, topic: str) -> list[str]:
        """Key and value of what is in a topic."""
        done = self._kpipe("consume", "-e", "-f", "%k=%s\n", f"{self._broker}/{topic}")
        assert done.code == 0, done.err
        return done.out.decode().splitlines()


@pytest.fixture
def place(tmp_path: Path, kpipe: Kpipe) -> Iterator[Place]:
    with EmbeddedBroker(topics={"visits": 1, "charges": 1, "users": 1}) as broker:
        yield Place(tmp_path, broker.bootstrap, kpipe)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def post(port: int, body: bytes, status: int) -> Callable[[], bool]:
    """Whether the server has answered; not before it listens."""

    def sent() -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/visits", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return bool(answer.status == status)
        except ConnectionRefusedError:
            return False
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                return False
            raise

    return sent


DJANGO = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", MIDDLEWARE=[__name__ + ".known"])

def known(get_response):
    def answer(request):
        request.user = type("User", (), {"get_username": lambda self: "ada"})()
        return get_response(request)
    return answer

application = get_wsgi_application()
from views import visit
urlpatterns = [path("visits", visit)]
"""


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_a_django_view_in_gunicorn(place: Place, preload: list[str]) -> None:
    """The record lingers when the server is told to end."""
    place.write("events.py", shown("# events.py").replace("linger_ms=20", "linger_ms=60_000"))
    place.write("views.py", shown("# views.py"))
    place.write("site_wsgi.py", DJANGO)
    port = free_port()
    with place.running("gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", *preload, "site_wsgi:application"):
        until(post(port, b"hello", 202), "the server answers")
        assert place.records("visits") == []
    assert place.records("visits") == ["ada=hello"]


FASTAPI = """
import asyncio
from contextlib import asynccontextmanager
from fastapi import FastAPI
from pydantic import BaseModel
from events import events

class Visit(BaseModel):
    user: int

{lifespan}
app = FastAPI(lifespan=lifespan)
"""


def test_a_fastapi_handler_in_uvicorn(place: Place) -> None:
    place.write("service.py", FASTAPI.format(lifespan=shown("def lifespan(app)")) + shown("async def visit"))
    port = free_port()
    with place.running("uvicorn", "--port", str(port), "service:app"):
        until(post(port, b'{"user": 7}', 200), "the server answers")
        assert place.records("visits") == ['7={"user":7}']


CELERY = """
import json
from celery import Celery
app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {{"data_folder_in": "{queue}", "data_folder_out": "{queue}", "control_folder": "{queue}"}}
app.conf.update(broker_connection_retry_on_startup=False, worker_hijack_root_logger=False)
{block}

@app.task
def visit(user):
    events.produce("visits", "{{}}", key=user)
"""


@pytest.mark.long
def test_celery_tasks_in_a_prefork_worker(place: Place, tmp_path: Path) -> None:
    """One waits for its record; what the other has sent is flushed when the worker's child ends."""
    (tmp_path / "queue").mkdir()
    place.write("events.py", shown("# events.py").replace("linger_ms=20", "linger_ms=3_000"))
    place.write("tasks.py", CELERY.format(queue=tmp_path / "queue", block=shown("@app.task(acks_late=True)")))
    place.run("from tasks import visit, charge; visit.delay('ada'); charge.delay(7)")
    with place.running("celery", "-A", "tasks", "worker", "-c", "1", "--without-gossip", "--without-mingle"):
        until(lambda: bool(place.records("charges")), "the task is done")
    assert place.records("charges") == ['7={"order": 7}']
    assert place.records("visits") == ["ada={}"]


JOBS = """
from events import events

def waiting():
    events.produce_sync("charges", "sync", key="1")

def flushing():
    events.produce("charges", "flushed", key="2")
    events.flush()
"""


RQ = """
import fakeredis, logging, rq, jobs
connection = fakeredis.FakeStrictRedis()
queue = rq.Queue(connection=connection)
queue.enqueue(jobs.waiting)
queue.enqueue(jobs.flushing)
logging.disable()  # the work horse, a fork, finishes a job in a copy of this process's Redis: the worker finds it unfinished
rq.Worker([queue], connection=connection).work(burst=True)
"""


@pytest.mark.long
def test_a_job_of_rq_waits_for_its_record_or_flushes(place: Place) -> None:
    """Its work horse ends with os._exit, which runs nothing."""
    place.write("jobs.py", JOBS)
    place.run(RQ)
    assert place.records("charges") == ["1=sync", "2=flushed"]


CRON = """
import json

class User:
    def __init__(self, number): self.number = number
    def as_json(self): return json.dumps({"id": self.number}, separators=(",", ":"))

def users():
    return map(User, range(3))
"""


def test_a_script_of_cron(place: Place) -> None:
    place.run(CRON + shown("api.finish_on_signals()"))
    assert place.records("users") == ['0={"id":0}', '1={"id":1}', '2={"id":2}']
