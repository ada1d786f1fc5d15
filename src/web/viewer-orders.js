// This person's own holds and orders, from answers, private messages and the list on the server.

import { clock, el, money, part, setText } from './format.js';
import { t } from './words.js';

const byId = (id) => document.getElementById(id);

const SHOWN_MAX = 50;
const PAGE = 200;
const PAGES_MAX = 5;

/** `change` is dispatched when any of them changed. */
export class Orders extends EventTarget {
  #room;
  #openHold;
  #entries = new Map();
  #dialog = byId('orders-sheet');

  /** `openHold(hold)` is called when somebody wants to pay for one. */
  constructor(room, openHold) {
    super();
    this.#room = room;
    this.#openHold = openHold;
    room.addEventListener('private', ({ detail }) => this.#takeMessage(detail));
    part('orders-open').addEventListener('click', () => this.#open());
    byId('orders-close').addEventListener('click', () => this.#dialog.close());
    this.#dialog.addEventListener('click', (event) => event.target === this.#dialog && this.#dialog.close());
    byId('held-pill').addEventListener('click', () => this.#openHold(this.#nextHold()));
    setInterval(() => this.#paintHeld(), 500);
  }

  /** Asks for what was ordered before this page was opened. */
  async load() {
    const [messages, orders] = await Promise.allSettled([this.#room.messages(), this.#allOrders()]);
    for (const message of messages.value ?? []) this.#fold(message);
    for (const order of orders.value ?? []) this.#keep(order);
    this.#changed();
  }

  /** The list begins with the newest. */
  async #allOrders() {
    const orders = [];
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const next = await this.#room.orders({ after: orders.at(-1)?.id, limit: PAGE });
      orders.push(...next);
      if (next.length < PAGE) break;
    }
    return orders;
  }

  get(id) {
    return this.#entries.get(id);
  }

  takeHold(hold) {
    this.#keep({ ...hold, state: hold.state ?? 'held' });
    this.#changed();
  }

  takeOrder(order) {
    this.#keep(order);
    this.#changed();
  }

  /** One line as people say it: `2 × Silk scarf · Red`. */
  lineWords({ sku, product, title, quantity }) {
    const known = this.#room.state.shelf.find(({ id }) => id === product);
    const style = known?.skus.length > 1 ? known.skus.find(({ id }) => id === sku)?.title : null;
    const name = title ?? known?.title ?? product ?? sku;
    return `${quantity} × ${style ? `${name} · ${style}` : name}`;
  }

  #takeMessage(message) {
    this.#fold(message);
    this.#changed();
  }

  #fold({ hold, order, at }) {
    if (hold) this.#keep({ at, ...hold });
    // What a merchant is told of other people's orders names the buyer.
    if (order && !order.buyer) this.#keep(order);
  }

  /** An order is the end of its hold and has the same id; a late message about the hold changes nothing. */
  #keep(entry) {
    const known = this.#entries.get(entry.id);
    const isOrder = (state) => ['paid', 'refund_due', 'refunded'].includes(state);
    if (known && isOrder(known.state) && !isOrder(entry.state)) return;
    const state = entry.state === 'confirmed' ? 'paid' : entry.state;
    this.#entries.set(entry.id, { ...known, ...entry, state });
  }

  #changed() {
    this.#paintList();
    this.#paintHeld();
    this.dispatchEvent(new Event('change'));
  }

  #open() {
    this.#paintList();
    this.#dialog.showModal();
  }

  /** The open hold that ends first. */
  #nextHold() {
    const now = this.#room.now();
    return [...this.#entries.values()]
      .filter(({ state, expires_at }) => state === 'held' && expires_at > now)
      .sort((a, b) => a.expires_at - b.expires_at)[0];
  }

  #paintHeld() {
    const hold = this.#nextHold();
    const pill = byId('held-pill');
    pill.hidden = !hold;
    if (hold) setText(pill, `${t('reserved')} · ${clock(hold.expires_at - this.#room.now())}`);
    const badge = byId('orders-count');
    badge.hidden = this.#entries.size === 0;
    setText(badge, String(Math.min(this.#entries.size, SHOWN_MAX)));
  }

  #paintList() {
    // Ids are UUIDv7: their order is the order of time.
    const newest = [...this.#entries.values()].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, SHOWN_MAX);
    part('orders').replaceChildren(...newest.map((entry) => this.#item(entry)));
    byId('orders-empty').hidden = newest.length > 0;
  }

  #item(entry) {
    const pay = entry.state === 'held' && el('button', { className: 'button small', textContent: t('pay', { total: '' }) });
    if (pay) pay.addEventListener('click', () => this.#payFor(entry));
    return el(
      'li',
      { className: 'order', data: { test: 'order', state: entry.state, id: entry.id } },
      el('ul', { className: 'lines' }, ...entry.lines.map((line) => el('li', { textContent: this.lineWords(line) }))),
      el(
        'div',
        { className: 'row' },
        el('span', { className: `state ${entry.state}`, textContent: t(`state_${entry.state}`) }),
        el('span', { className: 'hint', textContent: timeOf(entry) }),
        refundedInPart(entry),
        el('span', { className: 'price', textContent: money(entry.total) }),
        pay,
      ),
    );
  }

  #payFor(hold) {
    this.#dialog.close();
    this.#openHold(hold);
  }
}

function refundedInPart({ state, refunded_total: refunded }) {
  if (!refunded || state === 'refunded') return null;
  return el('span', { className: 'hint', data: { test: 'order-refunded' }, textContent: `${t('state_refunded')} ${money(refunded)}` });
}

function timeOf({ at }) {
  return at ? new Date(at).toLocaleTimeString([], { timeStyle: 'short' }) : '';
}
