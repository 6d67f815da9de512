// WebRTC with the server: sessions by WHIP (RFC 9725) and WHEP, and what getStats tells of them.

const ANSWER_MS = 10_000; // how long the answer to an offer may take
const CONNECT_MS = 8000; // and then the connection

// Why there is no session, in the server's own words where it has any.
export class Refused extends Error {}

export const supported = 'RTCPeerConnection' in window;

const sessions = new Set();
// Who leaves the page says goodbye; the server would wait for them otherwise.
addEventListener('pagehide', () => sessions.forEach((session) => session.close()));

export class Session {
  peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  onend = () => {}; // the connection failed, or the server closed it
  #resource = null; // what DELETE ends
  #closed = false;
  #last = null;

  constructor() {
    sessions.add(this);
  }

  // Offers the transceivers of `peer` at `path`, and waits for the connection. The server learns our candidates
  // from the packets that come.
  async open(path) {
    await this.peer.setLocalDescription();
    const answer = await fetch(path, {
      method: 'POST',
      headers: { 'Content-Type': 'application/sdp' },
      body: this.peer.localDescription.sdp,
      signal: AbortSignal.timeout(ANSWER_MS),
    }).catch(() => {
      throw new Refused('it does not answer');
    });
    const text = await answer.text();
    if (answer.status !== 201) {
      const plain = answer.headers.get('Content-Type')?.startsWith('text/plain');
      throw new Refused((plain && text.trim()) || `HTTP status ${answer.status}`);
    }
    const location = answer.headers.get('Location');
    this.#resource = location && new URL(location, answer.url);
    if (this.#closed) return this.#leave(); // while the offer was under way
    await this.peer.setRemoteDescription({ type: 'answer', sdp: text });
    await this.#connected();
    const { transport } = this.peer.getSenders()[0];
    const ended = () => {
      if (this.peer.connectionState === 'failed' || transport.state === 'closed') this.onend();
    };
    this.peer.addEventListener('connectionstatechange', ended);
    transport.addEventListener('statechange', ended);
  }

  #connected() {
    return new Promise((resolve, reject) => {
      const look = () => this.peer.connectionState === 'connected' && resolve();
      this.peer.addEventListener('connectionstatechange', look);
      setTimeout(() => reject(new Refused('no packet comes back from its UDP port')), CONNECT_MS);
      look();
    });
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.onend = () => {};
    sessions.delete(this);
    this.peer.close();
    this.#leave();
  }

  #leave() {
    if (this.#resource) fetch(this.#resource, { method: 'DELETE', keepalive: true }).then((answer) => answer.text()).catch(() => {});
  }

  // Statistics of what comes in, or else goes out, since they were last asked for: sizes in pixels, times in
  // milliseconds. What the browser does not tell is undefined.
  async measure() {
    const all = [...(await this.peer.getStats()).values()];
    const sum = (entries, name) => entries.reduce((total, entry) => total + (entry[name] ?? 0), 0);
    const incoming = all.filter((entry) => entry.type === 'inbound-rtp');
    const flows = incoming.length ? incoming : all.filter((entry) => entry.type === 'outbound-rtp');
    const remote = all.filter((entry) => entry.type === 'remote-inbound-rtp');
    const picture = flows.find((flow) => flow.kind === 'video') ?? {};
    const pair = all.find((entry) => entry.type === 'candidate-pair' && entry.nominated);
    const rtt = pair?.currentRoundTripTime;
    const codec = all.find((entry) => entry.id === picture.codecId);
    const now = {
      at: performance.now(),
      bytes: sum(flows, 'bytesReceived') + sum(flows, 'bytesSent'),
      delay: sum([picture], 'jitterBufferDelay'),
      emitted: sum([picture], 'jitterBufferEmittedCount'),
    };
    const before = this.#last ?? now;
    this.#last = now;
    const emitted = now.emitted - before.emitted;
    return {
      width: picture.frameWidth ?? 0,
      height: picture.frameHeight ?? 0,
      fps: picture.framesPerSecond ?? 0,
      kbps: now.at > before.at ? ((now.bytes - before.bytes) * 8) / (now.at - before.at) : 0,
      bufferMs: emitted > 0 ? ((now.delay - before.delay) / emitted) * 1000 : undefined,
      dropped: picture.framesDropped ?? 0,
      arrived: picture.framesDecoded ?? sum(flows, 'packetsReceived'),
      lost: sum(incoming.length ? incoming : remote, 'packetsLost'),
      nacks: sum(flows, 'nackCount'),
      rttMs: rtt === undefined ? undefined : rtt * 1000,
      codec: codec?.mimeType.replace('video/', ''),
      encoder: picture.encoderImplementation,
      limit: picture.qualityLimitationReason,
    };
  }
}
