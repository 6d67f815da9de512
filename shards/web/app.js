// The page of the server: plays one live stream, lists the others, publishes, and tells how to publish and
// to play elsewhere. It asks this server alone and keeps nothing.
//
// Names of streams come from publishers: they reach the page by textContent and encodeURIComponent only.

import { byId, milliseconds, number, setText, showStats } from './dom.js';
import { publisher, wirePublish } from './publish.js';
import { Refused, Session, supported as rtcSupported } from './rtc.js';

const mpegts = window.mpegts;
const Hls = window.Hls;

const POLL_MS = 2000;
const POLL_HIDDEN_MS = 10_000;
const ANSWER_MS = 5000; // how long an API answer may take
const STREAMS_MAX = 500;
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 8000;
const STEADY_MS = 5000; // a play this long forgets earlier failures
const STALL_MS = 10_000; // no new picture for this long: connect anew
const STARVED_MS = 3000; // no new picture for this long: say so, or leave a stream that nobody publishes
const HOLD_MAX_MS = 30_000; // a pause this long gives its connection up

const video = byId('video');
const stage = byId('stage');

class StatusError extends Error {}

// The server, as far as it has told.
const server = { rtmpPort: 1935, srtPort: 10080, rtc: true, reachable: true, streams: null };

// How each protocol is played: whether the browser can, and what makes the player, which has `destroy` and may
// have `measure`. The first that works is what the page takes by itself.
const METHODS = {
  flv: { works: mpegts?.isSupported(), play: playFlv },
  whep: { works: rtcSupported, play: playWhep },
  hls: { works: Hls?.isSupported() || canPlayHls(), play: playHls },
};
const FIRST = Object.keys(METHODS).find((name) => METHODS[name].works) ?? 'flv';
// The stream to play: {vhost, app, name}, or null until the first live one is chosen.
let wanted = fromAddress();
let method = methodFromAddress() ?? FIRST;
let automatic = methodFromAddress() === null; // nobody asked for this method
let player = null;
let state = 'loading';
let held = false; // the viewer pressed pause
let heldAt = 0;
let silenced = false; // the browser allowed no sound yet
let failures = 0;
let retryAt = 0;
let retryTimer = 0;
let playingSince = 0;
const progress = { at: 0, mark: 0 };
// Rows of the list by stream: kept and refilled, so that the keyboard's focus stays where it is.
const rows = new Map();
const NO_STATS = { width: 0, height: 0, fps: 0, kbps: 0, bufferMs: 0, dropped: 0, lost: 0, nacks: 0, rttMs: undefined };
let stats = { ...NO_STATS };
let framesLast = null;

// For tests, and for the curious at the console.
window.shardcast = {
  video,
  get player() { return player; },
  get state() { return state; },
  get method() { return method; },
  get stream() { return wanted && label(wanted); },
  get stats() { return { ...stats }; },
  publisher,
};

nameFromAddress();
wireControls();
wireAddresses();
wirePublish(() => rtcPath('whip', published()));
// The library's own log repeats on the console what the page shows; failures are handled below.
mpegts.LoggingControl.enableAll = false;
showAddresses();
loadConfig();
poll();
setInterval(measure, 1000);
// From the browser's cache a page comes back with its connections closed.
addEventListener('pageshow', (event) => event.persisted && location.reload());

// ---- what is live -------------------------------------------------------------------------------

async function loadConfig() {
  try {
    const config = await fetchJson('/config.json');
    if (Number.isInteger(config.rtmp_port)) server.rtmpPort = config.rtmp_port;
    server.srtPort = config.srt_port;
    server.rtc = config.rtc;
    const facts = [];
    if (config.version) facts.push(`version ${config.version}`);
    if (config.shards) facts.push(config.shards === 1 ? '1 shard' : `${config.shards} shards`);
    byId('server').textContent = facts.join(' · ');
    showAddresses();
  } catch {
    // The addresses then show RTMP's usual port.
  }
}

async function poll() {
  clearTimeout(poll.timer);
  const turn = (poll.turn = (poll.turn ?? 0) + 1);
  try {
    const answer = await fetchJson(`/api/v1/streams/?start=0&count=${STREAMS_MAX}`);
    const list = Array.isArray(answer.streams) ? answer.streams : [];
    server.streams = list.filter((s) => s.publish?.active).map(toStream).sort((a, b) => label(a).localeCompare(label(b)));
    server.reachable = true;
  } catch (error) {
    // An answer with an error status is a server without API: the player may still find its stream.
    server.reachable = error instanceof StatusError;
    server.streams = null;
  }
  if (turn !== poll.turn) return; // a later poll has taken over
  choose();
  showStreams();
  step();
  poll.timer = setTimeout(poll, document.hidden ? POLL_HIDDEN_MS : POLL_MS);
}

