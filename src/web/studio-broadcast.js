// Going live: choosing a source, publishing it, starting and ending the show.

import { el, part } from './format.js';
import { bytesSent, largestSent } from './publish-layers.js';
import { Health } from './studio-health.js';
import { closeSource, devices, openCamera, openTestPicture } from './studio-source.js';
import { t } from './words.js';

const byId = (id) => document.getElementById(id);
const STATS_EVERY_MS = 1_000;
/** The server measures once a second; asking every second look is enough. */
const UPLINK_EVERY_LOOKS = 2;

/**
 * `state` is `idle`, `connecting`, `live`, `ended` or `error`; `change` is dispatched when it, the source
 * or the figures changed.
 */
export class Broadcast extends EventTarget {
  state = 'idle';
  /** The stream that is shown and sent; null while there is none. */
  stream = null;
  /** `{width, height, fps, bits, loss}` of the last second; of another device only what the server sees. */
  stats = null;
  /** What troubles the broadcast: `{name, level}`, or null. */
  trouble = null;
  /** What the server sees of the room's broadcast, from wherever it comes. */
  #uplink = null;
  #health = new Health();
  #looks = 0;
  #liveSince = null;
  #room;
  #publisher = null;
  #opening = 0;
  #counted = null;

  constructor(room) {
    super();
    this.#room = room;
    for (const select of [part('source'), byId('camera'), byId('microphone')]) {
      select.addEventListener('change', () => this.openSource());
    }
    room.addEventListener('video', () => this.#follow());
    setInterval(() => this.#measure(), STATS_EVERY_MS);
  }

  /** Opens what is selected. While live the new source takes the old one's place. */
  async openSource() {
    const turn = (this.#opening += 1);
    const isTest = part('source').value === 'test';
    byId('devices').hidden = isTest;
    try {
      const chosen = { camera: byId('camera').value, microphone: byId('microphone').value };
      const stream = isTest ? openTestPicture() : await openCamera(chosen);
      if (turn !== this.#opening) return closeSource(stream);
      await this.#use(stream);
      if (!isTest) await this.#listDevices();
    } catch (error) {
      if (turn === this.#opening) this.#showCameraError(error.message);
    }
  }

  /** Publishes, then starts the show unless it is running already. */
  async goLive() {
    if (this.state === 'connecting' || this.state === 'live' || !this.stream) return;
    this.#become('connecting');
    try {
      this.stream.feed?.resume();
      this.#publisher = await this.#room.publish(this.stream);
      if (!this.#room.state.show.running) await this.#room.show('start');
      this.#become('live');
    } catch (error) {
      this.stop();
      this.#become('error');
      throw error;
    }
  }

  async endShow() {
    await this.#room.show('end');
    this.stop();
    this.#become('ended');
  }

  stop() {
    this.#publisher?.stop();
    this.#publisher = null;
    this.#counted = null;
  }

  async #use(stream) {
    const old = this.stream;
    this.stream = stream;
    this.#showPreview(stream);
    await this.#publisher?.replace(stream);
    if (this.state === 'live') stream.feed?.resume();
    closeSource(old);
    this.dispatchEvent(new Event('change'));
  }

  #showPreview(stream) {
    const preview = part('preview');
    preview.srcObject = stream;
    preview.classList.toggle('mirrored', part('source').value === 'camera');
    preview.play().catch(() => {});
    part('camera-error').hidden = true;
  }

  #showCameraError(message) {
    const note = part('camera-error');
    const button = (words, source) => {
      const open = () => {
        part('source').value = source;
        this.openSource();
      };
      return el('button', { className: 'button small', textContent: words, on: { click: open } });
    };
    const test = button(t('studio_use_test'), 'test');
    const again = button(t('try_again'), 'camera');
    again.classList.add('line');
    note.replaceChildren(el('span', { textContent: message }), test, again);
    note.hidden = false;
    byId('devices').hidden = true;
    this.dispatchEvent(new Event('change'));
  }

  async #listDevices() {
    const { cameras, microphones } = await devices();
    fill(byId('camera'), cameras, this.stream.getVideoTracks()[0]);
    fill(byId('microphone'), microphones, this.stream.getAudioTracks()[0]);
  }

  /** The publisher repairs losses itself; the anchor sees that it is trying. */
  #follow() {
    if (!this.#publisher) return;
    const { state } = this.#publisher;
    if (state === 'connected') this.#become('live');
    if (state === 'lost') this.#become('connecting');
    if (state === 'refused') {
      this.stop();
      this.#become('error');
    }
  }

  async #measure() {
    await this.#askServer();
    const own = this.state === 'live' ? await this.#measureOwn() : null;
    this.stats = own ?? (this.#uplink && { ...this.#uplink, fps: Math.round(this.#uplink.arriving_fps ?? 0) });
    this.#liveSince = this.stats ? (this.#liveSince ?? performance.now()) : null;
    this.trouble = this.#health.look(this.stats && { ...this.stats, since_ms: performance.now() - this.#liveSince });
    this.dispatchEvent(new Event('change'));
  }

  async #askServer() {
    const { status, state } = this.#room;
    if (status !== 'live' || !state.media.live) return (this.#uplink = null);
    if (this.#looks++ % UPLINK_EVERY_LOOKS !== 0) return;
    // A stroke of bad luck with one answer is no reason to forget the last.
    const seen = await this.#room.uplink().catch(() => undefined);
    if (seen === undefined) return;
    this.#uplink = seen && { bits: seen.bits ?? 0, loss: seen.loss ?? 0, arriving_fps: seen.frames ?? null };
  }

  /** What this browser encodes and sends, beside what arrives of it. */
  async #measureOwn() {
    const report = [...((await this.#publisher?.pc?.getStats()) ?? new Map()).values()];
    const find = (type) => report.find((entry) => entry.type === type && entry.kind === 'video');
    const video = largestSent(report);
    if (!video) return null;
    const counted = { ssrc: video.ssrc, timestamp: video.timestamp, bytes: bytesSent(report) };
    const bits = bitsSince(this.#counted, counted);
    this.#counted = counted;
    return {
      width: video.frameWidth,
      height: video.frameHeight,
      fps: Math.round(video.framesPerSecond ?? 0),
      source_fps: find('media-source')?.framesPerSecond ?? 0,
      limit: video.qualityLimitationReason,
      bits,
      loss: Math.max(find('remote-inbound-rtp')?.fractionLost ?? 0, this.#uplink?.loss ?? 0),
      arriving_fps: this.#uplink?.arriving_fps ?? null,
    };
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event('change'));
  }
}

function bitsSince(before, now) {
  if (!before || before.ssrc !== now.ssrc || now.timestamp <= before.timestamp) return 0;
  return ((now.bytes - before.bytes) * 8 * 1000) / (now.timestamp - before.timestamp);
}

function fill(select, found, track) {
  const inUse = track?.getSettings().deviceId;
  const options = found.map(({ deviceId, label }, place) => {
    return el('option', { value: deviceId, selected: deviceId === inUse, textContent: label || `${place + 1}` });
  });
  select.replaceChildren(...options);
}
