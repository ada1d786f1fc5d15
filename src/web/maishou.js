// The browser SDK of Maishou: one class, `Room`. The pages themselves use nothing else.
//
//   import { Room } from 'https://live.example/maishou.js';
//   const room = new Room({ server: 'https://live.example', room: 'demo', token });
//   room.addEventListener('change', () => render(room.state));
//   room.watch(document.querySelector('video'));
//   await room.connect();

import { RoomError, errorOf, newKey } from '/assets/errors.js';
import { applyFrame, applyOwnComment, emptyState, fromSnapshot } from '/assets/fold.js';
import { Publisher } from '/assets/publish.js';
import { channelLink, isFinal, jitteredDelay, pause, socketLink } from '/assets/transport.js';
import { Watcher } from '/assets/watch.js';

export { RoomError, newKey };

const ANSWER_TIMEOUT_MS = 10_000;
const COMMANDS_WAITING_MAX = 64;
/** Nothing heard for so long: what is on the screen may be wrong. The server speaks every 10 s. */
const SILENCE_MAX_MS = 25_000;
const PING_EVERY_MS = 20_000;
/** After a resume the missed frames follow at once; a room where nothing happened sends none. */
const CAUGHT_UP_AFTER_MS = 800;
const LIKES_EVERY_MS = 300;
const LIKES_PER_COMMAND_MAX = 50;
/** Sockets that never opened, while the server answered, before the data channel is tried. */
const SOCKET_FAILURES_MAX = 2;
const PROBE_TIMEOUT_MS = 3_000;
const HOLD_PATIENCE_MS = 30_000;
/** Refusals of a join that coming back would not change, and the close codes that mean them. */
const FINAL_REFUSALS = { unauthorized: 3500, forbidden: 3500, kicked: 3501, limit_reached: 3503 };

/**
 * One live room, as one person sees it.
 *
 * Events (all `CustomEvent`):
 * - `change`: the state changed; `detail.changed` is a Set of its keys, `detail.skus` of SKUs with new stock
 * - `event`: one event of the room's log; `detail` is the event
 * - `private`: a message to this person alone; `detail` is the message
 * - `status`: the connection changed; `detail` is `{status, code, reason}`
 * - `video`: the picture's connection changed; `detail` is the Watcher or Publisher
 * - `blocked`: the browser plays only after a tap
 */
export class Room extends EventTarget {
  /** The folded state: `room, show, shelf, stock, pinned, pinned_comment, media, slow_mode, tally, comments`. */
  state = emptyState();
  /** `connecting`, `live`, `stale` (shown, but perhaps not true any more) or `closed` (for good). */
  status = 'connecting';
  /** `websocket` or `channel`: what the session runs over. */
  transport = 'websocket';
  /** Who this person is in the room: `{who, role, name}`, after the first join. */
  me = null;
  /** The Watcher of `watch()`, the Publisher of `publish()`. */
  watcher = null;
  publisher = null;

  #server;
  #room;
  #token;
  #renew;
  #link = null;
  #joined = false;
  #waiting = new Map();
  #nextId = 1;
  /** The number of the last private message; null before any is known, so that old ones are not news again. */
  #privateSeen = null;
  /** The newest that was heard of while missed ones are read; 0 when none are. */
  #privateNewest = 0;
  #clockOffset = 0;
  #likes = 0;
  #likeTimer = null;
  #silence = null;
  #pings = null;
  #socketFailures = 0;
  #running = null;
  #stop = new AbortController();
  #wait = null;

  /**
   * @param {object} options
   * @param {string} [options.server] origin of the server; the page's own when absent
   * @param {string} options.room
   * @param {string} options.token
   * @param {function(): Promise<string|null>} [options.renew] asked for a new token when this one is ending
   */
  constructor({ server = location.origin, room, token, renew = null }) {
    super();
    this.#server = server;
    this.#room = room;
    this.#token = token;
    this.#renew = renew;
  }

  /** The id of the room. */
  get id() {
    return this.#room;
  }

  /** The RTCPeerConnection in use, if any. */
  get pc() {
    return (this.publisher ?? this.watcher)?.pc ?? null;
  }

  /** The server's time now, in milliseconds: what countdowns are measured against. */
  now() {
    return Date.now() + this.#clockOffset;
  }

  /** Joins, and stays joined until `close()`. Resolves when the state is there, rejects when refused for good. */
  connect() {
    this.#running ??= this.#run();
    return new Promise((resolve, reject) => {
      const look = () => {
        if (this.status === 'connecting' || this.status === 'stale') return;
        this.removeEventListener('status', look);
        if (this.status === 'live') resolve(this);
        else reject(new RoomError('closed', 'the room is closed to this person'));
      };
      this.addEventListener('status', look);
      look();
    });
  }

