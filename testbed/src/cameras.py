"""An RTSP server with one mount per camera, playing ready-made H.264 clips.

Reads its configuration as one line of JSON on standard input and leaves when that input closes, so that it cannot
outlive the process that started it. Prints {"port": N} when it accepts connections.

Every client gets a pipeline of its own, which starts at the key frame the wall clock has reached last: a client that
comes back after an outage finds the frame counter advanced by the length of the outage. From there GStreamer's sinks do
the pacing, by the time stamps; there are no timers here that a busy machine could delay.
"""

import json
import os
import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

# Every access unit of a clip begins with a delimiter, and emulation prevention keeps this sequence out of the payload.
DELIMITER = b"\x00\x00\x00\x01\x09"

# The server's UDP ports. Without a pool of addresses GStreamer binds them on every interface.
UDP_PORTS = (20000, 31999)


class Clip:
    """The access units of one clip file; `frames`, `fps` and `gop` as it was encoded."""

    def __init__(self, path, frames, fps, gop):
        with open(path, "rb") as file:
            data = file.read()
        self.units = [DELIMITER + unit for unit in data.split(DELIMITER)[1:]]
        if len(self.units) != frames:
            sys.exit(f"{path} has {len(self.units)} access units instead of {frames}: delete the file")
        self.fps = fps
        self.gop = gop

    def key_frame_now(self):
        """Index of the newest key frame by the wall clock."""
        now = time.time_ns() * self.fps // 1_000_000_000 % len(self.units)
        return now - now % self.gop


class Play:
    """One client's walk through a clip: time stamps from zero, rising by exactly 1/fps."""

    def __init__(self, clip):
        self.clip = clip
        self.sent = 0
        self.start = None

    def need_data(self, source, _length):
        clip = self.clip
        if self.start is None:
            self.start = clip.key_frame_now()
        buffer = Gst.Buffer.new_wrapped(clip.units[(self.start + self.sent) % len(clip.units)])
        buffer.pts = buffer.dts = self.sent * Gst.SECOND // clip.fps
        buffer.duration = Gst.SECOND // clip.fps
        self.sent += 1
        source.emit("push-buffer", buffer)


class Auth(GstRtspServer.RTSPAuth):
    """Digest authentication for some mounts only.

    GStreamer's own way to let anybody in to the others, a default token, turns a missing login into "404 Not Found".
    """

    def __init__(self, open_mounts):
        super().__init__()
        self.open_mounts = open_mounts

    def do_check(self, context, check):
        if context.uri is not None:
            mount = "/" + (context.uri.abspath or "").split("/")[1:2][0]
            if mount in self.open_mounts:
                return True
        return GstRtspServer.RTSPAuth.do_check(self, context, check)


def factory_for(camera, pool):
    factory = GstRtspServer.RTSPMediaFactory()
    # Not shared (the default): each client its own pipeline. The clip repeats SPS and PPS by itself, before each key
    # frame.
    factory.set_launch(
        "( appsrc name=source format=time stream-type=stream max-buffers=2"
        " caps=video/x-h264,stream-format=byte-stream,alignment=au"
        f",width={camera['width']},height={camera['height']},framerate={camera['fps']}/1"
        " ! rtph264pay name=pay0 pt=96 )"
    )
    factory.set_protocols(GstRtsp.RTSPLowerTrans.TCP | GstRtsp.RTSPLowerTrans.UDP)
    factory.set_address_pool(pool)
    clip = Clip(camera["clip"], camera["frames"], camera["fps"], camera["gop"])

    def configure(_factory, media):
        play = Play(clip)
        media.get_element().get_by_name("source").connect("need-data", play.need_data)

    factory.connect("media-configure", configure)
    if camera["user"] is not None:
        # The user's name is the role: somebody else's login does not open this camera.
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role(camera["user"], "media.factory.access", True)
        permissions.add_permission_for_role(camera["user"], "media.factory.construct", True)
        factory.set_permissions(permissions)
    return factory


def main():
    config = json.loads(sys.stdin.readline())
    Gst.init(None)

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(config["port"]))

    cameras = config["cameras"]
    auth = Auth({"/" + camera["name"] for camera in cameras if camera["user"] is None})
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    for camera in cameras:
        if camera["user"] is not None:
            token = GstRtspServer.RTSPToken()
            token.set_string("media.factory.role", camera["user"])
            auth.add_digest(camera["user"], camera["password"], token)
    server.set_auth(auth)

    pool = GstRtspServer.RTSPAddressPool()
    pool.add_range("127.0.0.1", "127.0.0.1", *UDP_PORTS, 0)
    mounts = server.get_mount_points()
    for camera in cameras:
        mounts.add_factory("/" + camera["name"], factory_for(camera, pool))

    if server.attach(None) == 0:
        sys.exit(f"cannot listen on 127.0.0.1:{config['port']}: is the port taken?")

    # Without this the pipeline of a UDP client that went away without a word would play for ever.
    GLib.timeout_add_seconds(5, lambda: server.get_session_pool().cleanup() >= 0)
    # os._exit: pipelines still playing must not delay the end.
    GLib.io_add_watch(0, GLib.IOCondition.HUP | GLib.IOCondition.ERR, lambda *_: os._exit(0))

    print(json.dumps({"port": server.get_bound_port()}), flush=True)
    GLib.MainLoop().run()


main()
