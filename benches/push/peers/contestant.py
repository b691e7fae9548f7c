"""What all peers have in common: the protocol that the benchmark speaks with them, and where pictures come from.

The settings are the first argument, as JSON. Then each line of standard input is an order and each line of standard
output its answer: {"do": "open"} takes a new client without connections, {"do": "burst"} stores pictures that are in
memory, {"do": "film"} those of a film. An answer tells the milliseconds from the first picture to the last URL.
"""

import json
import pathlib
import subprocess
import sys
import time
import urllib.parse

# As OpenCV and ffmpeg count it: what comes nearest to each other.
OPENCV_QUALITY = 85
FFMPEG_QUALITY = "2"


class Settings:
    def __init__(self, text):
        settings = json.loads(text)
        self.endpoint = settings["endpoint"]
        self.bucket = settings["bucket"]
        # Whether requests go out by TLS, to a server whose authority the environment names.
        self.tls = self.endpoint.startswith("https:")
        self.options = settings["options"]
        paths = sorted(pathlib.Path(settings["pictures"]).iterdir())
        self.pictures = [path.read_bytes() for path in paths]

    def upload_url(self, name):
        """Where one request with nothing but the picture in it creates an object, and never overwrites one."""
        name = urllib.parse.quote(name, safe="")
        return (
            f"{self.endpoint}/upload/storage/v1/b/{self.bucket}/o"
            f"?uploadType=media&ifGenerationMatch=0&name={name}"
        )

    def url(self, name):
        return f"gs://{self.bucket}/{name}"


def from_memory(settings, count):
    pictures = settings.pictures
    for number in range(count):
        yield pictures[number % len(pictures)]


def from_opencv(film, count):
    """As everybody does it."""
    import cv2

    capture = cv2.VideoCapture(film, cv2.CAP_FFMPEG)
    for _ in range(count):
        there, picture = capture.read()
        if not there:
            raise RuntimeError(f"{film} is too short")
        _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, OPENCV_QUALITY])
        yield jpeg.tobytes()
    capture.release()


def from_ffmpeg(film, count):
    """ffmpeg's command line, its JPEGs through a pipe. It counts with its processor time."""
    command = ["ffmpeg", "-v", "error", "-i", film, "-frames:v", str(count), "-f", "image2pipe"]
    command += ["-c:v", "mjpeg", "-q:v", FFMPEG_QUALITY, "-"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as ffmpeg:
        rest = bytearray()
        given = 0
        looked = 0
        while part := ffmpeg.stdout.read1(1 << 20):
            rest += part
            # ffmpeg writes no thumbnails: the first end of image is the picture's.
            while (end := rest.find(b"\xff\xd9", looked)) >= 0:
                yield bytes(rest[: end + 2])
                del rest[: end + 2]
                given += 1
                looked = 0
            looked = max(len(rest) - 1, 0)
    if ffmpeg.returncode or given != count:
        raise RuntimeError(f"ffmpeg ended with {ffmpeg.returncode} after {given} pictures")


class Named:
    """Gives pictures their names: PREFIX/00000000000n.jpg, and n goes on until the next client is taken."""

    def __init__(self):
        self.prefix = ""
        self.number = 0

    def begin(self, prefix):
        self.prefix = prefix
        self.number = 0

    def name(self):
        self.number += 1
        return f"{self.prefix}/{self.number:012}.jpg"


def serve(peer, settings):
    """Carries orders out until there are no more.

    `peer.open(at_once)` takes a new client for so many requests at the same time; `peer.upload(frames, names)` stores
    what an iterator gives and returns the URLs in its order, and `peer.decodes` tells whether that iterator has work
    to do; `peer.close()` ends what it has started.
    """
    names = Named()
    try:
        answer({"ready": True})
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "open":
                names.begin(order["prefix"])
                peer.open(order["at_once"])
                answer({})
                continue
            count = order["frames"]
            source = order.get("source", "memory")
            if source == "memory":
                frames = from_memory(settings, count)
            else:
                frames = {"opencv": from_opencv, "ffmpeg": from_ffmpeg}[source](order["film"], count)
            first = names.number + 1
            peer.decodes = source != "memory"
            begun = time.perf_counter()
            urls = peer.upload(frames, names)
            took = time.perf_counter() - begun
            expected = [settings.url(f"{names.prefix}/{first + nth:012}.jpg") for nth in range(count)]
            if urls != expected:
                raise RuntimeError(f"{len(urls)} URLs for {count} pictures, or not in their order")
            answer({"ms": took * 1000})
    finally:
        peer.close()


def answer(told):
    print(json.dumps(told), flush=True)


def run(make):
    settings = Settings(sys.argv[1])
    serve(make(settings), settings)
