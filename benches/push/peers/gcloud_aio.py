"""gcloud-aio-storage: Cloud Storage's client for asyncio."""

import aiohttp
from gcloud.aio.storage import Storage

import asynchronous
import contestant


class GcloudAio(asynchronous.Asynchronous):
    async def connect(self, at_once):
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once))
        self.storage = Storage(session=self.session, api_root=self.settings.endpoint)

    async def one(self, name, jpeg):
        await self.storage.upload(
            self.settings.bucket,
            name,
            jpeg,
            content_type="image/jpeg",
            parameters={"ifGenerationMatch": "0"},
            force_resumable_upload=False,
            timeout=60,
        )
        return self.settings.url(name)

    async def disconnect(self):
        await self.session.close()


if __name__ == "__main__":
    contestant.run(GcloudAio)
