"""An RTSP server with one mount per camera, playing ready-made clips of H.264, H.265 or JPEGs.

Reads its configuration as one line of JSON on standard input and leaves when that input closes, so that it cannot
outlive the process that started it. Prints {"port": N} when it accepts connections. Each further line is an order, and is
answered by one line, see `Server.obey`.

Every client gets a pipeline of its own, which starts at the key frame the wall clock has reached last: a client that
comes back after an outage finds the frame counter advanced by the length of the outage. From there GStreamer's sinks do
the pacing, by the time stamps; there are no timers here that a busy machine could delay.
"""

import json
import os
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

# Of each codec: what comes out of a clip, what puts it into packets, and what each picture begins with and nothing within it
# contains (access-unit delimiters, kept unique by emulation prevention; the start of a JPEG).
CODECS = {
    "h264": (
        "video/x-h264,stream-format=byte-stream,alignment=au",
        "rtph264pay pt=96",
        b"\x00\x00\x00\x01\x09",
    ),
    "h265": (
        "video/x-h265,stream-format=byte-stream,alignment=au",
        "rtph265pay pt=96",
        b"\x00\x00\x00\x01\x46\x01",
    ),
    "mjpeg": ("image/jpeg", "rtpjpegpay pt=26", b"\xff\xd8\xff"),
}

# The server's UDP ports. Without a pool of addresses GStreamer binds them on every interface.
UDP_PORTS = (20000, 31999)


class Clip:
    """The pictures of one clip file; `frames`, `fps`, `gop` and `codec` as it was encoded."""

    def __init__(self, settings):
        path = settings["clip"]
        start = CODECS[settings["codec"]][2]
        with open(path, "rb") as file:
            data = file.read()
        self.units = [start + unit for unit in data.split(start)[1:]]
        if len(self.units) != settings["frames"]:
            raise ValueError(f"{path} has {len(self.units)} pictures instead of {settings['frames']}: delete the file")
        self.fps = settings["fps"]
        self.gop = settings["gop"]

    def key_frame_now(self):
        """Index of the newest key frame by the wall clock."""
        now = time.time_ns() * self.fps // 1_000_000_000 % len(self.units)
        return now - now % self.gop


class Play:
    """One client's walk through a clip: time stamps from zero, rising by exactly 1/fps."""

    def __init__(self, clip, source):
        self.clip = clip
        self.source = source
        self.upcoming = None
        self.silent = False
        self.sent = 0
        self.next = None
        # need_data runs on the pipeline's thread, orders on the main one.
        self.lock = threading.Lock()
        source.connect("need-data", self.need_data)

    def need_data(self, source, _length):
        with self.lock:
            if self.silent:
                return
            if self.next is None:
                self.next = self.clip.key_frame_now()
            if self.upcoming is not None and self.next % self.clip.gop == 0:
                self.clip, self.upcoming = self.upcoming, None
            buffer = Gst.Buffer.new_wrapped(self.clip.units[self.next])
            buffer.pts = buffer.dts = self.sent * Gst.SECOND // self.clip.fps
            buffer.duration = Gst.SECOND // self.clip.fps
            self.sent += 1
            self.next = (self.next + 1) % len(self.clip.units)
            source.emit("push-buffer", buffer)

    def silence(self):
        """Sends nothing more. The connection stays, and the server goes on answering and sending reports on it."""
        with self.lock:
            self.silent = True

    def end(self):
        """Ends the stream in good order; returns the counter of its last picture."""
        with self.lock:
            self.silent = True
            self.source.emit("end-of-stream")
            return None if self.next is None else (self.next - 1) % len(self.clip.units)

    def change(self, clip):
        """Goes on with another clip of the same length and rate, at the next key frame."""
        with self.lock:
            self.upcoming = clip


class Camera:
    """A mount: what new clients get, and the streams of those that are there."""

    def __init__(self, settings, pool):
        # Not shared (the default): each client its own pipeline.
        self.factory = GstRtspServer.RTSPMediaFactory()
        self.factory.set_protocols(GstRtsp.RTSPLowerTrans.TCP | GstRtsp.RTSPLowerTrans.UDP)
        self.factory.set_address_pool(pool)
        self.factory.connect("media-configure", self.configure)
        if settings["user"] is not None:
            # The user's name is the role: somebody else's login does not open this camera.
            permissions = GstRtspServer.RTSPPermissions()
            permissions.add_permission_for_role(settings["user"], "media.factory.access", True)
            permissions.add_permission_for_role(settings["user"], "media.factory.construct", True)
            self.factory.set_permissions(permissions)
        self.plays = set()
        self.show(settings)

    def show(self, settings):
        """Gives clients that come from now on these pictures."""
        self.clip = Clip(settings)
        caps, payloader, _ = CODECS[settings["codec"]]
        # A clip repeats its parameter sets by itself, before each key frame.
        self.factory.set_launch(
            f"( appsrc name=source format=time stream-type=stream max-buffers=2 caps={caps}"
            f",width={settings['width']},height={settings['height']},framerate={settings['fps']}/1"
            f" ! {payloader} name=pay0 )"
        )

    def configure(self, _factory, media):
        play = Play(self.clip, media.get_element().get_by_name("source"))
        self.plays.add(play)
        media.connect("unprepared", lambda _media: self.plays.discard(play))

    def now_playing(self):
        return list(self.plays)