async function fetchJson(path) {
  const answer = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MS) });
  if (!answer.ok) throw new StatusError(`${path}: HTTP status ${answer.status}`);
  return answer.json();
}

// The API's stream, with the vhost's name taken from `url` ("/app/name", "vhost/app/name").
function toStream(entry) {
  const app = String(entry.app ?? '');
  const name = String(entry.name ?? '');
  const url = String(entry.url ?? '');
  const tail = `/${app}/${name}`;
  const vhost = url.endsWith(tail) ? url.slice(0, -tail.length) : '';
  return { vhost, app, name, entry };
}

function choose() {
  if (wanted || !server.streams?.length) return;
  const demo = server.streams.find((s) => label(s) === 'live/demo');
  select(demo ?? server.streams[0], false);
}

function select({ vhost, app, name }, remember) {
  wanted = { vhost, app, name };
  if (remember) history.replaceState(null, '', pageAddress(wanted));
  disconnect();
  failures = 0;
  retryAt = 0;
  held = false;
  showAddresses();
  step();
}

function find(stream) {
  return server.streams?.find((s) => key(s) === key(stream));
}

// ---- the player ---------------------------------------------------------------------------------

// Decides what to do now; called after every poll, retry delay and click.
function step() {
  if (!METHODS[method].works) return enter('unsupported', `This browser cannot play ${byId('method').selectedOptions[0].text}.`);
  if (held) return enter('paused', 'Paused');
  if (player) {
    // Asked for a stream that went away before its first picture: wait for it without a connection.
    if (!playingSince && server.streams && !find(wanted)) disconnect();
    else return;
  }
  if (!server.reachable) return enter('offline', 'The server does not answer. Trying again…');
  if (!wanted) {
    return server.streams
      ? enter('waiting', 'Nothing is live yet. Publish a stream and it appears here.')
      : enter('offline', 'The server lists no streams. Name one: ?stream=live/name');
  }
  if (server.streams && !find(wanted)) return enter('waiting', `Waiting for ${label(wanted)} to be published…`);
  const wait_ms = retryAt - performance.now();
  if (wait_ms > 0) {
    clearTimeout(retryTimer);
    retryTimer = setTimeout(step, wait_ms);
    if (state !== 'failed') enter('reconnecting', 'Connecting again…');
    return;
  }
  connect();
}

function connect() {
  playingSince = 0;
  framesLast = null;
  moved();
  // Another attempt does not hide why the last one failed.
  if (state !== 'failed' || !failures) enter('connecting', `Connecting to ${label(wanted)}…`);
  player = METHODS[method].play();
  start(player);
}

function playFlv() {
  const mine = mpegts.createPlayer(
    { type: 'flv', isLive: true, url: new URL(flvPath(wanted), location.href).href },
    {
      enableWorker: false,
      enableStashBuffer: false,
      lazyLoad: false,
      deferLoadAfterSourceOpen: false,
      liveBufferLatencyChasing: true,
      liveBufferLatencyMaxLatency: 2.0,
      liveBufferLatencyMinRemain: 0.6,
      autoCleanupSourceBuffer: true,
      autoCleanupMaxBackwardDuration: 30,
      autoCleanupMinBackwardDuration: 10,
      statisticsInfoReportInterval: 1000,
    },
  );
  mine.on(mpegts.Events.ERROR, (type, detail) => mine === player && lost(type, detail));
  mine.on(mpegts.Events.LOADING_COMPLETE, () => mine === player && lost('end', ''));
  mine.on(mpegts.Events.STATISTICS_INFO, (info) => {
    // KiB per second, as the library counts.
    if (mine === player) stats.kbps = (info.speed ?? 0) * 1.024 * 8;
  });
  mine.attachMediaElement(video);
  mine.load();
  return mine;
}

