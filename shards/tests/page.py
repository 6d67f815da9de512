"""Plays a stream with the server's page in Chromium, and prints what a viewer sees and hears, as JSON.

Usage: page.py CHROMIUM URL. Waits on conditions with deadlines; what does not happen in time is missing
from the answer, and the test that called says so.
"""

import json
import sys
import time

from playwright.sync_api import sync_playwright

PATIENCE_S = 30
LOOK_S = 0.05
FLAGS = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required", "--disable-background-networking"]

LOOK = """() => {
  const { video, state, method, stream, stats } = window.shardcast;
  const { totalVideoFrames, droppedVideoFrames } = video.getVideoPlaybackQuality();
  return {
    state, method, stream, stats, time: video.currentTime, width: video.videoWidth, height: video.videoHeight,
    frames: totalVideoFrames, dropped: droppedVideoFrames, muted: video.muted,
  };
}"""

# The loudest frequency of what the video element sounds like, and how loud it is in dB.
LISTEN = """() => {
  if (!window.heard) {
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    analyser.fftSize = 16384;
    context.createMediaElementSource(window.shardcast.video).connect(analyser);
    analyser.connect(context.destination);
    window.heard = { context, analyser };
  }
  const { context, analyser } = window.heard;
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  const loudest = bins.indexOf(Math.max(...bins));
  return { state: context.state, hz: loudest * context.sampleRate / analyser.fftSize, db: Math.max(bins[loudest], -999) };
}"""


def main(chromium, url):
    errors = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            page = browser.new_page()
            page.on("console", lambda m: errors.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: errors.append(f"exception: {error}"))
            page.on("requestfailed", lambda r: None if "/live/" in r.url else errors.append(f"failed: {r.url}"))
            page.goto(url)
            first = wait(lambda: page.evaluate(LOOK), lambda s: s["state"] == "playing" and s["frames"] > 0)
            later = wait(
                lambda: page.evaluate(LOOK),
                lambda s: s["time"] > first["time"] + 3 and s["frames"] > first["frames"] + 50 and s["stats"]["fps"] > 0,
            )
            tone = wait(lambda: page.evaluate(LISTEN), lambda t: abs(t["hz"] - 440) < 10 and t["db"] > -60)
            listed = page.locator("#streams li").all_inner_texts()
            addresses = page.locator("#watch-rtmp").text_content()
        finally:
            browser.close()
    answer = {"first": first, "later": later, "tone": tone, "listed": listed, "rtmp": addresses, "errors": errors}
    print(json.dumps(answer))


def wait(look, good):
    """The first answer of `look` that is good, or the last one before the deadline."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        seen = look()
        if good(seen) or time.monotonic() > deadline:
            return seen
        time.sleep(LOOK_S)


main(*sys.argv[1:])
