"""aiortc as a WebRTC publisher and player.

Usage: webrtc.py publish URL FILE, by WHIP (RFC 9725): the H.264 of an FLV as it is, its sound as Opus, over and
over until told to end (SIGTERM).
       webrtc.py play URL [SECONDS], by WHEP: prints what `judge.py` prints. The times of pictures and sound are on one
clock by the sender reports of each (RFC 3550, 6.4.1), as in any browser.
       webrtc.py many URL COUNT PICTURES, by WHEP: so many players at once of pictures, one in five of sound too, until
told to end and each has seen so many. Prints a list of what `judge.py` prints.
       webrtc.py ice URL FILE, as publish, but without DTLS.
"""

import asyncio
import fractions
import json
import signal
import sys
import time
import urllib.parse
import urllib.request

import aioice.ice
import av
from aiortc import (
    MediaStreamTrack,
    RTCDtlsTransport,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
    clock,
    rtcrtpreceiver,
)
from aiortc.rtp import RtcpSrPacket

from judge import Judge

PATIENCE_S = 20
# The clip's, so that it goes on where it starts again.
CLIP_S = 8
# After so much an Opus decoder that joins has what it needs (RFC 7845, 4.6); before, the beginning of a sound may come
# out many times too loud.
CONVERGED_S = 0.08

aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


class Clip:
    """A file over and over in real time, on one clock for picture and sound."""

    def __init__(self, file):
        self.file = file
        self.start = None
        self.tracks = [Feed(self, "video", self.pictures()), Feed(self, "audio", self.sound())]

    def pictures(self):
        """Packets for RTP, with parameter sets before each keyframe."""
        lap = 0
        while True:
            with av.open(self.file) as container:
                stream = container.streams.video[0]
                to_annex_b = av.BitStreamFilterContext("h264_mp4toannexb", stream)
                packets = (out for packet in container.demux(stream) if packet.size for out in to_annex_b.filter(packet))
                for packet in packets:
                    packet.pts += lap * round(CLIP_S / packet.time_base)
                    yield float(packet.pts * packet.time_base), packet
            lap += 1

    def sound(self):
        """Frames of 48 kHz; the file's first is at zero."""
        pts = 0
        while True:
            resampler = av.AudioResampler(format="s16", layout="stereo", rate=48000, frame_size=960)
            with av.open(self.file) as container:
                # All but the clip's length is padding of the encoder.
                left = CLIP_S * 48000
                for frame in container.decode(audio=0):
                    for out in resampler.resample(frame):
                        if left <= 0:
                            break
                        left -= out.samples
                        out.pts, out.time_base = pts, fractions.Fraction(1, 48000)
                        yield pts / 48000, out
                        pts += out.samples

    async def wait_for(self, time_s):
        """Returns the time waited for, as NTP's."""
        if self.start is None:
            self.start, self.start_ntp = time.monotonic(), clock.current_ntp_time()
        await asyncio.sleep(self.start + time_s - time.monotonic())
        return self.start_ntp + round(time_s * 2**32)


class Feed(MediaStreamTrack):
    def __init__(self, clip, kind, media):
        super().__init__()
        self.kind, self.clip, self.media = kind, clip, media

    async def recv(self):
        time_s, item = next(self.media)
        self.due = await self.clip.wait_for(time_s)
        return item


# aiortc's sender reports pair a timestamp with the time when it was sent; others' pair it with the time of its
# picture or sound, and a busy machine does not show in them.
RTCRtpSender._RTCRtpSender__ntp_timestamp = property(
    lambda sender: sender.due, lambda sender, sent: setattr(sender, "due", sent and sender.track.due)
)


async def publish(end, url, file):
    connection = RTCPeerConnection()
    for track in Clip(file).tracks:
        h264_alone(connection.addTransceiver(track, direction="sendonly"))
    resource = await offer(connection, url)
    await end.wait()
    await leave(connection, resource)


async def play(end, url, seconds):
    player = Player(seconds)
    await player.play(url, {end.wait(), player.ready.wait()}, asyncio.FIRST_COMPLETED)
    return player.verdict()


async def many(end, url, count, pictures):
    viewers = [Viewer(["video", "audio"] if n % 5 == 0 else ["video"], pictures) for n in range(count)]
    plays = (viewer.play(url, {end.wait(), viewer.ready.wait()}, asyncio.ALL_COMPLETED) for viewer in viewers)
    await asyncio.gather(*plays)
    return [viewer.judge.verdict() for viewer in viewers]


class AbsoluteTimestamps:
    """RTP timestamps as they came, but for their wrap; those of B-frames go back."""

    def __init__(self):
        self.last = 0

    def map(self, timestamp):
        self.last += (timestamp - self.last + 2**31) % 2**32 - 2**31
        return self.last


