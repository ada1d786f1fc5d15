// The order sheet: choose, reserve, pay.
// One key makes one hold: it is kept until what is asked for changes, so a double tap or a repeat buys once.

import { clock, el, money, part, picture, setText } from './format.js';
import { newKey } from './maishou.js';
import { stockOf } from './stock.js';
import { explain, t } from './words.js';

const byId = (id) => document.getElementById(id);

/** The most that can be typed when the product names no limit. */
const QUANTITY_MAX = 99;

export class Sheet {
  #room;
  #orders;
  #dialog = part('sheet');
  #product = null;
  #sku = null;
  #hold = null;
  #ask = { body: '', key: '' };
  #busy = false;

  constructor(room, orders) {
    this.#room = room;
    this.#orders = orders;
    this.#wire();
    room.addEventListener('change', ({ detail }) => this.#follow(detail.changed));
    room.addEventListener('status', () => this.#paintAbility());
    orders.addEventListener('change', () => this.#followHold());
    setInterval(() => this.#paintCountdown(), 250);
  }

  /** Opens at the choice of a SKU and a quantity. */
  open(product) {
    if (this.#dialog.open) return;
    const { stock } = this.#room.state;
    this.#product = product;
    this.#hold = null;
    this.#ask = { body: '', key: '' };
    this.#sku = (product.skus.find(({ id }) => stock[id]?.available > 0) ?? product.skus[0])?.id;
    part('sheet-quantity').value = '1';
    this.#paintProduct();
    this.#paintSkus();
    this.#show('choose', t('buy'));
    this.#dialog.showModal();
  }

  /** Opens at a hold that is still to be paid. */
  openHold(hold) {
    const { product } = hold.lines[0];
    this.#product = this.#room.state.shelf.find(({ id }) => id === product) ?? null;
    this.#paintProduct();
    this.#enterHold(hold);
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  #wire() {
    part('sheet-buy').addEventListener('click', () => this.#reserve());
    part('sheet-pay').addEventListener('click', () => this.#pay());
    part('sheet-cancel').addEventListener('click', () => this.#giveBack());
    part('sheet-quantity').addEventListener('input', () => this.#paintTotal());
    part('sheet-quantity').addEventListener('change', () => this.#setQuantity(this.#quantity));
    byId('fewer').addEventListener('click', () => this.#setQuantity(this.#quantity - 1));
    byId('more').addEventListener('click', () => this.#setQuantity(this.#quantity + 1));
    for (const id of ['sheet-close', 'done']) byId(id).addEventListener('click', () => this.#dialog.close());
    this.#dialog.addEventListener('click', (event) => event.target === this.#dialog && this.#dialog.close());
  }

  // Choosing

  get #quantity() {
    const typed = Number.parseInt(part('sheet-quantity').value, 10);
    return Number.isFinite(typed) && typed > 0 ? typed : 1;
  }

  #setQuantity(wanted) {
    const left = this.#room.state.stock[this.#sku]?.available ?? 1;
    const most = Math.min(this.#product?.limit_per_order ?? QUANTITY_MAX, Math.max(left, 1));
    part('sheet-quantity').value = String(Math.max(1, Math.min(wanted, most)));
    this.#paintTotal();
  }

  #paintProduct() {
    const product = this.#product;
    byId('sheet-picture').replaceChildren(picture(product ?? {}));
    setText(byId('sheet-title'), product?.title ?? '');
    setText(byId('sheet-price'), product ? money(product.price) : '');
    setText(byId('sheet-limit'), product ? limitWords(product) : '');
    this.#paintTotal();
  }

  #paintSkus() {
    const { skus } = this.#product;
    const { stock } = this.#room.state;
    const options = skus.map(({ id, title }) => {
      const input = el('input', { type: 'radio', name: 'sku', value: id, checked: id === this.#sku });
      input.addEventListener('change', () => this.#choose(id));
      return el('label', {}, input, el('span', { textContent: title || t('choose') }), stockOf(id, stock[id]));
    });
    const field = byId('sheet-skus');
    field.replaceChildren(field.firstElementChild, ...options);
    this.#choose(this.#sku);
  }

  #choose(sku) {
    this.#sku = sku;
    this.#setQuantity(this.#quantity);
    this.#paintAbility();
  }

  #paintTotal() {
    if (!this.#product) return;
    const { amount, currency } = this.#product.price;
    setText(byId('sheet-total'), money({ amount: amount * this.#quantity, currency }));
  }

  #paintAbility() {
    const live = this.#room.status === 'live';
    const left = this.#room.state.stock[this.#sku]?.available ?? 0;
    part('sheet-buy').disabled = this.#busy || !live || left === 0;
    part('sheet-pay').disabled = this.#busy || !live;
    part('sheet-cancel').disabled = this.#busy || !live;
  }

  /** A price or a stock count may change while the sheet is open. */
  #follow(changed) {
    if (!this.#dialog.open || this.#hold || !this.#product) return;
    const { shelf, pinned } = this.#room.state;
    const { id } = this.#product;
    const known = shelf.find((product) => product.id === id) ?? (pinned?.product.id === id ? pinned.product : null);
    if (known && (changed.has('shelf') || changed.has('pinned'))) {
      this.#product = known;
      this.#paintProduct();
    }
    if (changed.has('stock')) this.#paintAbility();
  }

  // Reserving

  async #reserve() {
    if (this.#busy) return;
    const lines = [{ sku: this.#sku, quantity: this.#quantity, price: this.#product.price }];
    const key = this.#keyFor(lines);
    this.#working(part('sheet-buy'), t('reserving'));
    try {
      const hold = await this.#room.hold(lines, { key });
      this.#orders.takeHold(hold);
      this.#enterHold(hold);
    } catch (error) {
      this.#complain('sheet-error', error);
    } finally {
      this.#rest(part('sheet-buy'), t('reserve'));
    }
  }

  #keyFor(lines) {
    const body = JSON.stringify(lines);
    if (this.#ask.body !== body) this.#ask = { body, key: newKey() };
    return this.#ask.key;
  }

  #enterHold(hold) {
    this.#hold = hold;
    const lines = hold.lines.map((line) => el('li', { textContent: this.#orders.lineWords(line) }));
    byId('sheet-lines').replaceChildren(...lines);
    setText(part('sheet-pay'), t('pay', { total: money(hold.total) }));
    this.#show('held', t('reserved'));
    this.#paintCountdown();
    this.#paintAbility();
  }

  #paintCountdown() {
    if (!this.#hold || !this.#dialog.open) return;
    setText(part('sheet-countdown'), clock(this.#hold.expires_at - this.#room.now()));
  }

  /** The hold may end elsewhere: by time, by another tab, or paid at the shop. */
  #followHold() {
    const now = this.#hold && this.#orders.get(this.#hold.id);
    if (!now || this.#busy || byId('sheet-held').hidden) return;
    if (now.state === 'held') this.#hold = { ...this.#hold, expires_at: now.expires_at };
    else if (now.state === 'paid') this.#finish(now);
    else if (now.state === 'expired') this.#backToChoice({ code: 'hold_expired' });
    else this.#dialog.close();
  }

  // Paying

  async #pay() {
    if (this.#busy || !this.#hold) return;
    const words = t('pay', { total: money(this.#hold.total) });
    this.#working(part('sheet-pay'), t('paying'));
    try {
      const { order } = await this.#room.confirm(this.#hold.id);
      this.#orders.takeOrder(order ?? { ...this.#hold, state: 'paid' });
      this.#finish(order ?? this.#hold);
    } catch (error) {
      if (error.code === 'hold_expired') this.#backToChoice(error);
      else if (error.code === 'forbidden') this.#tellShopPays();
      else this.#complain('held-error', error);
    } finally {
      this.#rest(part('sheet-pay'), words);
    }
  }

  /** Here money is taken by the shop, and the server hears of it from there. */
  #tellShopPays() {
    const note = byId('held-error');
    setText(note, t('pay_at_shop'));
    note.classList.add('calm');
    note.hidden = false;
    part('sheet-pay').hidden = true;
  }

  #finish(order) {
    setText(byId('done-word'), order.state === 'refund_due' ? t('notice_refund_due') : t('paid'));
    setText(byId('done-more'), t('paid_more', { id: order.id.slice(-8) }));
    this.#show('done', '');
  }

  async #giveBack() {
    if (this.#busy || !this.#hold) return;
    this.#working(part('sheet-cancel'), t('give_back'));
    try {
      await this.#room.cancel(this.#hold.id);
      this.#orders.takeHold({ ...this.#hold, state: 'cancelled' });
      this.#dialog.close();
    } catch (error) {
      this.#complain('held-error', error);
    } finally {
      this.#rest(part('sheet-cancel'), t('give_back'));
    }
  }

  #backToChoice(error) {
    if (!this.#product) return this.#dialog.close();
    this.#hold = null;
    this.#ask = { body: '', key: '' };
    this.#show('choose', t('buy'));
    this.#complain('sheet-error', error);
  }

  // What is on the sheet

  #show(phase, title) {
    setText(byId('sheet-head'), title);
    for (const name of ['choose', 'held', 'done']) byId(`sheet-${name}`).hidden = name !== phase;
    for (const note of [part('sheet-error'), byId('held-error')]) note.hidden = true;
    byId('held-error').classList.remove('calm');
    part('sheet-pay').hidden = false;
    this.#dialog.dataset.phase = phase;
  }

  #complain(where, error) {
    const note = part(where) ?? byId(where);
    setText(note, explain(error));
    note.dataset.code = error.code;
    note.hidden = false;
  }

  #working(button, words) {
    this.#busy = true;
    setText(button, words);
    for (const note of [part('sheet-error'), byId('held-error')]) note.hidden = true;
    this.#paintAbility();
  }

  #rest(button, words) {
    this.#busy = false;
    setText(button, words);
    this.#paintAbility();
  }
}

function limitWords({ limit_per_order, limit_per_user }) {
  if (limit_per_user) return t('limit_user', { n: limit_per_user });
  return limit_per_order ? t('limit_order', { n: limit_per_order }) : '';
}
