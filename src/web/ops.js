// The operator's page: what the server does this second.

import { bitrate, clock, count, el, part, setText } from './format.js';
import { errorOf, RoomError } from './errors.js';
import { pictureOf } from './ops-pictures.js';
import { Session } from './session.js';
import { Spark } from './spark.js';
import { explain, t, translate } from './words.js';

const LOOK_EVERY_MS = 1_000;
const byId = (id) => document.getElementById(id);
const rate = (value) => count(value < 100 ? Math.round(value * 10) / 10 : Math.round(value));

const CONNECTIONS = { plain: 'WebSocket', tls: 'WebSocket over TLS', sse: 'Server-sent events', channel: 'Data channel', peers: 'Media peers' };
const RATES = {
  events: { title: 'Events / s', write: rate },
  deliveries: { title: 'Deliveries / s', write: rate },
  bytes_out: { title: 'Frames out', write: (bytes) => bitrate(bytes * 8) },
  commands: { title: 'Commands / s', write: rate },
  holds: { title: 'Holds / s', write: rate },
  rtp_in: { title: 'RTP packets in / s', write: rate },
  rtp_out: { title: 'RTP packets out / s', write: rate },
  bytes_rtp_out: { title: 'Media out', write: (bytes) => bitrate(bytes * 8) },
};

/** One tile per figure, made when it is first seen. */
const tiles = new Map();

translate();
const session = new Session({ room: await anyRoom(), role: 'admin' });
if (await session.find()) start();
else showDoor(t('need_link'), 'Open this page with an admin token: /ops#token=…');

function start() {
  byId('desk').hidden = false;
  look();
}

/** The demo gives tokens for a room; an operator's token is good for all of them. */
async function anyRoom() {
  const answer = await fetch('/v1/rooms').then((response) => response.json()).catch(() => ({}));
  return answer.rooms?.[0]?.id ?? 'demo';
}

async function look() {
  try {
    paint(await figures());
    paintState('live', 'Up to date');
  } catch (error) {
    if (error.status === 401 || error.status === 403) return refuse(error);
    paintState('stale', 'Not answering');
  }
  setTimeout(look, LOOK_EVERY_MS);
}

async function figures() {
  const headers = { Authorization: `Bearer ${session.token}` };
  const response = await fetch('/v1/ops', { headers }).catch(() => {
    throw new RoomError('unreachable');
  });
  if (!response.ok) throw await errorOf(response);
  return response.json();
}

function refuse(error) {
  session.forget();
  if (session.isReplaceable) return location.reload();
  showDoor(explain(error), 'This page needs a token with the role admin.');
}

function paint({ uptime_ms, version, connections = {}, rooms = [], quality = [], rates = {}, queues = {}, commit_ms = {}, drops = {} }) {
  setText(byId('build'), `Version ${version} · up ${clock(uptime_ms)}`);
  for (const [name, value] of inOrder(connections, CONNECTIONS)) {
    tile('connections', name, CONNECTIONS[name] ?? name, count(value), value);
  }
  for (const [name, value] of inOrder(rates, RATES)) {
    const { title, write } = RATES[name] ?? { title: `${name} / s`, write: rate };
    tile('rates', name, title, write(value), value);
  }
  for (const [name, value] of Object.entries(commit_ms)) {
    tile('commits', name, name, `${(value ?? 0).toFixed(2)} ms`, value ?? 0);
  }
  part('rooms').replaceChildren(...rooms.map(roomRow));
  byId('no-rooms').hidden = rooms.length > 0;
  const titles = new Map(rooms.map(({ id, title }) => [id, title]));
  part('pictures').replaceChildren(...quality.map((of) => pictureOf(of, titles.get(of.room))));
  byId('pictures').hidden = quality.length === 0;
  part('queues').replaceChildren(...bars(queues));
  part('drops').replaceChildren(...bars(drops));
}

/** The figures that we have words for in the order of those, then the others. */
function inOrder(figures, known) {
  const place = (name) => (name in known ? Object.keys(known).indexOf(name) : Number.MAX_SAFE_INTEGER);
  return Object.entries(figures).sort(([a], [b]) => place(a) - place(b));
}

function tile(group, name, title, words, value) {
  const key = `${group}.${name}`;
  if (!tiles.has(key)) {
    const figure = el('strong', {});
    const spark = new Spark();
    part(group).append(el('div', { className: 'tile', data: { name } }, el('span', { className: 'hint', textContent: title }), figure, spark.element));
    tiles.set(key, { figure, spark });
  }
  const { figure, spark } = tiles.get(key);
  setText(figure, words);
  spark.push(Number(value) || 0);
}

function roomRow({ id, title, live, running, viewers, simulated, likes, seq, events_per_second, deliveries_per_second }) {
  const state = running ? (live ? ['on', 'On air'] : ['warn', 'No picture']) : ['', 'Off air'];
  const cell = (text) => el('td', { className: 'n', textContent: text });
  return el(
    'tr',
    { data: { room: id } },
    el('td', {}, el('a', { href: `/watch/${encodeURIComponent(id)}`, textContent: title || id }), el('span', { className: 'hint', textContent: ` ${id}` })),
    el('td', {}, el('span', { className: `tag ${state[0]}`, textContent: state[1] })),
    cell(simulated ? `${count(viewers)} (${count(simulated)} simulated)` : count(viewers)),
    cell(count(likes)),
    cell(count(seq)),
    cell(rate(events_per_second ?? 0)),
    cell(rate(deliveries_per_second ?? 0)),
  );
}

function bars(figures) {
  const entries = Object.entries(figures);
  if (entries.length === 0) return [el('li', { className: 'hint', textContent: 'None' })];
  const most = Math.max(1, ...entries.map(([, value]) => value));
  return entries.map(([name, value]) => {
    const bar = el('i', {});
    bar.style.setProperty('--part', value / most);
    return el('li', { data: { name } }, el('span', { textContent: name }), el('b', { textContent: count(value) }), bar);
  });
}

function paintState(state, words) {
  const element = part('status');
  element.dataset.state = state;
  element.className = state === 'live' ? 'tag good' : 'tag warn';
  setText(element, words);
}

function showDoor(title, more) {
  byId('desk').hidden = true;
  byId('door').hidden = false;
  setText(byId('door-title'), title);
  setText(byId('door-more'), more);
  byId('door-again').onclick = () => location.reload();
}
