// Publishes from the browser by WHIP: camera and microphone, a screen, or a test picture with a tone.

import { byId, milliseconds, number, setText, showStats } from './dom.js';
import { Session, supported } from './rtc.js';

const MIN_KBPS = 100;
const MAX_KBPS = 50_000;
const TEST = { width: 640, height: 360, fps: 30, hz: 440 };

// What can be sent: makes {stream, stop}.
const SOURCES = { test: testPicture, camera, screen };

// Browsers keep cameras and screens from pages over plain http, except on localhost.
const devices = navigator.mediaDevices;

let session = null;
let source = null;
let sender = null; // of the picture
let state = 'idle'; // then starting, live, and idle again
let stats = {};

// For tests, and for the curious at the console.
export const publisher = {
  get state() { return state; },
  get stats() { return { ...stats }; },
};

// `target` gives the path to offer at; it is asked at every start.
export function wirePublish(target) {
  const { camera: withCamera, screen: withScreen } = Object.fromEntries(
    [...byId('source').options].map((option) => [option.value, option]),
  );
  withCamera.disabled = !devices?.getUserMedia;
  withScreen.disabled = !devices?.getDisplayMedia;
  byId('secure-hint').hidden = Boolean(devices?.getUserMedia);
  if (!withCamera.disabled) byId('source').value = 'camera';
  byId('send').addEventListener('submit', (event) => {
    event.preventDefault();
    if (state === 'idle') begin(target());
    else end('');
  });
  byId('kbps').addEventListener('change', limit);
  setInterval(measure, 1000);
  enter('idle', supported ? '' : 'This browser has no WebRTC.');

  async function begin(path) {
    enter('starting', 'Starting…');
    const mine = (session = new Session());
    mine.onend = () => end('The connection ended.');
    try {
      const got = await SOURCES[byId('source').value]();
      if (mine !== session) return got.stop(); // stopped while the browser asked
      source = got;
      add(mine.peer, got.stream);
      byId('preview').srcObject = got.stream;
      byId('preview').play().catch(() => {});
      await mine.open(path);
      if (mine === session) enter('live', 'On air.');
    } catch (error) {
      if (mine === session) end(reason(error));
    }
  }

  function end(text) {
    session?.close();
    source?.stop();
    session = source = sender = null;
    stats = {};
    byId('preview').srcObject = null;
    enter('idle', text);
  }

  function enter(next, text) {
    state = next;
    setText('send-button', next === 'idle' ? 'Start' : 'Stop');
    byId('send-button').disabled = !supported;
    byId('source').disabled = byId('name').disabled = next !== 'idle';
    byId('on-air').hidden = next !== 'live';
    setText('send-status', text);
  }

  // The server takes H.264 and Opus; the browser's other codecs stay offered behind them.
  function add(peer, stream) {
    for (const track of stream.getTracks()) {
      track.addEventListener('ended', () => source?.stream === stream && end('The source ended.'));
      const init = { direction: 'sendonly', streams: [stream] };
      if (track.kind === 'audio') {
        peer.addTransceiver(track, init);
        continue;
      }
      const transceiver = peer.addTransceiver(track, { ...init, sendEncodings: [{ maxBitrate: maxBitrate() }] });
      const codecs = RTCRtpSender.getCapabilities('video')?.codecs ?? [];
      const first = (codec) => (codec.mimeType.toLowerCase() === 'video/h264' ? 0 : 1);
      transceiver.setCodecPreferences?.(codecs.toSorted((a, b) => first(a) - first(b)));
      sender = transceiver.sender;
    }
  }
}

function maxBitrate() {
  return Math.min(Math.max(Number(byId('kbps').value), MIN_KBPS), MAX_KBPS) * 1000;
}

function limit() {
  if (!sender) return;
  const parameters = sender.getParameters();
  for (const encoding of parameters.encodings) encoding.maxBitrate = maxBitrate();
  sender.setParameters(parameters).catch(() => {}); // gone meanwhile
}

async function measure() {
  const mine = session;
  if (state !== 'live') return;
  const seen = await mine.measure();
  if (mine !== session) return;
  stats = seen;
  showStats('sent', {
    size: seen.width ? `${seen.width}×${seen.height}` : undefined,
    fps: seen.fps.toFixed(0),
    rate: number(seen.kbps),
    lost: number(seen.lost),
    rtt: milliseconds(seen.rttMs),
    codec: seen.codec,
    encoder: seen.encoder ?? null, // browsers name it to pages with a camera only
    limit: seen.limit,
  });
}

function reason(error) {
  switch (error.name) {
    case 'NotAllowedError': return 'The browser was not allowed to take it.';
    case 'NotFoundError': return 'There is no camera.';
    case 'NotReadableError': return 'Another program uses it.';
    default: return `Not published: ${error.message}`;
  }
}

// ---- sources ------------------------------------------------------------------------------------

async function camera() {
  const video = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
  return devicesOf(
    await devices.getUserMedia({ video, audio: true }).catch((error) => {
      if (error.name !== 'NotFoundError') throw error;
      return devices.getUserMedia({ video }); // no microphone
    }),
  );
}

async function screen() {
  return devicesOf(await devices.getDisplayMedia({ video: { frameRate: { ideal: 30 } }, audio: true }));
}

function devicesOf(stream) {
  return { stream, stop: () => stream.getTracks().forEach((track) => track.stop()) };
}

async function testPicture() {
  const { width, height, fps, hz } = TEST;
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const context = canvas.getContext('2d', { alpha: false });
  const clock = setInterval(() => draw(context, width, height), 1000 / fps);
  draw(context, width, height);
  const sound = new AudioContext({ sampleRate: 48_000 });
  const tone = new OscillatorNode(sound, { frequency: hz });
  const out = sound.createMediaStreamDestination();
  tone.connect(new GainNode(sound, { gain: 0.1 })).connect(out);
  tone.start();
  const stream = new MediaStream([...canvas.captureStream(fps).getTracks(), ...out.stream.getTracks()]);
  return {
    stream,
    stop() {
      clearInterval(clock);
      sound.close();
      stream.getTracks().forEach((track) => track.stop());
    },
  };
}

// Colour bars, a clock, and a ball that crosses the picture every four seconds.
function draw(context, width, height) {
  const now = new Date();
  context.fillStyle = '#111827';
  context.fillRect(0, 0, width, height);
  const bars = ['#c0c0c0', '#c0c000', '#00c0c0', '#00c000', '#c000c0', '#c00000', '#0000c0'];
  bars.forEach((colour, place) => {
    context.fillStyle = colour;
    context.fillRect(Math.floor((place * width) / bars.length), height * 0.7, Math.ceil(width / bars.length), height * 0.3);
  });
  context.fillStyle = '#ffffff';
  context.textAlign = 'center';
  context.font = `600 ${height / 5}px ui-monospace, monospace`;
  context.fillText(now.toISOString().slice(11, 23), width / 2, height * 0.4);
  context.font = `${height / 16}px ui-monospace, monospace`;
  context.fillText(`${now.toISOString().slice(0, 10)} UTC`, width / 2, height * 0.15);
  context.fillStyle = '#ff8c42';
  context.beginPath();
  context.arc(((now % 4000) / 4000) * width, height * 0.57, height / 18, 0, 2 * Math.PI);
  context.fill();
}
