"""The tasks of the Celery peers. celery_group.py starts the worker, and leaves its settings in the environment."""

import json
import os
import types

import celery

import clients

SETTINGS = json.loads(os.environ["BENCH_SETTINGS"])
settings = types.SimpleNamespace(
    endpoint=SETTINGS["endpoint"],
    bucket=SETTINGS["bucket"],
    url=lambda name: f"gs://{SETTINGS['bucket']}/{name}",
)

app = celery.Celery("bench", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
if SETTINGS["options"]["tuned"]:
    # Bytes as they are in place of base64 in JSON; a task for each place in the pool; nothing that nobody reads.
    app.conf.update(
        task_serializer="pickle",
        accept_content=["pickle", "json"],
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        task_acks_late=False,
        task_track_started=False,
        broker_pool_limit=64,
    )

client = None
taken = None


@app.task
def store_with_a_client_of_its_own(name, jpeg):
    """As the article has it."""
    return clients.store(clients.bare(settings), settings, name, jpeg)


@app.task
def store(name, jpeg, which):
    """With a client that is kept; another one for another `which`."""
    global client, taken
    if taken != which:
        client, taken = clients.pooled(settings, SETTINGS["options"]["places"]), which
    return clients.store(client, settings, name, jpeg)
