// Which picture the viewer wants: left to the server, or one of the anchor's layers, or none.

import { part } from './format.js';
import { t } from './words.js';

const LAYERS = ['auto', 'high', 'middle', 'low', 'audio'];

export class PictureChoice {
  #select = part('layer');

  /** @param {Room} room @param {function()} changed called after the viewer chose */
  constructor(room, changed) {
    this.#select.append(...LAYERS.map((layer) => new Option(t(`layer_${layer}`), layer)));
    this.#select.addEventListener('change', () => {
      room.watcher.layer = this.#select.value;
      changed();
    });
  }

  /** Shown only while there is a picture to choose. */
  show(isLive) {
    this.#select.parentElement.hidden = !isLive;
  }
}