class Auth(GstRtspServer.RTSPAuth):
    """Digest authentication for some mounts only, with a count of the logins.

    GStreamer's own way to let anybody in to the others, a default token, turns a missing login into "404 Not Found".
    """

    def __init__(self, open_mounts):
        super().__init__()
        self.open_mounts = open_mounts
        self.accepted = 0
        self.refused = 0

    def do_check(self, context, check):
        if context.uri is not None:
            mount = "/" + (context.uri.abspath or "").split("/")[1:2][0]
            if mount in self.open_mounts:
                return True
        allowed = GstRtspServer.RTSPAuth.do_check(self, context, check)
        # This one check is made once in a request to a mount; a user without a right to the mount fails it as well.
        if check == "auth.check.media.factory.access" and self.has_login(context.request):
            if allowed:
                self.accepted += 1
            else:
                self.refused += 1
        return allowed

    @staticmethod
    def has_login(request):
        result, _ = request.get_header(GstRtsp.RTSPHeaderField.AUTHORIZATION, 0)
        return result == GstRtsp.RTSPResult.OK


class Server:
    """The mounts, and what can be ordered while they run."""

    def __init__(self, config):
        cameras = config["cameras"]
        self.auth = Auth({"/" + camera["name"] for camera in cameras if camera["user"] is None})
        self.auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        for camera in cameras:
            if camera["user"] is not None:
                token = GstRtspServer.RTSPToken()
                token.set_string("media.factory.role", camera["user"])
                self.auth.add_digest(camera["user"], camera["password"], token)

        pool = GstRtspServer.RTSPAddressPool()
        pool.add_range("127.0.0.1", "127.0.0.1", *UDP_PORTS, 0)
        self.cameras = {camera["name"]: Camera(camera, pool) for camera in cameras}

        self.rtsp = GstRtspServer.RTSPServer()
        self.rtsp.set_address("127.0.0.1")
        self.rtsp.set_service(str(config["port"]))
        self.rtsp.set_auth(self.auth)
        for name, camera in self.cameras.items():
            self.rtsp.get_mount_points().add_factory("/" + name, camera.factory)

    def obey(self, order):
        """Carries out one order and returns the answer, which says whom it reached."""
        do = order["do"]
        if do == "logins":
            return {"accepted": self.auth.accepted, "refused": self.auth.refused}
        camera = self.cameras[order["name"]]
        plays = camera.now_playing()
        if do == "silence":
            for play in plays:
                play.silence()
            return {"streams": len(plays)}
        if do == "end":
            return {"last": [play.end() for play in plays]}
        if do == "show":
            camera.show(order["mount"])
            return {"last": [play.end() for play in plays]}
        if do == "change":
            camera.show(order["mount"])
            for play in plays:
                play.change(camera.clip)
            return {"streams": len(plays)}
        raise ValueError(f"unknown order {do}")


def take_orders(server):
    """Answers each line of standard input, and ends the process when it closes."""
    rest = b""

    def readable(_fd, condition):
        nonlocal rest
        data = os.read(0, 65536) if condition & GLib.IOCondition.IN else b""
        if not data:
            # Not sys.exit: pipelines still playing must not delay the end.
            os._exit(0)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            try:
                answer = server.obey(order)
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps({"id": order["id"], **answer}), flush=True)
        return True

    GLib.io_add_watch(0, GLib.IOCondition.IN | GLib.IOCondition.HUP | GLib.IOCondition.ERR, readable)


def main():
    config = json.loads(sys.stdin.readline())
    Gst.init(None)
    try:
        server = Server(config)
    except ValueError as error:
        sys.exit(str(error))
    if server.rtsp.attach(None) == 0:
        sys.exit(f"cannot listen on 127.0.0.1:{config['port']}: is the port taken?")

    # Without this the pipeline of a UDP client that went away without a word would play for ever.
    GLib.timeout_add_seconds(5, lambda: server.rtsp.get_session_pool().cleanup() >= 0)
    take_orders(server)

    print(json.dumps({"port": server.rtsp.get_bound_port()}), flush=True)
    GLib.MainLoop().run()


main()