function playWhep() {
  const session = new Session();
  const { peer } = session;
  const tracks = ['audio', 'video'].map((kind) => peer.addTransceiver(kind, { direction: 'recvonly' }).receiver.track);
  const mine = {
    destroy() {
      session.close();
      video.srcObject = null;
    },
    measure: () => session.measure(),
  };
  session.onend = () => mine === player && lost('end', '');
  session.open(rtcPath('whep', wanted)).catch((error) => {
    if (mine === player) lost(error instanceof Refused ? 'refused' : mpegts.ErrorTypes.MEDIA_ERROR, error.message);
  });
  video.srcObject = new MediaStream(tracks);
  return mine;
}

function playHls() {
  if (!Hls.isSupported()) return playHlsByBrowser();
  const mine = new Hls({ enableWorker: false, liveSyncDurationCount: 2, liveMaxLatencyDurationCount: 5, backBufferLength: 30 });
  mine.on(Hls.Events.ERROR, (_, { fatal, type, details }) => {
    if (!fatal || mine !== player) return;
    lost(type === Hls.ErrorTypes.MEDIA_ERROR ? mpegts.ErrorTypes.MEDIA_ERROR : type, details);
  });
  mine.on(Hls.Events.FRAG_LOADED, (_, { frag }) => {
    if (mine === player && frag.duration > 0) stats.kbps = (frag.stats.total * 8) / frag.duration / 1000;
  });
  mine.loadSource(new URL(hlsPath(wanted), location.href).href);
  mine.attachMedia(video);
  return mine;
}

function canPlayHls() {
  return video.canPlayType('application/vnd.apple.mpegurl') !== '';
}

function playHlsByBrowser() {
  const failed = () => lost(mpegts.ErrorTypes.MEDIA_ERROR, video.error?.message ?? '');
  const mine = {
    destroy() {
      video.removeEventListener('error', failed);
      video.removeAttribute('src');
      video.load();
    },
  };
  video.addEventListener('error', failed);
  video.src = hlsPath(wanted);
  return mine;
}

// Plays with sound where the browser lets us, else without and with a button that asks for it.
async function start(mine) {
  try {
    await video.play();
  } catch (error) {
    if (mine !== player || error.name !== 'NotAllowedError') return;
    if (!video.muted) {
      silenced = true;
      video.muted = true;
      showSound();
      return start(mine);
    }
    hold();
  }
}

function disconnect() {
  clearTimeout(retryTimer);
  const old = player;
  player = null;
  playingSince = 0;
  if (old) old.destroy();
  stats = { ...NO_STATS };
  showFigures();
}

// The connection ended or the picture cannot be decoded: again, with growing pauses.
function lost(type, detail) {
  if (playingSince && performance.now() - playingSince > STEADY_MS) failures = 0;
  const codec = find(wanted)?.entry.video?.codec;
  disconnect();
  failures += 1;
  const delay_ms = Math.min(RETRY_MIN_MS * 2 ** (failures - 1), RETRY_MAX_MS);
  retryAt = performance.now() + delay_ms * (0.75 + Math.random() / 2);
  if (type === 'refused') {
    enter('failed', `The server does not play ${label(wanted)}: ${detail}`);
    if (automatic && METHODS.hls.works) method = byId('method').value = 'hls';
  } else if (type === mpegts.ErrorTypes.MEDIA_ERROR) {
    enter('failed', `This browser cannot play ${label(wanted)}${codec ? ` (${codec})` : ''}: ${detail}.`);
  } else {
    enter('reconnecting', 'The stream ended. Connecting again…');
  }
  poll(); // it may have left the list
}

function hold() {
  held = true;
  heldAt = performance.now();
  video.pause();
  enter('paused', 'Paused');
}

function resume() {
  held = false;
  failures = 0;
  retryAt = 0;
  if (player) {
    const edge = liveEdge();
    if (edge > video.currentTime + 1) video.currentTime = edge - 0.6;
    enter('connecting', 'Back to the live picture…');
    moved();
    start(player);
  }
  step();
}

function enter(next, text) {
  state = next;
  stage.dataset.state = next;
  byId('badge').dataset.state = next;
  const badge = { playing: 'Live', paused: 'Paused', waiting: 'Waiting', offline: 'Offline', failed: 'Failed', unsupported: 'Unsupported' };
  setText('badge', badge[next] ?? 'Connecting');
  setText('status', next === 'playing' ? '' : text);
  byId('play').setAttribute('aria-label', held ? 'Play' : 'Pause');
  byId('play').dataset.held = held;
  showSound();
}

