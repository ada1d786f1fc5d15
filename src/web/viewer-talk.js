// What people say and like: comments over the picture, hearts, who bought what.

import { count, el, part, setText } from './format.js';
import { explain, t } from './words.js';

const byId = (id) => document.getElementById(id);

const SHOWN_MAX = 60;
const HEARTS_MAX = 24;
const HEARTS_PER_TALLY_MAX = 4;
const TOAST_MS = 3_000;
const NOTE_MS = 4_000;
const LEFT_OUT_MS = 6_000;

export class Talk {
  #room;
  #list = part('comments');
  #input = part('comment-input');
  #likesShown = null;
  #toastTimer = null;
  #noteTimer = null;
  #leftOutSeen = 0;
  #leftOutTimer = null;
  #salesLeftOutSeen = 0;
  #isAtEnd = true;

  constructor(room) {
    this.#room = room;
    const list = this.#list;
    list.addEventListener('scroll', () => {
      this.#isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 48;
    });
    // What comes up under the list makes it lower: who reads the newest comments goes on reading them.
    new ResizeObserver(() => this.#followEnd()).observe(list);
    room.addEventListener('change', ({ detail }) => this.#paint(detail.changed));
    room.addEventListener('event', ({ detail }) => this.#take(detail));
    byId('comment-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send();
    });
    part('like').addEventListener('click', () => this.#like());
  }

  #paint(changed) {
    const { state } = this.#room;
    if (changed.has('comments')) this.#paintComments(state.comments.slice(-SHOWN_MAX));
    if (changed.has('pinned_comment')) this.#paintPinned(state.pinned_comment);
    if (changed.has('slow_mode')) this.#paintSlowMode(state.slow_mode);
    if (changed.has('left_out')) this.#noteLeftOut(state.left_out);
    if (changed.has('tally')) this.#floatOthers(state.tally.likes);
  }

  #take(event) {
    if (event.type === 'sold') this.#toastSold(event);
    if (event.type === 'mute' && event.who === this.#room.me?.who) this.#noteMute(event);
  }

  // Comments

  #paintComments(comments) {
    const shown = new Map([...this.#list.children].map((item) => [item.dataset.seq, item]));
    const wanted = comments.map((comment) => shown.get(String(comment.seq)) ?? commentItem(comment, this.#room.me));
    const kept = new Set(wanted);
    for (const item of shown.values()) if (!kept.has(item)) item.remove();
    for (const [place, item] of wanted.entries()) {
      if (this.#list.children[place] !== item) this.#list.insertBefore(item, this.#list.children[place] ?? null);
    }
    this.#followEnd();
  }

  #followEnd() {
    if (this.#isAtEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }

  /** More is said than anybody could read: how much is not shown, while it goes on. */
  #noteLeftOut(leftOut) {
    const note = part('left-out');
    // A snapshot counts anew.
    this.#leftOutSeen = Math.min(this.#leftOutSeen, leftOut);
    setText(note, t('left_out', { n: count(leftOut - this.#leftOutSeen) }));
    note.hidden = leftOut <= this.#leftOutSeen;
    clearTimeout(this.#leftOutTimer);
    this.#leftOutTimer = setTimeout(() => {
      this.#leftOutSeen = leftOut;
      note.hidden = true;
    }, LEFT_OUT_MS);
  }

  #paintPinned(comment) {
    byId('pinned-comment').hidden = !comment;
    if (!comment) return;
    setText(byId('pinned-name'), comment.name);
    setText(byId('pinned-text'), comment.text);
  }

  async #send() {
    const text = this.#input.value.trim();
    if (!text) return;
    this.#input.value = '';
    try {
      await this.#room.comment(text);
      this.#list.scrollTop = this.#list.scrollHeight;
    } catch (error) {
      // What was typed is not lost.
      this.#input.value ||= text;
      this.#note(explain(error));
    }
  }

  #paintSlowMode(seconds) {
    this.#input.placeholder = seconds > 0 ? t('slow_mode', { n: seconds }) : t('say');
  }

  #noteMute({ until }) {
    const isMuted = until !== null && until !== undefined && until > this.#room.now();
    if (isMuted) this.#note(t('muted_until', { time: new Date(until).toLocaleTimeString([], { timeStyle: 'short' }) }));
  }

  #note(text) {
    const note = byId('bar-note');
    setText(note, text);
    note.hidden = false;
    clearTimeout(this.#noteTimer);
    this.#noteTimer = setTimeout(() => (note.hidden = true), NOTE_MS);
  }

  // Likes

  #like() {
    this.#room.like();
    floatHeart(true);
  }

  #floatOthers(likes) {
    const before = this.#likesShown ?? likes;
    this.#likesShown = likes;
    const hearts = Math.min(likes - before, HEARTS_PER_TALLY_MAX);
    for (let made = 0; made < hearts; made += 1) setTimeout(floatHeart, made * 120);
  }

  // Who bought what

  #toastSold({ sku, quantity, buyer }) {
    const product = this.#room.state.shelf.find((candidate) => candidate.skus.some(({ id }) => id === sku));
    if (!product) return;
    const toast = byId('sold');
    const sale = t('sold_toast', { buyer: buyer || t('someone'), n: quantity, title: product.title });
    const more = this.#moreSales();
    setText(toast, more > 0 ? t('sold_more', { sale, n: count(more) }) : sale);
    toast.hidden = false;
    clearTimeout(this.#toastTimer);
    this.#toastTimer = setTimeout(() => (toast.hidden = true), TOAST_MS);
  }

  /** Sales that nobody could read, since the last one that was shown. */
  #moreSales() {
    const leftOut = this.#room.state.sales_left_out;
    // A snapshot counts anew.
    const more = leftOut - Math.min(this.#salesLeftOutSeen, leftOut);
    this.#salesLeftOutSeen = leftOut;
    return more;
  }
}

function commentItem(comment, me) {
  const isTeam = comment.role !== 'viewer';
  const classes = ['comment', isTeam && 'team', comment.who === me?.who && 'own'].filter(Boolean);
  return el(
    'li',
    { className: classes.join(' '), data: { test: 'comment', seq: comment.seq } },
    isTeam && el('span', { className: 'role', textContent: t(comment.role) }),
    el('b', { textContent: comment.name }),
    ' ',
    el('span', { textContent: comment.text }),
  );
}

function floatHeart(isOwn) {
  const field = byId('hearts');
  if (field.childElementCount >= HEARTS_MAX || matchMedia('(prefers-reduced-motion: reduce)').matches) return;
  const heart = part('like').querySelector('svg').cloneNode(true);
  heart.classList.toggle('own', isOwn === true);
  heart.style.setProperty('--drift', `${Math.round(Math.random() * 64 - 32)}px`);
  heart.style.setProperty('--turn', `${Math.round(Math.random() * 40 - 20)}deg`);
  heart.addEventListener('animationend', () => heart.remove());
  field.append(heart);
}
