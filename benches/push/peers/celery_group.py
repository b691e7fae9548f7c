"""Celery groups on Redis: a task for each picture, and the group's results are the URLs in their order.

Options: `pool` (prefork, threads, gevent), `places` in it, and whether it is `tuned`.
"""

import itertools
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import contestant

# How long Redis or the worker may take to begin, seconds.
PATIENCE = 120


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Group:
    def __init__(self, settings):
        self.settings = settings
        self.processes = []
        self.opened = 0
        self.dir = tempfile.TemporaryDirectory()
        try:
            self.begin()
        except BaseException:
            self.close()
            raise

    def begin(self):
        settings = self.settings
        port = free_port()
        os.environ["BENCH_REDIS"] = f"redis://127.0.0.1:{port}/0"
        os.environ["BENCH_SETTINGS"] = sys.argv[1]
        # The worker of a benchmark may well be root's, as in a container; only we can reach its Redis.
        os.environ["C_FORCE_ROOT"] = "1"
        redis = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
        self.start(redis + ["--daemonize", "no", "--dir", self.dir.name])
        import celery_tasks

        self.tasks = celery_tasks
        options = settings.options
        worker = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--loglevel", "warning"]
        worker += ["--pool", options["pool"], "--concurrency", str(options["places"])]
        if options["tuned"]:
            worker += ["--without-gossip", "--without-mingle", "--without-heartbeat", "-O", "fair"]
        self.start(worker)
        self.wait()

    def start(self, command):
        here = pathlib.Path(__file__).parent
        log = open(pathlib.Path(self.dir.name) / f"{len(self.processes)}.log", "wb")
        # Or it would stay when this process is killed.
        command = ["setpriv", "--pdeathsig", "TERM"] + command
        self.processes.append(
            subprocess.Popen(command, cwd=here, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        )

    def wait(self):
        """Until the worker answers."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for process in self.processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args[3]} ended with {process.returncode}: {self.logs()}")
            try:
                if self.tasks.app.control.ping(timeout=0.5):
                    return
            except self.tasks.app.connection_for_write().transport.connection_errors:
                time.sleep(0.1)
        raise RuntimeError(f"the worker does not answer: {self.logs()}")

    def logs(self):
        return " | ".join(log.read_text(errors="replace")[-1000:] for log in pathlib.Path(self.dir.name).glob("*.log"))

    def open(self, at_once):
        self.opened += 1
        self.at_once = at_once

    def upload(self, frames, names):
        """In groups of as many as may be on their way; the next one is there before the last one has ended."""
        urls = []
        before = None
        while jpegs := list(itertools.islice(frames, self.at_once)):
            group = self.tasks.celery.group(self.task(names.name(), jpeg) for jpeg in jpegs).apply_async()
            if before:
                urls += self.ended(before)
            before = group
        return urls + self.ended(before)

    def task(self, name, jpeg):
        if self.settings.options["tuned"]:
            return self.tasks.store.s(name, jpeg, self.opened)
        return self.tasks.store_with_a_client_of_its_own.s(name, jpeg)

    def ended(self, group):
        # As they come in: `group.get()` looks twice a second.
        urls = group.join(timeout=PATIENCE)
        group.forget()
        return urls

    def close(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.dir.cleanup()


if __name__ == "__main__":
    contestant.run(Group)
