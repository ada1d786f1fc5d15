// Going live: choosing a source, publishing it, starting and ending the show.

import { el, part } from './format.js';
import { closeSource, devices, openCamera, openTestPicture } from './studio-source.js';
import { t } from './words.js';

const byId = (id) => document.getElementById(id);
const STATS_EVERY_MS = 1_000;

/**
 * `state` is `idle`, `connecting`, `live`, `ended` or `error`; `change` is dispatched when it, the source
 * or the figures changed.
 */
export class Broadcast extends EventTarget {
  state = 'idle';
  /** The stream that is shown and sent; null while there is none. */
  stream = null;
  /** `{width, height, fps, bits, loss}` of the last second. */
  stats = null;
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
    const pc = this.#publisher?.pc;
    if (this.state !== 'live' || !pc) return;
    const report = [...(await pc.getStats()).values()];
    const video = report.find((entry) => entry.type === 'outbound-rtp' && entry.kind === 'video');
    if (!video) return;
    const remote = report.find((entry) => entry.type === 'remote-inbound-rtp' && entry.kind === 'video');
    this.stats = {
      width: video.frameWidth,
      height: video.frameHeight,
      fps: Math.round(video.framesPerSecond ?? 0),
      bits: bitsSince(this.#counted, video),
      loss: remote?.fractionLost ?? 0,
    };
    this.#counted = video;
    this.dispatchEvent(new Event('change'));
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event('change'));
  }
}

function bitsSince(before, now) {
  if (!before || before.ssrc !== now.ssrc || now.timestamp <= before.timestamp) return 0;
  return ((now.bytesSent - before.bytesSent) * 8 * 1000) / (now.timestamp - before.timestamp);
}

function fill(select, found, track) {
  const inUse = track?.getSettings().deviceId;
  const options = found.map(({ deviceId, label }, place) => {
    return el('option', { value: deviceId, selected: deviceId === inUse, textContent: label || `${place + 1}` });
  });
  select.replaceChildren(...options);
}
