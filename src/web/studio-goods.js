// The shelf as the anchor works with it: pin, explain against the clock, and stock that she can trust.

import { clock, count, el, money, part, picture, setText } from './format.js';
import { newKey } from './maishou.js';
import { showNotice } from './notice.js';
import { explain, t } from './words.js';

const byId = (id) => document.getElementById(id);

/** The anchor is warned so long before the time for a product is over. */
const WARN_MS = 20_000;

export class DeskGoods {
  #room;
  #mayAdjust;
  #pinnedAt = 0;
  #soldBefore = null;
  #adjusting = null;

  /** `claims` only decide which buttons are offered; the server decides what is allowed. */
  constructor(room, claims) {
    this.#room = room;
    this.#mayAdjust = mayAdjustStock(claims);
    room.addEventListener('change', ({ detail }) => this.#paint(detail));
    setInterval(() => this.#paintExplain(), 250);
    this.#wireStockDialog();
  }

  #paint({ changed, skus }) {
    if (changed.has('shelf') || changed.has('pinned')) this.#paintShelf();
    if (changed.has('pinned')) this.#pinnedAt = this.#room.now();
    if (changed.has('pinned') || changed.has('shelf')) this.#paintExplain();
    if (changed.has('stock')) for (const sku of skus) this.#paintStock(sku);
    if (changed.has('stock') || changed.has('show')) this.#paintSold();
  }

  #paintShelf() {
    const { shelf, pinned } = this.#room.state;
    const items = shelf.map((product, place) => this.#item(product, place, product.id === pinned?.product.id));
    part('shelf').replaceChildren(...items);
    byId('shelf-empty').hidden = shelf.length > 0;
  }

  #item(product, place, isPinned) {
    const frame = picture(product);
    frame.append(el('span', { className: 'place', textContent: place + 1 }));
    const pin = el('button', {
      className: 'button line small',
      data: { test: isPinned ? 'unpin' : 'pin' },
      textContent: t(isPinned ? 'studio_unpin' : 'studio_pin'),
    });
    pin.addEventListener('click', () => this.#pin(isPinned ? null : product.id, pin));
    return el(
      'li',
      { className: isPinned ? 'desk-item pinned' : 'desk-item', data: { test: 'shelf-item', product: product.id } },
      frame,
      el(
        'div',
        { className: 'desk-item-text' },
        el('h3', { textContent: product.title }),
        el('span', { className: 'price', textContent: money(product.price) }),
      ),
      pin,
      el('ul', { className: 'sku-rows' }, ...product.skus.map((sku) => this.#skuRow(sku, product))),
    );
  }

  #skuRow(sku, product) {
    const { available = 0, held = 0, sold = 0 } = this.#room.state.stock[sku.id] ?? {};
    const figure = (name, value, data = {}) => {
      return el('span', { className: `figure ${name}` }, el('b', { textContent: value, data }), ` ${t(`studio_${name}`)}`);
    };
    const adjust = el('button', { className: 'button quiet small', data: { test: 'adjust' }, textContent: '+ / −' });
    adjust.setAttribute('aria-label', `${t('studio_change')}: ${product.title} ${sku.title}`);
    adjust.addEventListener('click', () => this.#openStockDialog(sku, product));
    return el(
      'li',
      { data: { skuRow: sku.id }, className: available === 0 ? 'gone' : '' },
      el('span', { className: 'sku-title', textContent: sku.title }),
      figure('available', available, { test: 'stock', stock: sku.id }),
      figure('held', held),
      figure('sold_count', sold),
      this.#mayAdjust && adjust,
    );
  }

  #paintStock(sku) {
    const { available, held, sold } = this.#room.state.stock[sku];
    for (const row of document.querySelectorAll(`[data-sku-row="${CSS.escape(sku)}"]`)) {
      const [a, h, s] = row.querySelectorAll('b');
      setText(a, String(available));
      setText(h, String(held));
      setText(s, String(sold));
      row.classList.toggle('gone', available === 0);
    }
  }

  /** Pieces sold since this show began, from the counts of the ledger. */
  #paintSold() {
    const { show, stock } = this.#room.state;
    const sold = Object.values(stock).reduce((sum, entry) => sum + entry.sold, 0);
    const slot = `maishou.sold.${this.#room.id}.${show.started_at}`;
    if (this.#soldBefore?.slot !== slot) this.#soldBefore = { slot, sold: rememberedBase(slot, sold) };
    setText(part('sold'), count(Math.max(0, sold - this.#soldBefore.sold)));
  }

  // Pinning and explaining

  async #pin(product, button) {
    button.disabled = true;
    const seconds = Number(byId('explain-minutes').value) || undefined;
    try {
      await (product ? this.#room.pin(product, seconds) : this.#room.unpin());
    } catch (error) {
      showNotice(explain(error));
    } finally {
      button.disabled = false;
    }
  }

  #paintExplain() {
    const { pinned } = this.#room.state;
    const timer = part('explain');
    const until = pinned?.explain_until;
    const left = until ? until - this.#room.now() : null;
    timer.dataset.state = explainState(pinned, left);
    setText(byId('explain-title'), pinned ? pinned.product.title : t('studio_nothing_pinned'));
    setText(byId('explain-time'), explainWords(left));
    const whole = until ? Math.max(1, until - this.#pinnedAt) : 1;
    byId('explain-bar').style.setProperty('--part', left === null ? 0 : Math.max(0, Math.min(1, left / whole)));
  }

  // Changing stock

  #wireStockDialog() {
    byId('stock-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#changeStock();
    });
    byId('stock-cancel').addEventListener('click', () => byId('stock-dialog').close());
  }

  #openStockDialog(sku, product) {
    this.#adjusting = { sku: sku.id, key: newKey() };
    const { available = 0, held = 0, sold = 0 } = this.#room.state.stock[sku.id] ?? {};
    setText(byId('stock-head'), `${product.title} · ${sku.title}`);
    setText(byId('stock-now'), t('studio_stock_now', { available, held, sold }));
    byId('stock-form').reset();
    part('stock-error').hidden = true;
    byId('stock-dialog').showModal();
  }

  async #changeStock() {
    const { sku, key } = this.#adjusting;
    const delta = Number.parseInt(part('stock-delta').value.replace('−', '-'), 10);
    part('stock-save').disabled = true;
    try {
      await this.#room.adjustStock(sku, delta, part('stock-reason').value.trim(), key);
      byId('stock-dialog').close();
    } catch (error) {
      setText(part('stock-error'), explain(error));
      part('stock-error').hidden = false;
      // Unless nobody knows what became of it, another try is another change.
      if (!error.unanswered) this.#adjusting.key = newKey();
    } finally {
      part('stock-save').disabled = false;
    }
  }
}

function mayAdjustStock({ role, can }) {
  if (role === 'assistant') return !can || can.includes('stock');
  return role === 'merchant' || role === 'admin';
}

/** What had been sold when this show was first seen; kept so that a reload goes on counting. */
function rememberedBase(slot, sold) {
  try {
    const known = sessionStorage.getItem(slot);
    if (known !== null) return Number(known);
    sessionStorage.setItem(slot, String(sold));
  } catch {
    // Without storage the count starts at this page.
  }
  return sold;
}

function explainState(pinned, left) {
  if (!pinned) return 'none';
  if (left === null) return 'open';
  if (left <= 0) return 'over';
  return left <= WARN_MS ? 'ending' : 'running';
}

function explainWords(left) {
  if (left === null) return '';
  return left > 0 ? clock(left) : t('studio_over', { time: clock(-left) });
}
