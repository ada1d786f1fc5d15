// Publishing to a room by WHIP, again and again until told to stop.

import { connected, endSession, isRefusal, negotiate, whenLost } from './peer.js';
import { Layers, sizes } from './publish-layers.js';
import { jitteredDelay, pause } from './transport.js';

const AUDIO_BITS_PER_SECOND = 96_000;
/** What the server passes through, best first: phones decode H.264 in hardware. */
const VIDEO_CODECS = ['video/h264', 'video/vp8'];

/**
 * One anchor's broadcast. Its `state` is `connecting`, `connected`, `lost` (and trying again),
 * `refused` or `stopped`.
 */
export class Publisher {
  /** The current RTCPeerConnection, for statistics. */
  pc = null;
  state = 'connecting';
  #options;
  #stream;
  #session = null;
  #lose = null;
  #stop = new AbortController();

  /**
   * @param {MediaStream} stream
   * @param {object} options
   * @param {string} options.endpoint the WHIP URL of the room
   * @param {function(): string} options.token
   * @param {function(Publisher)} [options.changed] called after each change of `state`
   */
  constructor(stream, options) {
    this.#stream = stream;
    this.#options = options;
    addEventListener('pagehide', () => endSession(this.#session, options.token()), {
      signal: this.#stop.signal,
    });
  }

  /** Resolves when the server receives; rejects when the first attempt fails. Later losses are repaired. */
  async start() {
    try {
      await this.#join();
    } catch (error) {
      this.stop();
      throw error;
    }
    this.#keepUp();
    return this;
  }

  stop() {
    if (this.state === 'stopped') return;
    this.#stop.abort();
    this.#leave();
    this.#become('stopped');
  }

  /** Publishes again: the server has started anew and knows nothing of this connection. */
  again() {
    this.#lose?.('started anew');
  }

  /** Changes camera or source without a break for the viewers. */
  async replace(stream) {
    this.#stream = stream;
    for (const sender of this.pc?.getSenders() ?? []) {
      const track = stream.getTracks().find((candidate) => candidate.kind === sender.track?.kind);
      if (track) await sender.replaceTrack(track);
    }
  }

  async #keepUp() {
    let attempt = 0;
    while (!this.#stop.signal.aborted) {
      if (this.state === 'connected') await this.#untilLost();
      if (this.#stop.signal.aborted) return;
      this.#become('lost');
      await pause(jitteredDelay(attempt++, { most: 5_000 }), this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      try {
        await this.#join();
        attempt = 0;
      } catch (error) {
        if (isRefusal(error) || error.code === 'already_live') return this.#become('refused');
      }
    }
  }

  #untilLost() {
    return new Promise((lost) => {
      this.#lose = lost;
      whenLost(this.pc, lost);
    });
  }

  async #join() {
    this.pc?.close();
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    this.pc = pc;
    for (const track of this.#stream.getTracks()) addTrack(pc, track, this.#stream);
    const { endpoint, token } = this.#options;
    this.#session = await negotiate(pc, endpoint, token(), this.#stop.signal);
    await connected(pc);
    new Layers(pc);
    this.#become('connected');
  }

  #leave() {
    this.pc?.close();
    endSession(this.#session, this.#options.token());
    this.#session = null;
  }

  #become(state) {
    if (this.state === state || this.state === 'stopped') return;
    this.state = state;
    this.#options.changed?.(this);
  }
}

function addTrack(pc, track, stream) {
  const isVideo = track.kind === 'video';
  const transceiver = pc.addTransceiver(track, {
    direction: 'sendonly',
    streams: [stream],
    sendEncodings: isVideo ? sizes() : [{ maxBitrate: AUDIO_BITS_PER_SECOND }],
  });
  if (isVideo) preferCodecs(transceiver);
}

function preferCodecs(transceiver) {
  const able = RTCRtpSender.getCapabilities?.('video')?.codecs ?? [];
  const rank = (codec) => VIDEO_CODECS.indexOf(codec.mimeType.toLowerCase());
  const wanted = able.filter(isPassedThrough).sort((a, b) => rank(a) - rank(b));
  if (wanted.length === 0) return;
  const repair = able.filter((codec) => codec.mimeType.toLowerCase() === 'video/rtx');
  transceiver.setCodecPreferences?.([...wanted, ...repair]);
}

/** H.264 in constrained baseline and split packets (what every phone takes), or VP8. */
function isPassedThrough(codec) {
  const type = codec.mimeType.toLowerCase();
  if (type !== 'video/h264') return VIDEO_CODECS.includes(type);
  return /packetization-mode=1/.test(codec.sdpFmtpLine) && /profile-level-id=42[ec]0/i.test(codec.sdpFmtpLine);
}
