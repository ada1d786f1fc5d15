// The pinned card and the shelf.

import { clock, el, money, part, picture, setText } from './format.js';
import { availableOf, paintStock, stockOf } from './stock.js';
import { t } from './words.js';

const byId = (id) => document.getElementById(id);

export class Goods {
  #room;
  #open;

  /** `open(product)` is called when somebody wants to buy. */
  constructor(room, open) {
    this.#room = room;
    this.#open = open;
    room.addEventListener('change', ({ detail }) => this.#paint(detail));
    part('card-buy').addEventListener('click', () => room.state.pinned && open(room.state.pinned.product));
    setInterval(() => this.#paintCountdown(), 500);
    this.#wireDrawer();
  }

  /** Paints everything again, after the connection changed. */
  paintAll() {
    this.#paintCard();
    this.#paintShelf();
  }

  #paint({ changed, skus }) {
    if (changed.has('pinned')) this.#paintCard();
    if (changed.has('shelf') || changed.has('pinned')) this.#paintShelf();
    if (changed.has('stock')) {
      paintStock(this.#room.state.stock, skus);
      this.#paintAbility();
    }
  }

  #paintCard() {
    const { pinned, stock } = this.#room.state;
    const card = part('card');
    card.hidden = !pinned;
    if (!pinned) return;
    const { product } = pinned;
    if (card.dataset.product !== product.id) {
      card.dataset.product = product.id;
      byId('card-picture').replaceChildren(picture(product));
    }
    setText(part('card-title'), product.title);
    setText(part('card-price'), money(product.price));
    part('card-stock').replaceChildren(stockLine(product, stock));
    this.#paintCountdown();
    this.#paintAbility();
  }

  #paintCountdown() {
    const until = this.#room.state.pinned?.explain_until;
    const left = until ? until - this.#room.now() : 0;
    setText(byId('card-chip'), left > 0 ? t('explaining_for', { time: clock(left) }) : t('explaining'));
  }

  #paintShelf() {
    const { shelf, stock, pinned } = this.#room.state;
    const items = shelf.map((product, place) => this.#item(product, place, stock, product.id === pinned?.product.id));
    part('shelf').replaceChildren(...items);
    byId('shelf-empty').hidden = shelf.length > 0;
    const badge = byId('shelf-count');
    badge.hidden = shelf.length === 0;
    setText(badge, String(shelf.length));
    this.#paintAbility();
  }

  #item(product, place, stock, isPinned) {
    const buy = el('button', { className: 'button small', textContent: t('buy'), data: { test: 'shelf-buy' } });
    buy.addEventListener('click', () => this.#open(this.#known(product.id) ?? product));
    const frame = picture(product);
    frame.append(el('span', { className: 'place', textContent: place + 1 }));
    return el(
      'li',
      { className: isPinned ? 'goods-item pinned' : 'goods-item', data: { test: 'shelf-item', product: product.id } },
      frame,
      el(
        'div',
        { className: 'goods-text' },
        isPinned && el('span', { className: 'card-chip', textContent: t('explaining') }),
        el('h3', { textContent: product.title }),
        stockLine(product, stock),
        el('span', { className: 'card-row' }, el('span', { className: 'price', textContent: money(product.price) }), buy),
      ),
    );
  }

  #known(id) {
    return this.#room.state.shelf.find((product) => product.id === id);
  }

  /** Buying is possible only while what is shown is true and something is left. */
  #paintAbility() {
    const { shelf, pinned, stock } = this.#room.state;
    const live = this.#room.status === 'live';
    if (pinned) part('card-buy').disabled = !live || availableOf(pinned.product, stock) === 0;
    const items = part('shelf').children;
    for (const [place, product] of shelf.entries()) {
      const buy = items[place]?.querySelector('button');
      if (buy) buy.disabled = !live || availableOf(product, stock) === 0;
    }
  }

  // On a phone the shelf is a drawer; on a wide screen it is always there.

  #wireDrawer() {
    const opener = part('shelf-open');
    const set = (open) => {
      byId('shelf').classList.toggle('open', open);
      byId('scrim').hidden = !open;
      opener.setAttribute('aria-expanded', open);
      (open ? byId('shelf-close') : opener).focus({ preventScroll: true });
    };
    opener.addEventListener('click', () => set(!byId('shelf').classList.contains('open')));
    byId('shelf-close').addEventListener('click', () => set(false));
    byId('scrim').addEventListener('click', () => set(false));
    addEventListener('keydown', (event) => {
      const isOpen = byId('shelf').classList.contains('open') && !document.querySelector('dialog[open]');
      if (event.key === 'Escape' && isOpen) set(false);
    });
  }
}

/** One SKU: its number. Several: each with its name. */
function stockLine(product, stock) {
  if (product.skus.length === 1) return stockOf(product.skus[0].id, stock[product.skus[0].id]);
  const names = product.skus.map(({ id, title }) => {
    return el('span', { className: 'sku' }, el('span', { textContent: `${title} ` }), stockOf(id, stock[id]));
  });
  return el('span', { className: 'skus' }, ...names);
}
