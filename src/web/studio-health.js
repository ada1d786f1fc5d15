// What is wrong with the anchor's picture on its way out, in her words. A trouble is said when it lasts, and taken back
// when it has been gone for a while: nobody can act on what flickers.

import { part, setText } from './format.js';
import { t } from './words.js';

const SAID_AFTER_LOOKS = 3;
const GONE_AFTER_LOOKS = 6;
/** Encoders start low and climb: what they are short of at first is no news. */
const CLIMB_MS = 12_000;
const LOSS_SEEN = 0.03;
const LOSS_BAD = 0.1;
const FRAMES_LEFT_PART = 0.6;
const FRAMES_FLUENT = 14;

/** The troubles that may be told, the worst first, and what each looks like. */
const TROUBLES = [
  ['loss_bad', 'bad', ({ loss }) => loss >= LOSS_BAD],
  ['bandwidth', 'warn', ({ limit, since_ms }) => limit === 'bandwidth' && since_ms > CLIMB_MS],
  ['cpu', 'warn', ({ limit, fps, source_fps, since_ms }) => since_ms > CLIMB_MS && (limit === 'cpu' || (limit !== 'bandwidth' && source_fps >= FRAMES_FLUENT && fps < source_fps * FRAMES_LEFT_PART))],
  ['loss', 'warn', ({ loss }) => loss >= LOSS_SEEN],
  ['frames', 'warn', ({ arriving_fps, since_ms }) => since_ms > CLIMB_MS && arriving_fps !== null && arriving_fps < FRAMES_FLUENT],
];

export class Health {
  #looks = new Map(TROUBLES.map(([name]) => [name, 0]));
  #said = null;

  /**
   * One look, about once a second.
   * @param {object|null} figures null while nothing is on the air: `{loss, limit, fps, source_fps, arriving_fps, since_ms}`
   * @returns {{name: string, level: string}|null} what to say
   */
  look(figures) {
    if (!figures) {
      for (const name of this.#looks.keys()) this.#looks.set(name, 0);
      return (this.#said = null);
    }
    for (const [name, , holds] of TROUBLES) {
      const looks = this.#looks.get(name);
      this.#looks.set(name, holds(figures) ? Math.min(looks + 1, GONE_AFTER_LOOKS) : Math.max(looks - 1, 0));
    }
    const stays = this.#said !== null && this.#looks.get(this.#said.name) > 0;
    const worst = TROUBLES.find(([name]) => this.#looks.get(name) >= SAID_AFTER_LOOKS);
    const isWorse = worst && (!stays || rank(worst[0]) < rank(this.#said.name));
    if (isWorse) this.#said = { name: worst[0], level: worst[1] };
    else if (!stays) this.#said = null;
    return this.#said;
  }
}

function rank(name) {
  return TROUBLES.findIndex(([known]) => known === name);
}

/** Shows a trouble under the picture, or nothing. */
export function paintHealth(trouble, { loss = 0, arriving_fps } = {}) {
  const note = part('health');
  note.hidden = !trouble;
  note.dataset.state = trouble?.level ?? 'good';
  note.dataset.trouble = trouble?.name ?? '';
  if (!trouble) return setText(note, '');
  const percent = Math.max(1, Math.round(loss * 100));
  setText(note, t(`studio_trouble_${trouble.name}`, { percent, fps: Math.round(arriving_fps ?? 0) }));
}