function liveEdge() {
  const { buffered } = video;
  return buffered.length ? buffered.end(buffered.length - 1) : 0;
}

function moved() {
  progress.at = performance.now();
}

// Once a second: the statistics line, the stall watch, and the end of a long pause.
async function measure() {
  const mine = player;
  if (!mine) return;
  const seen = await mine.measure?.();
  if (mine !== player) return;
  const now = performance.now();
  stats = { ...stats, ...(seen ?? measureElement(now)) };
  showFigures();

  // A live MediaStream has a clock of its own, which need not stop with its packets.
  const mark = seen?.arrived ?? video.currentTime;
  const still_ms = now - progress.at;
  if (held) {
    if (now - heldAt > HOLD_MAX_MS) disconnect();
  } else if (mark !== progress.mark || (document.hidden && !seen)) {
    progress.mark = mark;
    moved();
    if (seen && state === 'buffering') enter('playing', '');
  } else if (still_ms > STALL_MS || (still_ms > STARVED_MS && server.streams && !find(wanted))) {
    lost('stall', '');
  } else if (still_ms > STARVED_MS && state === 'playing') {
    enter('buffering', 'Waiting for data…');
  }
}

function measureElement(now) {
  const quality = video.getVideoPlaybackQuality?.();
  const frames = quality?.totalVideoFrames ?? 0;
  const before = framesLast;
  framesLast = { at: now, frames };
  return {
    fps: before && frames >= before.frames ? (frames - before.frames) / ((now - before.at) / 1000) : stats.fps,
    dropped: quality?.droppedVideoFrames ?? 0,
    width: video.videoWidth,
    height: video.videoHeight,
    bufferMs: Math.max(0, liveEdge() - video.currentTime) * 1000,
  };
}

// ---- what the page shows ------------------------------------------------------------------------

function showFigures() {
  const rtc = method === 'whep';
  showStats('stat', {
    size: player && stats.width ? `${stats.width}×${stats.height}` : undefined,
    fps: player && stats.width ? stats.fps.toFixed(0) : undefined,
    rate: player && stats.kbps ? number(stats.kbps) : undefined,
    buffer: rtc ? milliseconds(stats.bufferMs) : player ? `${(stats.bufferMs / 1000).toFixed(1)} s` : undefined,
    dropped: player ? number(stats.dropped) : undefined,
    lost: rtc ? number(stats.lost) : null,
    nacks: rtc ? number(stats.nacks) : null,
    rtt: rtc ? milliseconds(stats.rttMs) : null,
  });
}

function showSound() {
  const sounds = find(wanted)?.entry.audio !== null; // unknown counts as yes
  byId('sound').hidden = !(silenced && video.muted && player && sounds && !held);
  byId('mute').setAttribute('aria-pressed', video.muted);
  byId('mute').setAttribute('aria-label', video.muted ? 'Unmute' : 'Mute');
}

function showStreams() {
  const live = server.streams ?? [];
  const list = byId('streams');
  const seen = new Set();
  for (const stream of live) {
    const id = key(stream);
    seen.add(id);
    if (!rows.has(id)) rows.set(id, addRow(list, stream));
    fillRow(rows.get(id), stream);
  }
  live.forEach((stream, place) => {
    const { item } = rows.get(key(stream));
    if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null);
  });
  for (const [id, row] of rows) {
    if (!seen.has(id)) {
      row.item.remove();
      rows.delete(id);
    }
  }
  setText('count', live.length ? String(live.length) : '');
  byId('empty').hidden = live.length > 0;
  setText('empty', server.streams ? 'None yet. Publish one below.' : server.reachable ? 'The server lists no streams.' : 'The server does not answer.');
  showSound();
}

function addRow(list, stream) {
  const item = document.createElement('li');
  const text = item.appendChild(document.createElement('div'));
  const name = text.appendChild(document.createElement('strong'));
  const tracks = text.appendChild(document.createElement('span'));
  const load = text.appendChild(document.createElement('span'));
  const button = item.appendChild(document.createElement('button'));
  button.type = 'button';
  button.addEventListener('click', () => {
    select(stream, true);
    showStreams();
    if (stage.getBoundingClientRect().top < 0) stage.scrollIntoView({ behavior: 'smooth', block: 'center' });
  });
  list.append(item);
  return { item, name, tracks, load, button };
}

