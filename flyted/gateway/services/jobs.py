"""Runs deploys and image builds, which continue after their RPC has been answered.

flyted does the work, and would finish a deploy without the gateway; here is kept who waits for it, and how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flyted.base import tasks
from flyted.contract.answers.apps import Deployed, ImageStatus
from flyted.contract.answers.events import Accepted, Event, Progress
from flyted.contract.errors import NOT_HERE, Busy, FlytedError, NotFound
from flyted.contract.names import AppKey, printable
from flyted.gateway.daemon import Daemon
from flyted.gateway.errors import FAULT, one_text
from flyted.gateway.files.whole import oldest, opened, replace
from flyted.gateway.harmless import harmless

log = logging.getLogger(__name__)

DEPLOY_WAIT_S = 90.0
"""Seconds that a deploy waits for another one of the same app before its client gets an error."""
FAILURE_SHOWN_S = 600.0
RUNS = 200
"""The most builds that are kept."""
FEW = 20
"""The most ended builds that are kept in memory, since they could not be stored."""
LINES, CHARACTERS = 1000, 256 << 10
"""The last lines of a build's output that are kept, and the most characters of them together."""
_RUN = re.compile(r"r[0-9a-f]{19}")
GONE = "the gateway was restarted during this build; serve the app again; finished steps are kept"


class News:
    """A signal that wakes all waiters for the next change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Wake all waiters."""
        self._event.set()
        self._event = asyncio.Event()

    def wait(self, seconds: float) -> Coroutine[Any, Any, None]:
        """Return what waits for the next change after this call, ``seconds`` at most."""
        return _set(self._event, seconds)


