// For who comes late: what comes next and when, and what was explained so far at which price.

import { el, money, setText } from './format.js';
import { comingUp } from './run-sheet.js';
import { availableOf } from './stock.js';
import { t } from './words.js';

const byId = (id) => document.getElementById(id);
const PAINT_EVERY_MS = 5_000;

export class CatchUp {
  #room;
  #open;

  /** `open(product)` is called when somebody wants to buy what was explained. */
  constructor(room, open) {
    this.#room = room;
    this.#open = open;
    room.addEventListener('change', ({ detail }) => this.#paint(detail.changed));
    // Times pass without an event.
    setInterval(() => this.paintAll(), PAINT_EVERY_MS);
  }

  paintAll() {
    this.#paintNext();
    this.#paintExplained();
  }

  #paint(changed) {
    if (['explained', 'planned_seconds', 'shelf', 'pinned'].some((part) => changed.has(part))) return this.paintAll();
    if (changed.has('stock')) this.#paintExplained();
    if (changed.has('show')) this.#paintNext();
  }

  #paintNext() {
    const { state } = this.#room;
    const [next] = state.show.running ? comingUp(state) : [];
    for (const line of document.querySelectorAll('[data-next]')) {
      line.hidden = !next;
      if (next) setText(line, nextWords(next, this.#room.now()));
    }
  }

  #paintExplained() {
    const { explained, pinned } = this.#room.state;
    // The latest first; what is on the card is not yet past.
    const past = explained.filter(({ product }) => product !== pinned?.product.id).reverse();
    byId('explained').hidden = past.length === 0;
    setText(byId('explained-head'), t('explained_so_far', { n: past.length }));
    byId('explained-list').replaceChildren(...past.map((seen) => this.#item(seen)));
  }

  #item(seen) {
    const { shelf, stock } = this.#room.state;
    const product = shelf.find(({ id }) => id === seen.product);
    const left = product ? availableOf(product, stock) : 0;
    const title = el('button', {
      type: 'button',
      className: 'explained-title',
      textContent: product?.title ?? seen.title ?? seen.product,
      disabled: !product || left === 0,
    });
    title.addEventListener('click', () => product && this.#open(product));
    return el(
      'li',
      { className: left === 0 ? 'gone' : '', data: { test: 'explained-item', product: seen.product } },
      title,
      el('span', { className: 'price', textContent: priceWords(seen, product) }),
      el('span', { className: 'hint', textContent: agoWords(this.#room.now() - seen.at) }),
      el('span', { className: left === 0 ? 'stock gone' : 'stock', textContent: leftWords(product, left) }),
    );
  }
}

function nextWords({ product, at }, now) {
  const { title } = product;
  if (at === null) return t('next', { title });
  const minutes = Math.round((at - now) / 60_000);
  return minutes < 1 ? t('next_now', { title }) : t('next_in', { title, n: minutes });
}

/** The price that was seen, and that of now where it differs. */
function priceWords(seen, product) {
  const then = money(seen.price);
  const now = product ? money(product.price) : then;
  return now === then ? then : t('price_then', { then, now });
}

function agoWords(ms) {
  const minutes = Math.floor(ms / 60_000);
  return minutes < 1 ? t('just_now') : t('minutes_ago', { n: minutes });
}

function leftWords(product, left) {
  if (!product) return t('off_shelf');
  return left === 0 ? t('none_left') : t('left', { n: left });
}