function fillRow(row, stream) {
  const { video: picture, audio: sound, kbps, clients } = stream.entry;
  const chosen = wanted && key(wanted) === key(stream);
  const tracks = [];
  if (picture) {
    const size = picture.width && picture.height ? ` ${picture.width}×${picture.height}` : '';
    tracks.push(`${picture.codec}${size}`);
  }
  if (sound) {
    const rate = sound.sample_rate ? ` ${sound.sample_rate / 1000} kHz` : '';
    const channels = { 1: ' mono', 2: ' stereo' }[sound.channel] ?? '';
    tracks.push(`${sound.codec}${rate}${channels}`);
  } else {
    tracks.push('no sound');
  }
  const load = [clients === 1 ? '1 client' : `${number(clients ?? 0)} clients`];
  if (kbps?.recv_30s) load.unshift(`${number(kbps.recv_30s)} kbit/s`);
  setText(row.name, label(stream));
  setText(row.tracks, tracks.join(' · '));
  setText(row.load, load.join(' · '));
  setText(row.button, chosen ? 'Playing' : 'Play');
  row.button.setAttribute('aria-label', `Play ${label(stream)}`);
  row.button.setAttribute('aria-pressed', String(Boolean(chosen)));
  row.item.classList.toggle('chosen', Boolean(chosen));
}

// ---- addresses ----------------------------------------------------------------------------------

function showAddresses() {
  const mine = published();
  const publish = `${rtmpBase()}/live`;
  setText('publish-url', `${publish}/${mine.name}`);
  setText('obs-server', publish);
  setText('obs-key', mine.name);
  setText('publish-ffmpeg', `ffmpeg -re -i FILE -c:v libx264 -preset veryfast -tune zerolatency -g 60 -c:a aac -f flv ${publish}/${mine.name}`);
  setText('publish-srt', srtAddress(mine, 'publish'));
  setText('publish-whip', new URL(rtcPath('whip', mine), location.href).href);

  for (const box of document.querySelectorAll('[data-of="srt"]')) box.hidden = !server.srtPort;
  for (const part of document.querySelectorAll('[data-of="rtc"]')) part.hidden = !server.rtc;

  const stream = wanted ?? mine;
  setText('title', wanted ? label(stream) : 'Live');
  setText('watch-name', label(stream));
  const { flv } = showPlaces('watch', stream);
  setText('watch-ffplay', `ffplay -fflags nobuffer -flags low_delay '${flv}'`);
  setText('watch-vlc', `vlc --network-caching=300 '${flv}'`);
  showPlaces('sent', mine);
}

// Where a stream can be played, in the elements `PREFIX-NAME`.
function showPlaces(prefix, stream) {
  const here = (path) => new URL(path, location.href).href;
  const places = {
    page: here(pageAddress(stream)),
    flv: here(flvPath(stream)),
    hls: here(hlsPath(stream)),
    whep: here(rtcPath('whep', stream)),
    rtmp: `${rtmpBase()}${path(stream)}${vhostQuery(stream)}`,
    srt: srtAddress(stream, 'request'),
  };
  for (const [name, place] of Object.entries(places)) setText(`${prefix}-${name}`, place);
  return places;
}

// What the field names.
function published() {
  const name = byId('name').value.trim().replace(/[^\w.-]+/g, '-') || 'camera';
  return { vhost: '', app: 'live', name };
}

function rtmpBase() {
  const port = server.rtmpPort === 1935 ? '' : `:${server.rtmpPort}`;
  return `rtmp://${location.hostname}${port}`;
}

