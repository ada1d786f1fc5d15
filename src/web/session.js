// Where a page's token comes from: the link, this tab's memory, or the demo server.

const REPLACED_AT_MOST_EVERY_MS = 10_000;

/** The room that a page's address names: `/watch/{room}`. */
export function roomOfPage() {
  return decodeURIComponent(location.pathname.split('/')[2] ?? '');
}

/**
 * The tokens of one page.
 * A link carries its token in the fragment, which never reaches a server or a log; it is removed at once.
 */
export class Session {
  /** `link`, `tab` or `demo`; null when there is none. */
  source = null;
  token = null;
  #room;
  #role;

  constructor({ room, role }) {
    this.#room = room;
    this.#role = role;
  }

  /** Finds a token. False: this person needs a link from the shop. */
  async find() {
    // A link opened in a page that is here already changes only the fragment.
    addEventListener('hashchange', () => location.reload());
    this.#use('link', takeFragmentToken());
    if (!this.token) this.#use('tab', usable(recall(sessionStorageOf(), this.#slot)));
    if (!this.token) this.#use('demo', await this.#askDemo());
    return this.token !== null;
  }

  /** A new token for one that is ending; null when only the shop can give one. */
  async renew() {
    const token = await this.#askDemo();
    if (token) this.#use('demo', token);
    return token;
  }

  /** Whether another token may be had for one that was refused: a kept one may be of a demo that has ended since. */
  get isReplaceable() {
    const hasLived = performance.now() > REPLACED_AT_MOST_EVERY_MS;
    return this.source === 'tab' || (this.source === 'demo' && hasLived);
  }

  /** Forgets a token that the server refused. */
  forget() {
    remember(sessionStorageOf(), this.#slot, null);
  }

  /** What the token says about its bearer. Only to decide what to show: the server decides what is allowed. */
  get claims() {
    return claimsOf(this.token) ?? {};
  }

  get #slot() {
    return `maishou.token.${this.#role}.${this.#room}`;
  }

  #use(source, token) {
    if (!token) return;
    this.source = source;
    this.token = token;
    remember(sessionStorageOf(), this.#slot, token);
  }

  async #askDemo() {
    try {
      const response = await fetch('/v1/dev/token', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ room: this.#room, role: this.#role, user: thisUser() }),
      });
      return response.ok ? (await response.json()).token : null;
    } catch {
      return null;
    }
  }
}

function takeFragmentToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get('token');
  if (token) history.replaceState(null, '', location.pathname + location.search);
  return token;
}

function claimsOf(token) {
  try {
    const body = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

/** The token, unless it has ended. */
function usable(token) {
  const ends = claimsOf(token)?.exp;
  return ends && ends * 1000 > Date.now() ? token : null;
}

function thisUser() {
  const slot = 'maishou.user';
  const known = recall(localStorageOf(), slot);
  if (known) return known;
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  const made = `guest-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
  remember(localStorageOf(), slot, made);
  return made;
}

// A frame with its storage blocked throws on the mere look at it: then nothing is remembered.

function sessionStorageOf() {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
}

function localStorageOf() {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

function recall(storage, slot) {
  return storage?.getItem(slot) ?? null;
}

function remember(storage, slot, value) {
  if (value === null) return storage?.removeItem(slot);
  try {
    storage?.setItem(slot, value);
  } catch {
    // Full or forbidden: the page still has it in memory.
  }
}