  /** Leaves the room, its video and its broadcast. */
  close() {
    this.#stop.abort();
    this.#wait?.abort();
    this.watcher?.stop();
    this.publisher?.stop();
    this.#link?.close();
    this.#setStatus('closed', { code: 1000, reason: '' });
  }

  // What a viewer does

  /** Says something. Resolves with the comment, which is in `state.comments` by then. */
  async comment(text) {
    const { event } = await this.#command('comment', { text });
    if (event) this.#tell(applyOwnComment(this.state, event));
    return event;
  }

  /** Likes. Taps are gathered and sent a few times a second. */
  like(count = 1) {
    this.#likes = Math.min(this.#likes + count, LIKES_PER_COMMAND_MAX);
    this.#likeTimer ??= setTimeout(() => this.#sendLikes(), LIKES_EVERY_MS);
  }

  /**
   * Takes goods off the shelf for this person for a few minutes.
   * One key is one hold, however often it is asked: a lost answer is asked for again with the same key.
   * @param {Array<{sku: string, quantity: number, price?: object}>} lines
   * @param {{key?: string}} [options] keep the key until the call has settled
   * @returns {Promise<object>} the hold: `{id, lines, total, expires_at}`
   */
  async hold(lines, { key = newKey() } = {}) {
    const deadline = Date.now() + HOLD_PATIENCE_MS;
    for (;;) {
      try {
        return (await this.#command('hold', { lines, key })).hold;
      } catch (error) {
        if (!error.unanswered || !(await this.#liveBefore(deadline))) throw error;
      }
    }
  }

  /** Pays for a hold (where the server takes the buyer's word: the sandbox). Repeats are harmless. */
  confirm(hold, payment) {
    return this.#command('confirm', { hold, payment });
  }

  /** Gives a hold back. */
  cancel(hold) {
    return this.#command('cancel', { hold });
  }

  /** Asks for more time for a hold. */
  extend(hold) {
    return this.#command('extend', { hold });
  }

  /** This person's orders, the newest first; with `state` only those in it, of the next couple of thousand. */
  async orders({ after, state, limit = 50 } = {}) {
    const query = new URLSearchParams({ limit, ...(after && { after }), ...(state && { state }) });
    return (await this.request('GET', `/v1/orders?${query}`)).orders ?? [];
  }

  /** This person's private messages after number `after`: what happened to holds and orders. */
  async messages({ after = 0, limit = 1_000 } = {}) {
    const { messages = [] } = await this.request('GET', `/v1/me/messages?after=${after}&limit=${limit}`);
    this.#privateSeen = Math.max(this.#privateSeen ?? 0, ...messages.map(({ n }) => n));
    return messages;
  }

  /** Plays the room's picture in `video` and keeps it playing. `null`: only for the data channel. */
  watch(video) {
    this.watcher?.stop();
    this.watcher = new Watcher({
      endpoint: this.#url(`/whep/${this.#path()}`),
      token: () => this.#token,
      video,
      expecting: () => this.status !== 'closed' && this.state.media.live,
      isDark: () => this.status === 'live' && !this.state.media.live,
      tell: (seen) => this.#command('quality', seen),
      want: (view) => this.#command('view', view),
      changed: (watcher) => this.#emit('video', watcher),
      blocked: (watcher) => this.#emit('blocked', watcher),
    });
    return this.watcher.start();
  }

  // What an anchor does

  /** Broadcasts `stream`. Resolves with the Publisher when the server receives it. */
  publish(stream) {
    this.publisher?.stop();
    this.publisher = new Publisher(stream, {
      endpoint: this.#url(`/whip/${this.#path()}`),
      token: () => this.#token,
      changed: (publisher) => this.#emit('video', publisher),
    });
    return this.publisher.start();
  }

  /**
   * What arrives of the room's broadcast, from whatever device it comes: `{bits, frames, loss}`, null while there is none.
   * For those who run the show.
   */
  async uplink() {
    return (await this.#command('quality', {})).quality ?? null;
  }

  /** Starts or ends the show. */
  show(action) {
    return this.request('POST', `/v1/rooms/${this.#path()}/show`, { action });
  }

  /** Pins a product's card, for `explain_seconds` or until unpinned. */
  pin(product, explain_seconds) {
    return this.#command('pin', { product, explain_seconds });
  }

  unpin() {
    return this.#command('unpin', {});
  }

  /** `action`: mute, unmute, kick, delete_comment, pin_comment, slow_mode; with `who`, `comment`, `seconds`. */
  moderate(action, fields = {}) {
    return this.#command('moderate', { action, ...fields });
  }

  /** Changes the stock of a SKU by `delta`. */
  adjustStock(sku, delta, reason, key = newKey()) {
    return this.request('POST', `/v1/skus/${encodeURIComponent(sku)}/stock`, { delta, reason }, { key });
  }

  /** Any call of the REST interface, as this person. Throws a RoomError when refused. */
  async request(method, path, body, { key } = {}) {
    const headers = { Authorization: `Bearer ${this.#token}` };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    if (key) headers['Idempotency-Key'] = key;
    const send = { method, headers, body: body && JSON.stringify(body) };
    const response = await fetch(this.#url(path), send).catch(() => {
      throw new RoomError('disconnected', 'the server cannot be reached');
    });
    if (!response.ok) throw await errorOf(response);
    return response.status === 204 ? {} : response.json().catch(() => ({}));
  }

  // The connection

  async #run() {
    // When the device finds a network again there is no reason to wait on.
    addEventListener('online', () => this.#wait?.abort(), { signal: this.#stop.signal });
    for (let attempt = 0; !this.#stop.signal.aborted; attempt += 1) {
      const ended = await this.#session();
      if (this.#stop.signal.aborted) return;
      if (isFinal(ended.code)) return this.#finish(ended);
      if (ended.wasJoined) attempt = 0;
      if (!ended.wasOpened) await this.#blameSocket();
      this.#setStatus(this.state.epoch ? 'stale' : 'connecting', ended);
      this.#wait = new AbortController();
      await pause(reconnectDelay(ended, attempt), this.#wait.signal);
    }
  }

  #finish(ended) {
    this.#stop.abort();
    this.watcher?.stop();
    this.#setStatus('closed', ended);
  }

  /** One connection from opening to its end. */
  #session() {
    return new Promise((resolve) => {
      let opened = false;
      const on = {
        opened: () => {
          opened = true;
          this.#join();
        },
        message: (text) => this.#take(text),
        closed: (close) => {
          const wasJoined = this.#joined;
          this.#disconnected();
          resolve({ ...close, wasJoined, wasOpened: opened });
        },
      };
      this.#open(on).then(
        (link) => this.#adopt(link),
        () => on.closed({ code: 1006, reason: '' }),
      );
    });
  }

  async #open(on) {
    if (this.#socketFailures >= SOCKET_FAILURES_MAX) {
      this.#socketFailures = 0;
      const channel = await (this.watcher ?? this.watch(null)).channel();
      return channelLink(channel, on);
    }
    const url = new URL(this.#url(`/v1/rooms/${this.#path()}/ws`));
    url.protocol = url.protocol.replace('http', 'ws');
    try {
      return socketLink(url.href, on);
    } catch (error) {
      this.#socketFailures = SOCKET_FAILURES_MAX;
      throw error;
    }
  }

  /** A server that is away is no reason to leave the WebSocket; one that answers only other requests is. */
  async #blameSocket() {
    const signal = AbortSignal.timeout(PROBE_TIMEOUT_MS);
    const answers = await fetch(this.#url('/healthz'), { signal }).then((response) => response.ok, () => false);
    this.#socketFailures = answers ? this.#socketFailures + 1 : 0;
  }

  #adopt(link) {
    if (this.#stop.signal.aborted) return link.close();
    this.#link = link;
    this.transport = link.kind;
    this.#heard();
  }

  async #join() {
    const { epoch, seq } = this.state;
    const cursor = epoch ? { epoch, seq } : {};
    if (this.#privateSeen !== null) cursor.you = this.#privateSeen;
    const sent = Date.now();
    try {
      const ok = await this.#command('join', { token: this.#token, ...cursor });
      this.#joined = true;
      this.#socketFailures = 0;
      this.#setClock(ok.server_time, sent);
      this.#pings = setInterval(() => this.#ping(), PING_EVERY_MS);
      this.me = { who: ok.who, role: ok.role, name: ok.name };
      if (ok.resumed) setTimeout(() => this.#caughtUp(), CAUGHT_UP_AFTER_MS);
    } catch (error) {
      // A socket's close code follows; a data channel has none.
      this.#link?.close(FINAL_REFUSALS[error.code]);
    }
  }

  #disconnected() {
    this.#link = null;
    this.#joined = false;
    clearTimeout(this.#silence);
    clearInterval(this.#pings);
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new RoomError('disconnected'));
    }
    this.#waiting.clear();
  }

  #take(text) {
    this.#heard();
    const message = parse(text);
    if (!message) return;
    if (message.re !== undefined) this.#settle(message);
    if (message.snapshot) this.#takeSnapshot(message.snapshot);
    if (message.seq !== undefined || message.tally) this.#takeFrame(message);
    if (message.you) this.#takePrivate(message.you);
    if (message.auth === 'expiring') this.#renewToken();
  }

  #takeSnapshot(snapshot) {
    if (this.state.epoch && this.state.epoch !== snapshot.epoch) {
      // Another epoch is another process: packets to the old one would time out only after a while.
      this.watcher?.again();
      this.publisher?.again();
    }
    this.state = fromSnapshot(snapshot);
    this.#emit('change', { changed: new Set(Object.keys(this.state)), skus: new Set(Object.keys(this.state.stock)) });
    this.#caughtUp();
  }