// encodeURIComponent leaves !'()* as they are; a quoted shell word must not end inside an address.
function encode(text) {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function path(s) {
  return `/${s.app.split('/').map(encode).join('/')}/${encode(s.name)}`;
}

function vhostQuery(s) {
  return s.vhost ? `?vhost=${encode(s.vhost)}` : '';
}

function flvPath(s) {
  return `${path(s)}.flv${vhostQuery(s)}`;
}

function hlsPath(s) {
  return `${path(s)}.m3u8${vhostQuery(s)}`;
}

function rtcPath(verb, s) {
  const app = s.app.split('/').map(encode).join('/');
  return `/rtc/v1/${verb}/?app=${app}&stream=${encode(s.name)}${s.vhost ? `&vhost=${encode(s.vhost)}` : ''}`;
}

function srtAddress(s, mode) {
  const vhost = s.vhost ? `,h=${s.vhost}` : '';
  return `srt://${location.hostname}:${server.srtPort}?streamid=#!::r=${s.app}/${s.name}${vhost},m=${mode}`;
}

function key(s) {
  return s ? `${s.vhost}/${s.app}/${s.name}` : '';
}

function label(s) {
  return `${s.vhost ? `${s.vhost}/` : ''}${s.app}/${s.name}`;
}

// `/?stream=app/name`, with `&vhost=` for another than the default one; slashes stay legible.
function pageAddress(s) {
  const play = method === FIRST ? '' : `&play=${method}`;
  return `/?stream=${path(s).slice(1)}${s.vhost ? `&vhost=${encode(s.vhost)}` : ''}${play}`;
}

function methodFromAddress() {
  const play = new URLSearchParams(location.search).get('play');
  return Object.hasOwn(METHODS, play ?? '') ? play : null;
}

// `/?publish=name`: to the form, with the name in it.
function nameFromAddress() {
  const name = new URLSearchParams(location.search).get('publish');
  if (name === null) return;
  if (name) byId('name').value = name;
  byId('publish').scrollIntoView();
  byId('send-button').focus({ preventScroll: true });
}

function fromAddress() {
  const query = new URLSearchParams(location.search);
  const stream = (query.get('stream') ?? '').replace(/^\/+|\/+$/g, '');
  if (!stream) return null;
  const cut = stream.lastIndexOf('/');
  const app = cut > 0 ? stream.slice(0, cut) : 'live';
  return { vhost: query.get('vhost') ?? '', app, name: stream.slice(cut + 1) };
}

// ---- controls -----------------------------------------------------------------------------------

function wireControls() {
  video.addEventListener('playing', () => {
    if (!player || held) return;
    playingSince ||= performance.now();
    enter('playing', '');
  });
  video.addEventListener('waiting', () => player && !held && state === 'playing' && enter('buffering', 'Waiting for data…'));
  video.addEventListener('timeupdate', () => player && !player.measure && !held && state === 'buffering' && video.readyState > 2 && enter('playing', ''));
  // A pause that we did not ask for (a media key, the browser in the background) counts as the viewer's,
  // unless the page is hidden: then it goes on when it is seen again.
  video.addEventListener('pause', () => player && !held && !video.ended && !document.hidden && playingSince && hold());
  video.addEventListener('play', () => player && held && resume());
  video.addEventListener('volumechange', () => {
    if (!video.muted) silenced = false;
    byId('volume').value = video.muted ? 0 : video.volume;
    showSound();
  });
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return;
    if (player && !held && video.paused) resume();
    poll();
  });

  byId('play').addEventListener('click', () => (held ? resume() : hold()));
  byId('method').value = method;
  byId('method').addEventListener('change', (event) => {
    method = event.target.value;
    automatic = false;
    if (wanted) select(wanted, true);
  });
  byId('mute').addEventListener('click', () => sound(video.muted));
  byId('sound').addEventListener('click', () => {
    sound(true);
    byId('mute').focus();
  });
  byId('volume').addEventListener('input', (event) => {
    const volume = Number(event.target.value);
    video.volume = volume;
    video.muted = volume === 0;
  });
  byId('fullscreen').addEventListener('click', () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (stage.requestFullscreen) stage.requestFullscreen().catch(() => {});
    else video.webkitEnterFullscreen?.();
  });
  byId('name').addEventListener('input', showAddresses);
  byId('watch-sent').addEventListener('click', () => select(published(), true));
}

function sound(on) {
  if (on && video.volume === 0) video.volume = 1;
  video.muted = !on;
}

function wireAddresses() {
  for (const box of document.querySelectorAll('.address')) {
    const title = document.createElement('span');
    title.textContent = box.dataset.label;
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = 'Copy';
    button.setAttribute('aria-label', `Copy ${box.dataset.label}`);
    button.addEventListener('click', () => copy(box.querySelector('code').textContent, button));
    box.prepend(title);
    box.append(button);
  }
}

async function copy(text, button) {
  const done = await copied(text);
  button.textContent = done ? 'Copied' : 'Press Ctrl+C';
  byId('copied').textContent = done ? 'Copied' : 'Not copied';
  if (!done) getSelection().selectAllChildren(button.parentElement.querySelector('code'));
  setTimeout(() => {
    button.textContent = 'Copy';
    byId('copied').textContent = '';
  }, 1500);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Plain HTTP from another machine is no secure context and has no clipboard: the old way.
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'unseen';
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}
