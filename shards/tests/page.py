"""Plays a stream with the server's page in Chromium, or publishes one, and prints what a person sees and hears,
as JSON.

Usage: page.py CHROMIUM URL [SECONDS] plays what the page at URL shows; page.py CHROMIUM URL SOURCE publishes from it,
until SIGTERM. Waits on conditions with deadlines; what does not happen in time is missing from the answer, and the test
that called says so.
"""

import json
import signal
import sys
import time

from playwright.sync_api import sync_playwright

PATIENCE_S = 30
LOOK_S = 0.05
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--ignore-certificate-errors",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
]

LOOK = """() => {
  const { video, state, method, stream, stats } = window.shardcast;
  const { totalVideoFrames, droppedVideoFrames } = video.getVideoPlaybackQuality();
  const small = new OffscreenCanvas(64, 36).getContext('2d');
  small.drawImage(video, 0, 0, 64, 36);
  return {
    state, method, stream, stats, time: video.currentTime, width: video.videoWidth, height: video.videoHeight,
    frames: totalVideoFrames, dropped: droppedVideoFrames, muted: video.muted,
    picture: small.getImageData(0, 0, 64, 36).data.join(''), status: document.getElementById('status').textContent,
    figures: document.querySelector('.player .stats').innerText,
  };
}"""

LOOK_PUBLISHER = """() => {
  const { state, stats } = window.shardcast.publisher;
  const text = (id) => document.getElementById(id).innerText;
  return { state, stats, status: text('send-status'), button: text('send-button'), figures: text('on-air') };
}"""

# The loudest frequency of what the video element sounds like, and how loud it is in dB.
LISTEN = """() => {
  if (!window.heard) {
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    analyser.fftSize = 16384;
    const { video } = window.shardcast;
    const source = video.srcObject
      ? context.createMediaStreamSource(video.srcObject)
      : context.createMediaElementSource(video);
    source.connect(analyser);
    analyser.connect(context.destination);
    window.heard = { context, analyser };
  }
  const { context, analyser } = window.heard;
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  const loudest = bins.indexOf(Math.max(...bins));
  return { state: context.state, hz: loudest * context.sampleRate / analyser.fftSize, db: Math.max(bins[loudest], -999) };
}"""


def main(chromium, url, what="3"):
    errors = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            page = browser.new_page()
            page.on("console", lambda m: errors.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: errors.append(f"exception: {error}"))
            page.on("requestfailed", lambda r: None if "/live/" in r.url else errors.append(f"failed: {r.url}"))
            page.goto(url)
            answer = play(page, int(what)) if what.isdigit() else publish(page, what)
        finally:
            browser.close()
    print(json.dumps(answer | {"errors": errors}))


def play(page, seconds):
    first = wait(lambda: page.evaluate(LOOK), lambda s: s["state"] == "playing" and s["frames"] > 0)
    later = wait(
        lambda: page.evaluate(LOOK),
        lambda s: s["time"] > first["time"] + seconds
        and s["frames"] > first["frames"] + 17 * seconds
        and s["stats"]["fps"] > 0,
        PATIENCE_S + seconds,
    )
    return {
        "first": first,
        "later": later,
        "tone": wait(lambda: page.evaluate(LISTEN), lambda t: abs(t["hz"] - 440) < 10 and t["db"] > -60),
        "listed": page.locator("#streams li").all_inner_texts(),
        "rtmp": page.locator("#watch-rtmp").text_content(),
    }


def publish(page, source):
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    page.select_option("#source", source)
    page.click("#send-button")
    begun = wait(
        lambda: page.evaluate(LOOK_PUBLISHER),
        lambda s: s["stats"].get("kbps", 0) > 0 or s["state"] == "idle" and s["status"],
    )
    if begun["state"] != "live":
        return {"begun": begun}
    wait(lambda: told, bool)
    listed = page.locator("#streams li")
    names = listed.all_inner_texts()
    later = page.evaluate(LOOK_PUBLISHER)
    page.click("#send-button")
    ended = wait(lambda: page.evaluate(LOOK_PUBLISHER), lambda s: s["state"] == "idle")
    left = wait(listed.all_inner_texts, lambda names: not names)
    flv = page.locator("#sent-flv").text_content()
    return {"begun": begun, "later": later, "ended": ended, "listed": names, "left": left, "flv": flv}


def wait(look, good, patience=PATIENCE_S):
    """The first answer of `look` that is good, or the last one before the deadline."""
    deadline = time.monotonic() + patience
    while True:
        seen = look()
        if good(seen) or time.monotonic() > deadline:
            return seen
        time.sleep(LOOK_S)


main(*sys.argv[1:])
