// Tells the server how large a viewer's picture is shown and which layer she wants, so that no more is sent than she sees.

import { sessionId } from './quality.js';

const LOOK_EVERY_MS = 1_000;
/** A window that is being dragged is not worth a message each second. */
const CHANGE_MIN = 0.1;

export class PictureSize {
  #leg;
  #video;
  #layer;
  #want;
  #told = { layer: 'auto', height: null };
  #timer;

  /**
   * @param {{session: string|null, ended: Promise}} leg
   * @param {object} options
   * @param {HTMLVideoElement|null} options.video where the picture is shown
   * @param {function(): string} options.layer what the viewer chose
   * @param {function(object): Promise} options.want takes `{session, layer, height}`
   */
  constructor(leg, { video, layer, want }) {
    this.#leg = leg;
    this.#video = video;
    this.#layer = layer;
    this.#want = want;
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    leg.ended.then(() => clearInterval(this.#timer));
  }

  #look() {
    const session = sessionId(this.#leg.session);
    const height = shownHeight(this.#video);
    const layer = this.#layer();
    const before = this.#told;
    if (!session || (layer === before.layer && isLike(height, before.height))) return;
    this.#told = { layer, height };
    // Between two connections to the room nobody listens: the next look tells again.
    this.#want({ session, layer, ...(height && { height }) }).catch(() => (this.#told = before));
  }
}

/** Of the picture in the device's pixels; null where nothing is laid out. */
function shownHeight(video) {
  const height = Math.round((video?.clientHeight ?? 0) * (globalThis.devicePixelRatio ?? 1));
  return height > 0 ? Math.min(height, 16_384) : null;
}

function isLike(height, before) {
  if (height === null || before === null) return height === before;
  return Math.abs(height - before) <= before * CHANGE_MIN;
}
