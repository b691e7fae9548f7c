"""aiohttp and nothing else: one request for each picture, no retry, no order but that of gather."""

import aiohttp

import asynchronous
import contestant


class Bare(asynchronous.Asynchronous):
    async def connect(self, at_once):
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once))

    async def one(self, name, jpeg):
        url = self.settings.upload_url(name)
        async with self.session.post(url, data=jpeg, headers={"Content-Type": "image/jpeg"}) as answer:
            await answer.read()
            answer.raise_for_status()
        return self.settings.url(name)

    async def disconnect(self):
        await self.session.close()


if __name__ == "__main__":
    contestant.run(Bare)
