// The studio: an anchor's desk. Picture on one side, shelf in the middle, people on the other.

import { Room } from './maishou.js';
import { bitrate, clock, count, part, setText } from './format.js';
import { showNotice } from './notice.js';
import { Rehearsing } from './rehearsal.js';
import { Session, roomOfPage } from './session.js';
import { Broadcast } from './studio-broadcast.js';
import { paintHealth } from './studio-health.js';
import { DeskGoods } from './studio-goods.js';
import { DeskTalk } from './studio-talk.js';
import { explain, t, translate } from './words.js';

const byId = (id) => document.getElementById(id);

translate();
const session = new Session({ room: roomOfPage(), role: 'anchor' });
if (await session.find()) enter();
else showDoor('need_link', 'studio_need_link_more');

function enter() {
  byId('desk').hidden = false;
  const room = new Room({ room: roomOfPage(), token: session.token, renew: () => session.renew() });
  const broadcast = new Broadcast(room);
  // A handle for tests and for the curious.
  window.maishou = { room, get pc() { return room.pc; } };

  new DeskGoods(room, session.claims);
  new DeskTalk(room);
  new Rehearsing(room);
  wireHead(room, broadcast);
  wireObs(room);
  room.addEventListener('change', ({ detail }) => paint(room, broadcast, detail.changed));
  room.addEventListener('status', ({ detail }) => paintStatus(room, broadcast, detail));
  broadcast.addEventListener('change', () => paintLive(room, broadcast));
  setInterval(() => paintTime(room), 500);
  setText(byId('strip'), t('connecting'));
  paintLive(room, broadcast);

  broadcast.openSource();
  room.connect().catch(() => {});
}

function paint(room, broadcast, changed) {
  const { show, tally } = room.state;
  if (changed.has('tally')) {
    setText(part('online'), count(tally.viewers));
    setText(part('likes'), count(tally.likes));
  }
  if (changed.has('media')) paintLive(room, broadcast);
  if (changed.has('show')) {
    const title = show.title || room.id;
    setText(byId('title'), title);
    setText(byId('avatar'), [...title][0]);
    document.title = `${title} · Studio`;
    paintLive(room, broadcast);
  }
}

function paintStatus(room, broadcast, { status, code }) {
  const strip = byId('strip');
  strip.dataset.state = status;
  setText(strip, status === 'live' ? '' : t(status === 'stale' ? 'studio_reconnecting' : status));
  document.body.classList.toggle('stale', status !== 'live');
  paintLive(room, broadcast);
  if (status !== 'closed') return;
  session.forget();
  broadcast.stop();
  if (code === 3500 && session.isReplaceable) return location.reload();
  const key = `ended_${code}`;
  showDoor('closed', t(key) === key ? '' : key);
}

function paintLive(room, broadcast) {
  const { state } = broadcast;
  const isRunning = room.state.show.running;
  part('live-state').dataset.state = state;
  setText(byId('live-word'), t(liveWord(room, state)));
  byId('on-air-badge').hidden = state !== 'live';
  const go = part('go-live');
  go.hidden = state === 'live';
  go.disabled = state === 'connecting' || !broadcast.stream || room.status !== 'live';
  const elsewhere = isRunning && room.state.media.live;
  setText(go, t(elsewhere ? 'studio_take_over' : isRunning ? 'studio_go_again' : 'studio_go'));
  part('end-show').hidden = !isRunning && state !== 'live';
  paintStats(broadcast);
  paintTime(room);
}

/** A show may run without this page: from OBS, from another device, or with nobody sending. */
function liveWord({ state: { show, media } }, state) {
  if (state !== 'idle' || !show.running) return `studio_${state}`;
  return media.live ? 'studio_elsewhere' : 'studio_no_picture';
}

function paintStats({ stats: shown, trouble }) {
  setText(byId('stat-size'), shown ? pictureSize(shown) : '–');
  setText(byId('stat-bitrate'), shown ? bitrate(shown.bits) : '–');
  setText(byId('stat-loss'), shown ? `${(shown.loss * 100).toFixed(1)} %` : '–');
  byId('stat-loss').parentElement.dataset.state = trouble?.name.startsWith('loss') ? trouble.level : 'good';
  paintHealth(trouble, shown ?? {});
}

/** Of another device's picture the size is not known here. */
function pictureSize({ width, height, fps }) {
  return width ? `${width}×${height} · ${fps} fps` : `${fps} fps`;
}

function paintTime(room) {
  const { running, started_at } = room.state.show;
  setText(byId('on-air'), running && started_at ? clock(room.now() - started_at) : '');
}

function wireHead(room, broadcast) {
  const dialog = byId('end-dialog');
  setText(byId('room-id'), room.id);
  byId('viewer-link').href = `/watch/${encodeURIComponent(room.id)}`;
  part('go-live').addEventListener('click', () => broadcast.goLive().catch((error) => showNotice(explain(error))));
  part('end-show').addEventListener('click', () => dialog.showModal());
  byId('end-keep').addEventListener('click', () => dialog.close());
  part('end-confirm').addEventListener('click', () => {
    dialog.close();
    broadcast.endShow().catch((error) => showNotice(explain(error)));
  });
}

function wireObs(room) {
  const url = new URL(`/whip/${encodeURIComponent(room.id)}`, location.href).href;
  setText(byId('whip-url'), url);
  byId('copy-url').addEventListener('click', () => copy(url));
  byId('copy-token').addEventListener('click', () => copy(session.token));
}

function copy(text) {
  const written = navigator.clipboard?.writeText(text) ?? Promise.reject(new Error('no clipboard'));
  written.then(() => showNotice(t('studio_copied')), () => showNotice(t('studio_not_copied')));
}

function showDoor(title, more) {
  byId('desk').hidden = true;
  byId('door').hidden = false;
  setText(byId('door-title'), t(title));
  setText(byId('door-more'), more && t(more));
  byId('door-again').onclick = () => location.reload();
}
