"""Asks a recorder what hikvisionapi can ask, by its two clients, and prints what they made of the answers."""

import asyncio
import hashlib
import json
import sys

from hikvisionapi import AsyncClient, Client

SEARCH = """<CMSearchDescription><searchID>0C5A0B6E-6E2B-4F0A-9C53-2B9B2F3C7D11</searchID>
<trackIDList><trackID>101</trackID></trackIDList>
<timeSpanList><timeSpan>
<startTime>2026-11-19T00:00:00Z</startTime><endTime>2026-11-19T23:59:59Z</endTime>
</timeSpan></timeSpanList>
<maxResults>40</maxResults><searchResultPostion>{}</searchResultPostion></CMSearchDescription>"""
DOWNLOAD = "<downloadRequest><playbackURI>{}</playbackURI></downloadRequest>"


def download(uri):
    return DOWNLOAD.format(uri.replace("&", "&amp;"))


def by_name(match):
    return match["mediaSegmentDescriptor"]["name"]


def uri(match):
    return match["mediaSegmentDescriptor"]["playbackURI"]


def synchronous(endpoint, user, password):
    api = Client(endpoint, user, password)
    channels = api.Streaming.channels(method="get")["StreamingChannelList"]["StreamingChannel"]
    matches, words = [], []
    while not words or words[-1] == "MORE":
        page = api.ContentMgmt.search(method="post", data=SEARCH.format(len(matches)))["CMSearchResult"]
        words.append(page["responseStatusStrg"])
        matches += page["matchList"]["searchMatchItem"]
    response = api.ContentMgmt.download(method="get", type="opaque_data", data=download(uri(matches[0])))
    return {
        "device": api.System.deviceInfo(method="get")["DeviceInfo"]["deviceType"],
        "time": api.System.time(method="get")["Time"]["localTime"],
        "tracks": [track["id"] for track in api.ContentMgmt.record.tracks(method="get")["TrackList"]["Track"]],
        "channels": [channel["id"] for channel in channels],
        "words": words,
        "names": [by_name(match) for match in matches],
        "first": hashlib.md5(response.content).hexdigest(),
    }


async def asynchronous(endpoint, user, password):
    api = AsyncClient(endpoint, user, password)
    cameras = await api.ContentMgmt.InputProxy.channels(method="get")
    page = await api.ContentMgmt.search(method="post", content=SEARCH.format(0))
    matches = page["CMSearchResult"]["matchList"]["searchMatchItem"]
    content = b""
    async for chunk in api.ContentMgmt.download(method="get", type="opaque_data", content=download(uri(matches[1]))):
        content += chunk
    return {
        "cameras": [camera["name"] for camera in cameras["InputProxyChannelList"]["InputProxyChannel"]],
        "second": hashlib.md5(content).hexdigest(),
    }


print(json.dumps({**synchronous(*sys.argv[1:]), **asyncio.run(asynchronous(*sys.argv[1:]))}))
