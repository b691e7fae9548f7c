"""A pool of threads with google-cloud-storage: one client, as many threads and connections as requests at once."""

import concurrent.futures
import threading

import clients
import contestant


class Threads:
    def __init__(self, settings):
        self.settings = settings
        self.client = None
        self.pool = None

    def open(self, at_once):
        self.close()
        self.client = clients.pooled(self.settings, at_once)
        self.pool = concurrent.futures.ThreadPoolExecutor(at_once)
        # Pictures are taken from their source only when there is a thread for them.
        self.room = threading.Semaphore(2 * at_once)

    def upload(self, frames, names):
        waiting = []
        for jpeg in frames:
            self.room.acquire()
            waiting.append(self.pool.submit(self.one, names.name(), jpeg))
        return [future.result() for future in waiting]

    def one(self, name, jpeg):
        try:
            return clients.store(self.client, self.settings, name, jpeg)
        finally:
            self.room.release()

    def close(self):
        if self.pool:
            self.pool.shutdown()
            self.client.close()
            self.pool = None


if __name__ == "__main__":
    contestant.run(Threads)
