// A rehearsal says so on every page of it; the studio makes and ends one.

import { part, setText } from './format.js';
import { showNotice } from './notice.js';
import { explain, t } from './words.js';

/** Shows, or hides, that the room is a rehearsal of another. */
export function paintRehearsal(room) {
  const of = room.state.rehearsal_of;
  document.body.classList.toggle('rehearsed', Boolean(of));
  part('rehearsal').hidden = !of;
  setText(part('rehearsal'), of ? t('rehearsal') : '');
}

/** The studio's buttons: into a rehearsal of her room, and out of it again. */
export class Rehearsing {
  #room;
  #start = part('rehearse');
  #end = part('end-rehearsal');

  constructor(room) {
    this.#room = room;
    this.#start.title = t('studio_rehearse_more');
    this.#start.addEventListener('click', () => this.#busy(this.#start, () => this.#make()));
    this.#end.addEventListener('click', () => this.#busy(this.#end, () => this.#leave()));
    room.addEventListener('change', ({ detail }) => detail.changed.has('show') && this.#paint());
  }

  #paint() {
    const of = this.#room.state.rehearsal_of;
    this.#start.hidden = Boolean(of);
    this.#end.hidden = !of;
    paintRehearsal(this.#room);
  }

  /** Her token for the real room does not open the rehearsal: the answer brings one that does. */
  async #make() {
    const made = await this.#room.request('POST', '/v1/rooms', { rehearsal_of: this.#room.id });
    location.assign(`/studio/${encodeURIComponent(made.id)}#token=${made.token}`);
  }

  async #leave() {
    const of = this.#room.state.rehearsal_of;
    await this.#room.request('DELETE', `/v1/rooms/${encodeURIComponent(this.#room.id)}`);
    location.assign(`/studio/${encodeURIComponent(of)}`);
  }

  async #busy(button, act) {
    button.disabled = true;
    try {
      await act();
    } catch (error) {
      showNotice(explain(error));
    } finally {
      button.disabled = false;
    }
  }
}