async def _set(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


@dataclass
class Deploy:
    """One deploy. ``accepted`` is flyted's event, after which it refuses nothing."""

    key: AppKey
    begun: float
    started: float = field(default_factory=time.monotonic)
    text: str = ""
    accepted: Accepted | None = None
    error: FlytedError | None = None
    answer: Deployed | None = None
    news: News = field(default_factory=News)

    @property
    def running(self) -> bool:
        """True if it has neither succeeded nor failed yet."""
        return self.error is None and self.answer is None


@dataclass
class Run:
    """One image build, which Flyte calls a "run".

    ``phase`` is running, succeeded, failed or aborted; ``target`` is the image's name, ``image`` its address once it
    is built. ``begun`` and ``ended`` are seconds since 1970; ``ended`` is 0 while the build runs. ``output``: the last
    :data:`LINES` of its ``said`` lines, each after its time; ``size``: their characters.
    """

    name: str
    project: str
    domain: str
    target: str
    begun: float
    phase: str = "running"
    image: str = ""
    error: str = ""
    ended: float = 0.0
    said: int = 0
    size: int = 0
    output: list[tuple[float, str]] = field(default_factory=list)

    def hear(self, text: str) -> None:
        """Add a line to the output, in a form that is safe to print."""
        line = harmless(text)
        self.said += 1
        self.size += len(line)
        self.output.append((time.time(), line))
        while len(self.output) > LINES or self.size > CHARACTERS:
            self.size -= len(self.output.pop(0)[1])

    def since(self, seen: int) -> list[tuple[float, str]]:
        """Return what is kept of the lines after the first ``seen``."""
        return self.output[-(self.said - seen) :] if self.said > seen else []


class Jobs:
    """All deploys and builds. What runs is in memory; each build is also a file, and only that when it has ended."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self._daemon = daemon
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self._deploys: dict[AppKey, Deploy] = {}
        self._runs: dict[str, tuple[Run, News]] = {}  # those that run, and ended ones without a file
        self._building: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """True if a deploy or a build is in progress."""
        return bool(self._tasks)

    def deploy_of(self, key: AppKey) -> Deploy | None:
        """Return the deploy of an app that runs, or that failed and began less than ``FAILURE_SHOWN_S`` ago."""
        found = self._deploys.get(key)
        if found is not None and not found.running and time.monotonic() - found.started > FAILURE_SHOWN_S:
            del self._deploys[key]
            return None
        return found

    def forget(self, key: AppKey) -> None:
        """Forget a deploy of the app that has failed: the client asks for something else now."""
        found = self._deploys.get(key)
        if found is not None and not found.running:
            del self._deploys[key]

    def drop(self, key: AppKey) -> None:
        """Forget any deploy of the app, which is deleted: flyted has cancelled the deploy."""
        self._deploys.pop(key, None)

    async def deploy(self, key: AppKey, spec: dict[str, Any], bundles: Mapping[str, Path], token: str) -> Deploy:
        """Begin to serve an app, and return when flyted has accepted it or has nothing to do.

        Wait for another deploy of the same app, ``DEPLOY_WAIT_S`` seconds at most. Raise :class:`Busy` if that takes
        longer, and any error with which flyted refuses the app.
        """
        deploy = Deploy(key, time.time())
        until = time.monotonic() + DEPLOY_WAIT_S
        while True:
            other = self._deploys.get(key)
            if other is not None and other.running and time.monotonic() < until:
                await other.news.wait(until - time.monotonic())
                continue
            self._start(self._serve(deploy, spec, bundles, token))
            while deploy.accepted is None and deploy.running:
                await deploy.news.wait(3600)
            if isinstance(deploy.error, Busy) and deploy.accepted is None and time.monotonic() < until:
                deploy = Deploy(key, time.time())
                await asyncio.sleep(0.5)  # a deploy that did not come through here: flyted has no event for its end
                continue
            if deploy.error is not None and deploy.accepted is None:
                raise deploy.error
            return deploy

    async def _serve(self, deploy: Deploy, spec: dict[str, Any], bundles: Mapping[str, Path], token: str) -> None:
        def heard(event: Event) -> None:
            if isinstance(event, Accepted):
                deploy.accepted = event
                self._deploys[deploy.key] = deploy
            if isinstance(event, Progress):
                deploy.text = event.text
            deploy.news.tell()

        try:
            with opened(bundles) as fds:
                deploy.answer = await self._daemon.call(
                    Deployed, "app.serve", {"spec": spec}, token=token, bundles=fds, on_event=heard
                )
            if self._deploys.get(deploy.key) is deploy:
                del self._deploys[deploy.key]
        except FlytedError as error:
            deploy.error = error
        except Exception:
            log.exception("a deploy failed")
            deploy.error = FlytedError(FAULT)
        finally:
            if deploy.running:
                deploy.error = FlytedError("the gateway was stopped during this deploy; flyted continues it")
            deploy.news.tell()

    async def build(
        self, project: str, domain: str, target: str, image: dict[str, Any], bundles: Mapping[str, Path], token: str,
        done: Callable[[str], str], note: str = "",
    ) -> Run:  # fmt: skip
        """Begin to build an image, and return when flyted has accepted its recipe. Cancelled before that, end it.

        ``bundles``: files with what the image copies, by their SHA-256. ``done`` is called with flyted's hash of the
        image when it is built, and returns its address; if it raises, the run has failed. ``note``: the first line of
        the output. Raise the error with which flyted refuses the recipe.
        """
        run = Run(f"r{secrets.token_hex(10)[:19]}", project, domain, target, time.time())
        if note:
            run.hear(note)
        news = News()
        refused: list[FlytedError] = []
        task = self._start(self._build(run, news, image, bundles, token, refused, done))
        self._building[run.name] = task
        task.add_done_callback(lambda _task: self._building.pop(run.name))
        try:
            while run.name not in self._runs and run.phase == "running":
                await news.wait(3600)
        except asyncio.CancelledError:
            if run.name not in self._runs:  # else its client may have heard of it
                task.cancel()
            raise
        if refused:
            raise refused[0]
        return run

    async def _build(
        self,
        run: Run,
        news: News,
        image: dict[str, Any],
        bundles: Mapping[str, Path],
        token: str,
        refused: list[FlytedError],
        done: Callable[[str], str],
    ) -> None:
        started = time.monotonic()

        def heard(event: Event) -> None:
            if isinstance(event, Accepted):
                self._runs[run.name] = (run, news)
                self._write(run)
            else:
                run.hear(event.text)
            news.tell()

        args = {"project": run.project, "domain": run.domain, "image": image}
        try:
            with opened(bundles) as fds:
                built = await self._daemon.call(
                    ImageStatus, "image.build", args, token=token, bundles=fds, on_event=heard
                )
            run.image = done(built.hash)
            run.phase = "succeeded"
        except FlytedError as error:
            run.phase, run.error = "failed", one_text(error)
            if run.name not in self._runs:
                refused.append(error)
        except Exception:
            log.exception("a build failed")
            run.phase, run.error = "failed", FAULT
            if run.name not in self._runs:
                refused.append(FlytedError(FAULT))
        finally:
            run.ended = run.begun + time.monotonic() - started
            if run.phase == "running":
                run.phase, run.error = "failed", GONE
            if run.name in self._runs and self._write(run):
                del self._runs[run.name]
            news.tell()

    def abort(self, name: str, reason: str) -> None:
        """End a build that runs in this process: flyted calls it off when its connection closes.

        Raise :class:`NotFound` if there is none of this name.
        """
        run = self.run(name)
        if (task := self._building.get(name)) is not None:
            run.phase, run.error = "aborted", reason
            task.cancel()

    def run(self, name: str) -> Run:
        """Return a build by its name. Raise :class:`NotFound` if there is none.

        A build that an earlier process of the gateway left unfinished counts as failed.
        """
        if name in self._runs:
            return self._runs[name][0]
        try:
            if _RUN.fullmatch(name):
                run = Run(**json.loads((self._folder / name).read_bytes()))
                if run.phase == "running":
                    run.phase, run.error = "failed", GONE
                return run
        except (OSError, ValueError, TypeError):
            pass
        raise NotFound(f"there is no run {printable(name)}: the only runs are image builds; {NOT_HERE}")

    def news_of(self, name: str) -> News | None:
        """Return the signal of a build, or None unless it runs in this process."""
        found = self._runs.get(name)
        return found[1] if found and found[0].phase == "running" else None

    def _write(self, run: Run) -> bool:
        """Store a build, and delete the oldest ones beyond ``RUNS``. Return False if that fails."""
        try:
            replace(self._folder / run.name, json.dumps(asdict(run)).encode())
            for path in oldest(self._folder, RUNS):
                path.unlink(missing_ok=True)
        except OSError:
            log.warning("the output of image build %s is not stored", run.name, exc_info=True)
            ended = [kept for kept, _ in self._runs.values() if kept.phase != "running"]
            for kept in sorted(ended, key=lambda each: each.ended)[:-FEW]:
                del self._runs[kept.name]
            return False
        return True

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = tasks.begin(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
