"""What is common to the peers with asyncio."""

import asyncio


class Asynchronous:
    """`connect(at_once)`, `one(name, jpeg)` and `disconnect()` are the peer's."""

    def __init__(self, settings):
        self.settings = settings
        self.loop = asyncio.new_event_loop()
        self.connected = False

    def open(self, at_once):
        self.at_once = at_once
        self.close()
        self.loop.run_until_complete(self.connect(at_once))
        self.connected = True

    def upload(self, frames, names):
        return self.loop.run_until_complete(self.all(frames, names))

    async def all(self, frames, names):
        # Pictures are taken from their source only when there is a connection for them.
        room = asyncio.Semaphore(self.at_once)
        tasks = []

        async def one(name, jpeg):
            try:
                return await self.one(name, jpeg)
            finally:
                room.release()

        while True:
            await room.acquire()
            # Decoding must not hold up what is on its way.
            jpeg = await asyncio.to_thread(next, frames, None) if self.decodes else next(frames, None)
            if jpeg is None:
                break
            tasks.append(self.loop.create_task(one(names.name(), jpeg)))
        return await asyncio.gather(*tasks)

    def close(self):
        if self.connected:
            self.loop.run_until_complete(self.disconnect())
            self.connected = False