rtcrtpreceiver.TimestampMapper = AbsoluteTimestamps


class Viewer:
    """Judges what a connection receives, picture and sound each by themselves."""

    def __init__(self, kinds, pictures=None):
        self.judge = Judge()
        self.pictures = pictures
        self.ready = asyncio.Event()
        self.connection = RTCPeerConnection()
        self.receivers = {
            kind: h264_alone(self.connection.addTransceiver(kind, direction="recvonly")).receiver for kind in kinds
        }
        self.converged_at = None
        self.tasks = []
        self.connection.on("track", lambda track: self.tasks.append(asyncio.create_task(self.take(track))))

    async def take(self, track):
        while True:
            frame = await track.recv()
            self.show(track.kind, frame, float(frame.pts * frame.time_base))
            if len(self.judge.numbers) == self.pictures:
                self.ready.set()

    def show(self, kind, frame, time):
        if kind == "video":
            return self.judge.see(frame, time)
        if self.converged_at is None:
            self.converged_at = time + CONVERGED_S
        if time >= self.converged_at:
            self.judge.hear(frame, time)

    async def play(self, url, ends, when):
        """Until one of `ends`, or all."""
        resource = await offer(self.connection, url)
        over = asyncio.create_task(asyncio.wait(map(asyncio.create_task, ends), return_when=when))
        await asyncio.wait([over, *self.tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in self.tasks:
            if task.done():
                task.result()
            task.cancel()
        await leave(self.connection, resource)


class Player(Viewer):
    """Judges picture and sound on one clock."""

    def __init__(self, seconds):
        super().__init__(["video", "audio"])
        self.seconds = seconds
        # Seconds of the sender's clock and the RTP timestamp for it, by kind.
        self.reports = {"video": [], "audio": []}
        # What came before the second reports: the first are made while a player is given what it starts with.
        self.early = []
        for kind, receiver in self.receivers.items():
            receiver._handle_rtcp_packet = self.note_reports(kind, receiver._handle_rtcp_packet)

    def note_reports(self, kind, handle):
        async def noted(packet):
            if isinstance(packet, RtcpSrPacket):
                self.reports[kind].append((packet.sender_info.ntp_timestamp / 2**32, packet.sender_info.rtp_timestamp))
            await handle(packet)

        return noted

    async def take(self, track):
        while True:
            self.early.append((track.kind, await track.recv()))
            if not self.in_step():
                continue
            for kind, frame in self.early:
                self.show(kind, frame, self.time_of(kind, frame))
            self.early.clear()
            start, end = self.judge.span()
            if end - start > self.seconds:
                self.ready.set()

    def in_step(self):
        return all(len(reports) > 1 for reports in self.reports.values())

    def time_of(self, kind, frame):
        ntp, rtp = self.reports[kind][-1]
        past = (frame.pts - rtp + 2**31) % 2**32 - 2**31
        return ntp + float(past * frame.time_base)

    def verdict(self):
        if not self.in_step():
            sys.exit(f"too few sender reports: {self.reports}; {len(self.early)} frames")
        return self.judge.verdict()


def h264_alone(transceiver):
    """Offers no other picture, but resends."""
    if transceiver.kind == "video":
        codecs = RTCRtpReceiver.getCapabilities("video").codecs
        transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType in ("video/H264", "video/rtx")])
    return transceiver


async def offer(connection, url):
    """Sends the offer and takes the answer; the address of what was made."""
    await connection.setLocalDescription(await connection.createOffer())
    status, headers, answer = await ask("POST", url, connection.localDescription.sdp)
    if status != 201:
        sys.exit(f"{url} answered {status}")
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    return urllib.parse.urljoin(url, headers["Location"])


async def leave(connection, resource):
    await connection.close()
    status, _, _ = await ask("DELETE", resource)
    if status not in (200, 204):
        sys.exit(f"DELETE {resource} answered {status}")


async def ask(method, url, sdp=None):
    request = urllib.request.Request(url, sdp and sdp.encode(), {"Content-Type": "application/sdp"}, method=method)

    def fetch():
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.headers, answer.read().decode()

    return await asyncio.to_thread(fetch)


async def main(what, url, *rest):
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    if what == "ice":
        RTCDtlsTransport.start = lambda *_: end.wait()
    if what in ("publish", "ice"):
        await publish(end, url, *rest)
    elif what == "many":
        print(json.dumps(await many(end, url, *map(int, rest))))
    else:
        print(json.dumps(await play(end, url, float(*rest or ["inf"]))))


if __name__ == "__main__":
    av.logging.set_libav_level(av.logging.ERROR)
    av.logging.restore_default_callback()
    asyncio.run(main(*sys.argv[1:]))