  #takeFrame(frame) {
    const news = applyFrame(this.state, frame);
    if (news.gap) return this.#link?.close();
    this.#tell(news);
    if (frame.seq !== undefined) this.#caughtUp();
  }

  #tell(news) {
    for (const event of news.events) this.#emit('event', event);
    if (news.changed.size > 0) this.#emit('change', news);
  }

  #takePrivate(message) {
    if (message.n <= this.#privateSeen) return;
    const follows = this.#privateSeen === null || message.n === this.#privateSeen + 1;
    if (!follows || this.#privateNewest > 0) return this.#readMissed(message.n);
    this.#privateSeen = message.n;
    this.#emit('private', message);
  }

  /** There were too many to be told again at the join: the others are read, and come in their order too. */
  async #readMissed(newest) {
    const isReading = this.#privateNewest > 0;
    this.#privateNewest = Math.max(this.#privateNewest, newest);
    if (isReading) return;
    while (this.#privateSeen < this.#privateNewest) {
      const before = this.#privateSeen;
      const missed = await this.messages({ after: before }).catch(() => null);
      // The next message, or the next join, tries again.
      if (!missed) break;
      for (const message of missed) if (message.n > before) this.#emit('private', message);
      // What is kept no longer cannot be read.
      if (this.#privateSeen === before) this.#privateSeen = this.#privateNewest;
    }
    this.#privateNewest = 0;
  }

  #caughtUp() {
    if (this.#joined && this.state.epoch) this.#setStatus('live');
  }

  #heard() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#link?.close(), SILENCE_MAX_MS);
  }

  /** The server closes connections that say nothing for long; the answer sets the clock again. */
  async #ping() {
    const sent = Date.now();
    const ok = await this.#command('ping', {}).catch(() => null);
    if (ok) this.#setClock(ok.server_time, sent);
  }

  async #renewToken() {
    const token = await this.#renew?.();
    if (!token) return;
    this.#token = token;
    this.#link?.send(JSON.stringify({ auth: { token } }));
  }

  #setClock(server_time, sent) {
    const received = Date.now();
    if (Number.isFinite(server_time)) this.#clockOffset = server_time - (sent + received) / 2;
  }

  // Commands and their answers

  #command(name, fields) {
    if (!this.#link || (name !== 'join' && !this.#joined)) return Promise.reject(new RoomError('disconnected'));
    if (this.#waiting.size >= COMMANDS_WAITING_MAX) return Promise.reject(new RoomError('busy'));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#settle({ re: id, error: { code: 'timeout' } }), ANSWER_TIMEOUT_MS);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#link.send(JSON.stringify({ id, [name]: fields }));
    });
  }

  #settle({ re, ok, error }) {
    const waiting = this.#waiting.get(re);
    if (!waiting) return;
    this.#waiting.delete(re);
    clearTimeout(waiting.timer);
    if (error) waiting.reject(new RoomError(error.code, error.message, error));
    else waiting.resolve(ok ?? {});
  }

  #sendLikes() {
    this.#likeTimer = null;
    const count = this.#likes;
    this.#likes = 0;
    // A like that is lost is not missed.
    this.#command('like', { count }).catch(() => {});
  }

  async #liveBefore(deadline) {
    do {
      await pause(200, this.#stop.signal);
    } while (this.status !== 'live' && this.status !== 'closed' && Date.now() < deadline);
    return this.status === 'live' && Date.now() < deadline;
  }

  // Small things

  #setStatus(status, why = {}) {
    if (this.status === status) return;
    this.status = status;
    this.#emit('status', { status, code: why.code, reason: why.reason });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #path() {
    return encodeURIComponent(this.#room);
  }

  #url(path) {
    return new URL(path, this.#server).href;
  }
}

/** A drain names the wait in its reason; every other loss is answered with jitter. */
function reconnectDelay({ code, reason }, attempt) {
  const named = code === 3000 ? Number.parseInt(reason, 10) : Number.NaN;
  // The server spreads those whom it sends away; a little jitter is for those whom others send.
  return Number.isFinite(named) ? Math.min(named, 60_000) + jitteredDelay(0, { first: 250 }) : jitteredDelay(attempt);
}

function parse(text) {
  try {
    const message = JSON.parse(text);
    return message && typeof message === 'object' ? message : null;
  } catch {
    return null;
  }
}
