"""Plays a live FLV by mpegts.js in Firefox, and prints what came of it, as JSON.

Usage: firefox.py FIREFOX PAGE FLV. PAGE has mpegts.js. Speaks Marionette, which Firefox has built in: messages
"LENGTH:[TYPE, ID, NAME, BODY]" over TCP.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE = 60

PREFS = {
    "marionette.port": 0,
    "media.autoplay.default": 0,
    "media.hevc.enabled": True,
    "datareporting.policy.dataSubmissionEnabled": False,
    "browser.shell.checkDefaultBrowser": False,
}

PLAY = """
const [url] = arguments;
const video = document.createElement('video');
video.muted = true;
document.body.append(video);
const player = mpegts.createPlayer({ type: 'flv', isLive: true, url });
window.played = { video, error: null };
player.on(mpegts.Events.ERROR, (...words) => { window.played.error = JSON.stringify(words); });
player.attachMediaElement(video);
player.load();
video.play();
"""

SEEN = """
const { video, error } = window.played;
const frames = video.getVideoPlaybackQuality().totalVideoFrames;
return { error, width: video.videoWidth, height: video.videoHeight, time: video.currentTime, frames };
"""


class Marionette:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.number = 0
        self.read()

    def read(self):
        length = b""
        while not length.endswith(b":"):
            length += self.take(1)
        return json.loads(self.take(int(length[:-1])))

    def take(self, count):
        taken = b""
        while len(taken) < count:
            more = self.socket.recv(count - len(taken))
            if not more:
                raise EOFError("Firefox has gone")
            taken += more
        return taken

    def call(self, name, body):
        self.number += 1
        said = json.dumps([0, self.number, name, body]).encode()
        self.socket.sendall(b"%d:%s" % (len(said), said))
        _, _, error, result = self.read()
        if error:
            raise RuntimeError(f"{name}: {error}")
        return result

    def run(self, script, *arguments):
        return self.call("WebDriver:ExecuteScript", {"script": script, "args": arguments, "sandbox": None})["value"]


def until(what, look):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise TimeoutError(what)


def main(firefox, page, flv):
    with tempfile.TemporaryDirectory() as profile:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFS.items()]
        Path(profile, "user.js").write_text("\n".join(lines))
        arguments = [firefox, "--headless", "--marionette", "--no-remote", "--profile", profile]
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            file = Path(profile, "MarionetteActivePort")
            port = until("Firefox is ready", lambda: file.exists() and file.read_text().strip())
            driver = Marionette(int(port))
            driver.call("WebDriver:NewSession", {})
            driver.call("WebDriver:Navigate", {"url": page})
            until("the page has mpegts.js", lambda: driver.run("return !!window.wrappedJSObject?.mpegts || !!window.mpegts"))
            driver.run(PLAY, flv)

            def seen():
                now = driver.run(SEEN)
                return now if now["error"] or (now["time"] > 2 and now["frames"] > 20) else None

            print(json.dumps(until("it plays", seen)))
        finally:
            process.terminate()
            process.wait()


main(*sys.argv[1:])
