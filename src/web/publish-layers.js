// The sizes in which the anchor's picture is sent, so that a viewer on a poor link gets a small one and everybody else
// the large one. The small one is an extra: an uplink that does not carry both carries the large one.

const LARGE = 'large';
const SMALL = 'small';
/** Browsers want them in this order; one that sends a single size sends the large one. */
const SIZES = [
  { rid: SMALL, scaleResolutionDownBy: 2, maxBitrate: 350_000 },
  { rid: LARGE, scaleResolutionDownBy: 1, maxBitrate: 2_500_000 },
];

const LOOK_EVERY_MS = 1_000;
/** Encoders begin low, and a hiccup is no poor uplink. */
const MISSED_LOOKS_MAX = 8;
/** What the uplink must have before the small picture is tried again, and after how long at the soonest. */
const ENOUGH_FOR_BOTH = 1_600_000;
const AGAIN_AFTER_LOOKS = 30;
const AGAIN_LATER_MAX = 8;

/** What `addTransceiver` is told of the picture. */
export function sizes() {
  return SIZES.map((size) => ({ ...size }));
}

/** The statistics of the largest picture that is sent; undefined while none is. */
export function largestSent(reports) {
  const sent = reports.filter((entry) => entry.type === 'outbound-rtp' && entry.kind === 'video');
  return sent.find((entry) => entry.rid === LARGE) ?? sent[0];
}

/** The bytes of all pictures together. */
export function bytesSent(reports) {
  const sent = reports.filter((entry) => entry.type === 'outbound-rtp' && entry.kind === 'video');
  return sent.reduce((sum, entry) => sum + entry.bytesSent, 0);
}

/** Leaves the small picture out while the uplink carries only one. */
export class Layers {
  #pc;
  #timer;
  #frames = { [SMALL]: 0, [LARGE]: 0 };
  #missed = 0;
  #alone = 0;
  #later = 1;
  #isSmallSent = true;

  /** @param {RTCPeerConnection} pc is looked at until it is closed */
  constructor(pc) {
    this.#pc = pc;
    this.#timer = setInterval(() => this.#look().catch(() => {}), LOOK_EVERY_MS);
  }

  async #look() {
    if (this.#pc.connectionState === 'closed') return clearInterval(this.#timer);
    const reports = [...(await this.#pc.getStats()).values()];
    if (this.#isSmallSent) {
      const comes = { [SMALL]: this.#comes(reports, SMALL), [LARGE]: this.#comes(reports, LARGE) };
      if (comes[LARGE]) this.#missed = 0;
      else if (comes[SMALL] && (this.#missed += 1) >= MISSED_LOOKS_MAX) await this.#send(false);
      return;
    }
    this.#alone += 1;
    if (this.#alone >= AGAIN_AFTER_LOOKS * this.#later && uplink(reports) >= ENOUGH_FOR_BOTH) {
      this.#later = Math.min(this.#later * 2, AGAIN_LATER_MAX);
      await this.#send(true);
    }
  }

  #comes(reports, rid) {
    const frames = reports.find((entry) => entry.type === 'outbound-rtp' && entry.rid === rid)?.framesSent ?? 0;
    const before = this.#frames[rid];
    this.#frames[rid] = frames;
    return frames > before;
  }

  async #send(isSmallSent) {
    const sender = this.#pc.getSenders().find(({ track }) => track?.kind === 'video');
    const parameters = sender?.getParameters();
    const small = parameters?.encodings.find(({ rid }) => rid === SMALL);
    if (!small || parameters.encodings.length < SIZES.length) return;
    small.active = isSmallSent;
    await sender.setParameters(parameters);
    [this.#isSmallSent, this.#missed, this.#alone] = [isSmallSent, 0, 0];
  }
}

/** What the browser takes the way to the server to carry, in bits per second. */
function uplink(reports) {
  const rates = reports.filter((entry) => entry.type === 'candidate-pair').map((entry) => entry.availableOutgoingBitrate);
  return Math.max(0, ...rates.filter(Number.isFinite));
}
