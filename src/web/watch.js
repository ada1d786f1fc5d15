// Watching a room's video by WHEP, joining again by itself when the picture stops.

import { connected, endSession, isRefusal, negotiate, whenLost } from './peer.js';
import { PictureQuality } from './quality.js';
import { PictureSize } from './picture-size.js';
import { jitteredDelay, pause } from './transport.js';

const LOOK_EVERY_MS = 2_000;
/** Looks without a packet, while the room is live, before the connection counts as lost. */
const SILENT_LOOKS_MAX = 4;
const CHANNEL_TIMEOUT_MS = 15_000;
/** A connection that stood so long was a good one: the next attempt starts without a grown delay. */
const GOOD_AFTER_MS = 10_000;
/** A stream that neither side would take for a channel of its own. */
const UNUSED_STREAM = 1022;
const CHANNEL_WANTED = 'a data channel is wanted';

/**
 * One viewer's video. Its `state` is `connecting`, `connected`, `lost` (and trying again),
 * `refused`, `unsupported` (no WebRTC here) or `stopped`.
 */
export class Watcher {
  /** The current RTCPeerConnection, for statistics. */
  pc = null;
  state = 'connecting';
  #options;
  #stop = new AbortController();
  #leg = null;
  #wantsChannel = false;
  #layer = 'auto';
  #channel = deferred();

  /**
   * @param {object} options
   * @param {string} options.endpoint the WHEP URL of the room
   * @param {function(): string} options.token
   * @param {HTMLVideoElement|null} options.video where the picture goes; null to use the data channel only
   * @param {function(): boolean} options.expecting whether packets should be arriving now
   * @param {function(): boolean} options.isDark whether the room is known to have no picture now
   * @param {function(object): Promise} [options.tell] told what the viewer sees, now and then
   * @param {function(object): Promise} [options.want] told which layer of the picture is wanted, and how large it is shown
   * @param {function(Watcher)} [options.changed] called after each change of `state`
   * @param {function(Watcher)} [options.blocked] called when the browser refuses to play without a tap
   */
  constructor(options) {
    this.#options = options;
    addEventListener('pagehide', () => endSession(this.#leg?.session, options.token()), {
      signal: this.#stop.signal,
    });
  }

  start() {
    if (globalThis.RTCPeerConnection) this.#run();
    else this.#become('unsupported');
    return this;
  }

  stop() {
    this.#stop.abort();
    this.#replaceLeg(null);
    this.#become('stopped');
  }

  /** Joins again: the server has started anew and knows nothing of this connection. */
  again() {
    this.#leg?.lost('started anew');
  }

  /** Which picture is wanted: `auto`, `high`, `middle`, `low`, or `audio` for the sound alone. */
  get layer() {
    return this.#layer;
  }

  set layer(layer) {
    this.#layer = layer;
  }

  /** The data channel `room`; joins again with an application section when there is none yet. */
  channel() {
    if (this.state === 'unsupported') return Promise.reject(new Error('no WebRTC'));
    if (this.#leg?.room?.readyState === 'open') return Promise.resolve(this.#leg.room);
    this.#channel = deferred();
    this.#wantsChannel = true;
    this.#leg?.lost(CHANNEL_WANTED);
    const { promise, reject } = this.#channel;
    setTimeout(() => reject(new Error('no data channel in time')), CHANNEL_TIMEOUT_MS);
    return promise;
  }

  async #run() {
    for (let attempt = 0; !this.#stop.signal.aborted; attempt += 1) {
      let wait = jitteredDelay(attempt);
      try {
        const leg = await this.#join();
        const since = Date.now();
        const why = await leg.ended;
        if (Date.now() - since > GOOD_AFTER_MS) attempt = 0;
        wait = why === CHANNEL_WANTED ? 0 : jitteredDelay(attempt);
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        if (isRefusal(error)) return this.#become('refused');
        wait = Math.max(wait, error.retry_after_ms ?? 0);
      }
      if (this.#stop.signal.aborted) return;
      this.#become('lost');
      await pause(wait, this.#stop.signal);
    }
  }

  /** Makes a new connection beside the old one, and swaps when it stands. */
  async #join() {
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    try {
      pc.addTransceiver('video', { direction: 'recvonly' });
      pc.addTransceiver('audio', { direction: 'recvonly' });
      const leg = this.#legOf(pc);
      leg.wishedAt = performance.now();
      const { endpoint, token } = this.#options;
      leg.session = await negotiate(pc, endpoint, token(), this.#stop.signal);
      // The page tells whether the picture runs; a debug handle wants the newest connection.
      this.pc = pc;
      await connected(pc);
      this.#replaceLeg(leg);
      this.#become('connected');
      if (this.#wantsChannel && !leg.hasSection) leg.lost(CHANNEL_WANTED);
      return leg;
    } catch (error) {
      pc.close();
      throw error;
    }
  }

  #legOf(pc) {
    const leg = { pc, session: null, room: null, stream: new MediaStream(), hasSection: this.#wantsChannel };
    leg.ended = new Promise((resolve) => (leg.lost = resolve));
    pc.ontrack = ({ track }) => leg.stream.addTrack(track);
    if (leg.hasSection) {
      // Never used: it puts the application section into the offer, in which the server opens `room`.
      pc.createDataChannel('section', { negotiated: true, id: UNUSED_STREAM });
      pc.ondatachannel = ({ channel }) => this.#takeChannel(leg, channel);
    }
    return leg;
  }

  #takeChannel(leg, channel) {
    if (channel.label !== 'room') return;
    leg.room = channel;
    const { resolve } = this.#channel;
    if (channel.readyState === 'open') resolve(channel);
    else channel.onopen = () => resolve(channel);
  }

  #replaceLeg(leg) {
    const old = this.#leg;
    this.#leg = leg;
    this.pc = leg?.pc ?? null;
    if (leg) {
      this.#show(leg.stream);
      whenLost(leg.pc, leg.lost);
      this.#lookAfter(leg);
      const { video, tell, want } = this.#options;
      if (tell) new PictureQuality(leg, { video, wishedAt: leg.wishedAt, isDark: this.#options.isDark, tell });
      if (want) new PictureSize(leg, { video, layer: () => this.#layer, want });
    }
    if (!old) return;
    old.lost('replaced');
    old.pc.close();
    endSession(old.session, this.#options.token());
  }

  #show(stream) {
    const { video, blocked } = this.#options;
    if (!video) return;
    video.srcObject = stream;
    video.play().catch((error) => {
      if (error.name === 'NotAllowedError') blocked?.(this);
    });
  }

  /** Gives up a connection on which nothing arrives although the room is live. */
  #lookAfter(leg) {
    let received = 0;
    let silent = 0;
    const timer = setInterval(async () => {
      const now = await packetsReceived(leg.pc);
      silent = now > received || !this.#options.expecting() ? 0 : silent + 1;
      received = now;
      if (silent >= SILENT_LOOKS_MAX) leg.lost('silent');
    }, LOOK_EVERY_MS);
    leg.ended.then(() => clearInterval(timer));
  }

  #become(state) {
    if (this.state === state || this.state === 'stopped') return;
    this.state = state;
    this.#options.changed?.(this);
  }
}

async function packetsReceived(pc) {
  let packets = 0;
  for (const entry of (await pc.getStats()).values()) {
    if (entry.type === 'inbound-rtp') packets += entry.packetsReceived ?? 0;
  }
  return packets;
}

function deferred() {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  parts.promise.catch(() => {});
  return parts;
}
