// A room's state as a fold of its log. Pure: no socket, no clock, no DOM.

import { explain, reprice, shelve } from './run-sheet.js';

/** How many comments a page keeps; older ones are forgotten. */
export const COMMENTS_MAX = 100;

/** The state of a room that nothing has been heard from. */
export function emptyState() {
  return {
    room: null,
    epoch: null,
    seq: 0,
    show: { running: false, started_at: null, title: '' },
    shelf: [],
    stock: {},
    pinned: null,
    pinned_comment: null,
    explained: [],
    planned_seconds: {},
    drops: [],
    media: { live: false, tracks: [] },
    slow_mode: 0,
    tally: { viewers: 0, likes: 0 },
    comments: [],
    /** Comments that the room said it left out since this page came. */
    left_out: 0,
    /** Sales that it left out; the counts of stock have them. */
    sales_left_out: 0,
  };
}

/** The state that a snapshot describes. It replaces everything and sets the cursor. */
export function fromSnapshot(snapshot) {
  const state = { ...emptyState(), ...snapshot };
  state.shelf = (snapshot.shelf ?? []).filter((product) => product && product.id);
  state.comments = (snapshot.comments ?? []).slice(-COMMENTS_MAX);
  for (const key of ['show', 'media', 'tally']) state[key] = { ...emptyState()[key], ...snapshot[key] };
  state.stock = { ...snapshot.stock };
  state.explained = snapshot.explained ?? [];
  state.planned_seconds = { ...snapshot.planned_seconds };
  return state;
}

/**
 * Applies one frame by the frame rule.
 * @returns {{gap: boolean, events: object[], changed: Set<string>, skus: Set<string>}}
 *   `gap`: something was missed, join again. `events`: those that were news, in order.
 *   `changed`: the parts of the state that differ now. `skus`: the SKUs whose stock differs.
 */
export function applyFrame(state, frame) {
  const news = { gap: false, events: [], changed: new Set(), skus: new Set() };
  if (frame.seq !== undefined && state.seq < (frame.prev ?? frame.seq)) {
    news.gap = true;
    return news;
  }
  if (frame.tally) foldTally(state, frame.tally, news);
  if (frame.seq === undefined || state.seq >= frame.seq) return news;

  for (const event of frame.events ?? []) {
    if (event.seq > state.seq) applyEvent(state, event, news);
  }
  if (frame.left_out > 0) {
    state.left_out += frame.left_out;
    news.changed.add('left_out');
  }
  if (frame.sales_left_out > 0) {
    state.sales_left_out += frame.sales_left_out;
    news.changed.add('sales_left_out');
  }
  state.seq = frame.seq;
  return news;
}

/** Takes in the author's own comment from the answer to her command, ahead of its frame. */
export function applyOwnComment(state, event) {
  const news = { gap: false, events: [], changed: new Set(), skus: new Set() };
  if (event.seq > state.seq) applyEvent(state, event, news);
  return news;
}

function applyEvent(state, event, news) {
  const fold = Object.hasOwn(folds, event.type) ? folds[event.type] : null;
  if (fold && fold(state, event, news) === 'known') return;
  news.events.push(event);
}

function foldTally(state, tally, news) {
  state.tally = { ...state.tally, ...tally };
  news.changed.add('tally');
}

const folds = {
  'show.started'(state, event, news) {
    const started_at = event.started_at ?? event.at;
    state.show = { ...state.show, running: true, started_at, title: event.title ?? state.show.title };
    state.explained = state.pinned ? explain([], state.pinned.product, event.at) : [];
    news.changed.add('show').add('explained');
  },

  'show.ended'(state, _event, news) {
    state.show = { ...state.show, running: false };
    news.changed.add('show');
  },

  'card.pinned'(state, event, news) {
    const { product, explain_until = null, media = null } = event;
    state.pinned = { product, explain_until, media };
    // The card carries the whole product, which may be newer than the shelf's.
    state.shelf = state.shelf.map((known) => (known.id === product.id ? product : known));
    state.explained = explain(state.explained, product, event.at);
    news.changed.add('pinned').add('shelf').add('explained');
  },

  'card.unpinned'(state, _event, news) {
    state.pinned = null;
    news.changed.add('pinned');
  },

  shelf(state, event, news) {
    const known = new Map([...state.shelf, ...(event.items ?? [])].map((product) => [product.id, product]));
    const before = state.shelf;
    state.shelf = event.products.map((id) => known.get(id)).filter(Boolean);
    const card = state.shelf.find(({ id }) => id === state.pinned?.product.id);
    if (card) state.pinned = { ...state.pinned, product: card };
    state.explained = reprice(shelve(state.explained, before, state.shelf), state.pinned);
    state.planned_seconds = event.planned_seconds ?? {};
    news.changed.add('shelf').add('pinned').add('explained').add('planned_seconds');
  },

  price(state, event, news) {
    const repriced = (product) => (product.id === event.product ? { ...product, price: event.price } : product);
    state.shelf = state.shelf.map(repriced);
    if (state.pinned) state.pinned = { ...state.pinned, product: repriced(state.pinned.product) };
    state.explained = reprice(state.explained, state.pinned);
    news.changed.add('shelf').add('pinned').add('explained');
  },

  stock(state, event, news) {
    const { sku, available, held, sold, entry } = event;
    // A snapshot takes stock from the ledger and may be ahead of the log.
    if (entry < (state.stock[sku]?.entry ?? 0)) return;
    state.stock[sku] = { available, held, sold, entry };
    news.changed.add('stock');
    news.skus.add(sku);
  },

  'comment.pinned'(state, event, news) {
    state.pinned_comment = event.comment ?? null;
    news.changed.add('pinned_comment');
  },

  'comment.deleted'(state, event, news) {
    state.comments = state.comments.filter((comment) => comment.seq !== event.comment);
    if (state.pinned_comment?.comment === event.comment) {
      state.pinned_comment = null;
      news.changed.add('pinned_comment');
    }
    news.changed.add('comments');
  },

  slow_mode(state, event, news) {
    state.slow_mode = event.seconds ?? 0;
    news.changed.add('slow_mode');
  },

  media(state, event, news) {
    state.media = { live: Boolean(event.live), tracks: event.tracks ?? [] };
    news.changed.add('media');
  },

  comment(state, event, news) {
    const place = state.comments.findLastIndex((comment) => comment.seq <= event.seq);
    if (state.comments[place]?.seq === event.seq) return 'known';
    state.comments.splice(place + 1, 0, event);
    if (state.comments.length > COMMENTS_MAX) state.comments.shift();
    news.changed.add('comments');
  },
};
