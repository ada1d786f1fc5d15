// What a viewer sees of the picture: how long the first one took, how often it stood still. The server is told soon
// after the start, after each freeze, and now and then.

const LOOK_EVERY_MS = 4_000;
const TELL_EVERY_MS = 30_000;
/** How often a viewer who waits for the first picture is looked at: one who waits for the show is no measure. */
const WAIT_EVERY_MS = 200;

export class PictureQuality {
  #leg;
  #tell;
  #wishedAt;
  #firstFrame = null;
  #told = { freezes: 0, freeze_ms: 0, at: -Infinity };
  /** Freezes of a page that nobody looked at are none. */
  #unseen = { freezes: 0, freeze_ms: 0 };
  #counted = { freezes: 0, freeze_ms: 0 };
  #wasHidden = document.hidden;
  #timer;

  /**
   * @param {{pc: RTCPeerConnection, session: string|null}} leg
   * @param {object} options
   * @param {HTMLVideoElement|null} options.video where the picture is shown
   * @param {number} options.wishedAt when the viewer began to wait (`performance.now()`)
   * @param {function(): boolean} options.isDark whether the room is known to have no picture now
   * @param {function(object): Promise} options.tell takes `{session, first_frame_ms, freezes, freeze_ms}`
   */
  constructor(leg, { video, wishedAt, isDark, tell }) {
    this.#leg = leg;
    this.#tell = tell;
    this.#wishedAt = wishedAt;
    if (video?.requestVideoFrameCallback) this.#awaitPicture(video, isDark);
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    leg.ended.then(() => clearInterval(this.#timer));
  }

  #awaitPicture(video, isDark) {
    let wasDark = isDark();
    const timer = setInterval(() => (wasDark ||= isDark() || document.hidden), WAIT_EVERY_MS);
    this.#leg.ended.then(() => clearInterval(timer));
    video.requestVideoFrameCallback((now) => {
      clearInterval(timer);
      if (!wasDark) this.#firstFrame = Math.round(now - this.#wishedAt);
    });
  }

  async #look() {
    const now = await freezesOf(this.#leg.pc);
    if (!now) return;
    if (document.hidden || this.#wasHidden) {
      this.#unseen.freezes += now.freezes - this.#counted.freezes;
      this.#unseen.freeze_ms += now.freeze_ms - this.#counted.freeze_ms;
    }
    this.#wasHidden = document.hidden;
    this.#counted = now;

    const freezes = now.freezes - this.#unseen.freezes;
    const freeze_ms = Math.max(0, Math.round(now.freeze_ms - this.#unseen.freeze_ms));
    const isNews = freezes > this.#told.freezes || performance.now() - this.#told.at > TELL_EVERY_MS;
    const session = sessionId(this.#leg.session);
    if (!isNews || !session) return;
    const first = this.#firstFrame === null ? {} : { first_frame_ms: this.#firstFrame };
    const before = this.#told;
    this.#told = { freezes, freeze_ms, at: performance.now() };
    // Before the room is joined, or between two connections to it, nobody listens: the next look tells again.
    this.#tell({ session, freezes, freeze_ms, ...first }).catch(() => (this.#told = before));
  }
}

async function freezesOf(pc) {
  if (pc.connectionState !== 'connected') return null;
  for (const entry of (await pc.getStats()).values()) {
    if (entry.type !== 'inbound-rtp' || entry.kind !== 'video' || !entry.framesDecoded) continue;
    return { freezes: entry.freezeCount ?? 0, freeze_ms: (entry.totalFreezesDuration ?? 0) * 1000 };
  }
  return null;
}

/** The id of a session is the end of its URL. */
export function sessionId(url) {
  return url ? new URL(url).pathname.split('/').pop() : null;
}
