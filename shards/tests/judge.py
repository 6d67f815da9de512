"""Plays SOURCE and prints, as JSON, what a viewer of the marked clip sees and hears.

Usage: judge.py SOURCE [SECONDS]. Plays for so long, to the end, or until told to end (SIGTERM). SOURCE is a file or an address that libavformat plays; rtmpdump
fetches rtmp:, srt-live-transmit srt:. Complaints of the decoders go to standard error.

The clip (Media::Marked) shows three bands: at the top a white flash of 80 ms each second, below it a moving
picture, at the bottom the number of the picture, in eight bits from the left, the lowest first. A beep
of 1 kHz sounds with each flash, over a quiet hum of 440 Hz.
"""

import array
import json
import math
import signal
import subprocess
import sys
import threading

import av

PICTURES = 200  # of the clip, before it starts again
BEEP_HZ = 1000
WINDOW_S = 0.005
HOLE_S = 0.045
MARGIN_S = 0.2
# What libavformat makes of the bytes, and who gets them.
FETCHERS = {
    "rtmp": ["flv", "rtmpdump", "-q", "--live", "-r", "URL", "-o", "-"],
    "srt": ["mpegts", "srt-live-transmit", "-q", "-a:no", "URL", "file://con"],
}
ENDS_WITH_ME = ["setpriv", "--pdeathsig", "TERM"]

# By SIGTERM.
stop = threading.Event()


class Judge:
    """Judges decoded frames; their times are seconds on one clock."""

    def __init__(self):
        self.first_is_key = None
        self.corrupt = 0
        self.size = None
        self.numbers = []
        self.backwards = 0
        self.views = 0  # pictures that SEI says to be of two views
        self.span_of_pictures = []
        self.last_pts = None
        self.flashes = []
        self.flashing = True  # an onset is one behind a dark picture
        self.windows = []  # time, share of the beep in it, amplitude of the beep
        self.holes = []
        self.sound_ends = None
        self.mono = av.AudioResampler(format="s16", layout="mono")

    def see(self, frame, time):
        if self.first_is_key is None:
            self.first_is_key = bool(frame.key_frame)
        self.corrupt += frame.is_corrupt
        self.views += any(data.type.name == "STEREO3D" for data in frame.side_data)
        self.size = [frame.width, frame.height]
        # 8 by 8 cells, each the mean of what it covers.
        cells = frame.reformat(width=8, height=8, format="gray", interpolation="AREA").planes[0]
        rows = [bytes(cells)[y * cells.line_size :][:8] for y in range(8)]
        self.numbers.append(sum((cell > 128) << bit for bit, cell in enumerate(rows[7])))
        self.backwards += self.last_pts is not None and frame.pts <= self.last_pts
        self.last_pts = frame.pts
        self.span_of_pictures[1:] = [time]
        flash = sum(rows[0]) > 8 * 128
        if flash and not self.flashing:
            self.flashes.append(time)
        self.flashing = flash

    def hear(self, frame, time):
        media_time = float(frame.pts * frame.time_base)
        if self.sound_ends is not None and abs(media_time - self.sound_ends) > HOLE_S:
            self.holes.append(time)
        self.sound_ends = media_time + frame.samples / frame.sample_rate
        for mono in self.mono.resample(frame):
            samples = array.array("h", bytes(mono.planes[0])[: 2 * mono.samples])
            count = max(1, round(len(samples) / mono.sample_rate / WINDOW_S))
            for n in range(count):
                window = samples[n * len(samples) // count : (n + 1) * len(samples) // count]
                at = time + n * len(samples) / count / mono.sample_rate
                self.windows.append((at, *beep(window, mono.sample_rate)))

    def verdict(self):
        loudest = max((amplitude for _, _, amplitude in self.windows), default=0)
        beeps, beeping, share = [], True, []
        for time, part, amplitude in self.windows:
            loud = amplitude > loudest / 2
            if loud and not beeping:
                beeps.append(time)
            elif loud:
                share.append(part)
            beeping = loud
        # Marks at the ends may have only one half.
        start, end = self.span()
        whole = [flash for flash in self.flashes if start + MARGIN_S < flash < end - MARGIN_S]
        pairs = ((flash, min(beeps, key=lambda beep: abs(beep - flash), default=math.inf)) for flash in whole)
        # From 1, right behind, to PICTURES, the same again.
        steps = [(after - before - 1) % PICTURES + 1 for before, after in zip(self.numbers, self.numbers[1:])]
        return {
            "first_is_key": self.first_is_key,
            "corrupt": self.corrupt,
            "size": self.size,
            "pictures": len(self.numbers),
            "longest_step": max(steps, default=0),
            "backwards": self.backwards,
            "views": self.views,
            "flashes": self.flashes,
            "beeps": beeps,
            # Of the beep behind its flash.
            "lag_ms": [round((beep - flash) * 1000, 1) for flash, beep in pairs],
            "tone": sum(share) / len(share) if share else 0,
            "loudness": loudest / 32768,
            "holes": self.holes,
        }

    def span(self):
        """From when to when there is both picture and sound."""
        if not self.span_of_pictures or not self.windows:
            return 0, 0
        (first, *_), (last, *_) = self.windows[0], self.windows[-1]
        return max(first, self.span_of_pictures[0]), min(last, self.span_of_pictures[-1])


def beep(samples, rate):
    """Share of the energy that lies at BEEP_HZ (Goertzel), and its amplitude."""
    if not samples:
        return 0, 0
    factor = 2 * math.cos(2 * math.pi * BEEP_HZ / rate)
    last = before = energy = 0
    for sample in samples:
        last, before = sample + factor * last - before, last
        energy += sample * sample
    power = last * last + before * before - factor * last * before
    return (2 * power / len(samples) / energy if energy else 0), 2 * math.sqrt(max(power, 0)) / len(samples)


def play(source, seconds):
    judge, fetch = Judge(), None
    if fetcher := FETCHERS.get(source.partition(":")[0]):
        form, *command = fetcher
        command = [*ENDS_WITH_ME, *(source if word == "URL" else word for word in command)]
        # Where nobody reads any more it takes leave of the server, rather than die of a signal.
        fetch = subprocess.Popen(command, stdout=subprocess.PIPE, restore_signals=False)
        container = av.open(fetch.stdout, format=form)
    else:
        # Each request for HLS is a connection of its own.
        container = av.open(source, options={"http_persistent": "0"} if source.endswith(".m3u8") else {})
    # Until here it just ends.
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    streams = [container.streams.video[0], container.streams.audio[0]]
    for stream in streams:
        stream.codec_context.options = {"err_detect": "explode"}
    for packet in container.demux(streams):
        for frame in packet.decode():
            (judge.see if packet.stream.type == "video" else judge.hear)(frame, float(frame.pts * frame.time_base))
        start, end = judge.span()
        if stop.is_set() or end - start > seconds:
            break
    if fetch:
        fetch.terminate()
        fetch.communicate()
    return judge.verdict()


if __name__ == "__main__":
    av.logging.set_libav_level(av.logging.ERROR)
    av.logging.restore_default_callback()
    print(json.dumps(play(sys.argv[1], float(*sys.argv[2:] or ["inf"]))))
