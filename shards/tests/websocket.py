"""Plays live streams over WebSockets in Chromium, and prints what came of it, as JSON.

Usage: websocket.py CHROMIUM PAGE FLV TS [SECONDS]. PAGE has mpegts.js, which plays so many seconds of FLV and then TS;
then a socket that plays FLV stays open to its end.
"""

import json
import sys

from playwright.sync_api import sync_playwright

PATIENCE_MS = 30_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--ignore-certificate-errors",
]

PLAY = """([type, url]) => {
  const video = document.createElement('video');
  video.muted = true;
  document.body.append(video);
  const player = mpegts.createPlayer({ type, isLive: true, url });
  window.played = { video, player, error: null };
  player.on(mpegts.Events.ERROR, (...words) => { window.played.error = words.join(' '); });
  player.attachMediaElement(video);
  player.load();
  video.play();
}"""

PLAYED = "(seconds) => window.played.error || window.played.video.currentTime > seconds"

SEEN = """() => {
  const { video, player, error } = window.played;
  const seen = { error, width: video.videoWidth, height: video.videoHeight, time: video.currentTime };
  player.destroy();
  return seen;
}"""

LISTEN = """(url) => {
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  window.heard = { frames: 0, start: '', code: 0 };
  socket.onmessage = ({ data }) => {
    window.heard.start ||= String.fromCharCode(...new Uint8Array(data).subarray(0, 3));
    window.heard.frames += 1;
  };
  socket.onclose = ({ code, wasClean }) => Object.assign(window.heard, { code, wasClean });
}"""


def main(chromium, url, flv, ts, seconds=2):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            page = browser.new_page(ignore_https_errors=True)
            page.goto(url)
            page.wait_for_function("() => window.mpegts", timeout=PATIENCE_MS)
            answer = {}
            for kind, source in (("flv", flv), ("mpegts", ts)):
                page.evaluate(PLAY, [kind, source])
                print("loading", file=sys.stderr, flush=True)
                page.wait_for_function(PLAYED, arg=float(seconds), timeout=PATIENCE_MS)
                answer[kind] = page.evaluate(SEEN)
            page.evaluate(LISTEN, flv)
            page.wait_for_function("() => window.heard.frames > 20", timeout=PATIENCE_MS)
            print("listening", file=sys.stderr, flush=True)
            page.wait_for_function("() => window.heard.code", timeout=PATIENCE_MS)
            answer["heard"] = page.evaluate("() => window.heard")
        finally:
            browser.close()
    print(json.dumps(answer))


main(*sys.argv[1:])
