// The viewer page: joins a room, shows its picture, and puts the parts together.

import { Room } from './maishou.js';
import { count, icon, part, setText } from './format.js';
import { paintRehearsal } from './rehearsal.js';
import { Session, roomOfPage } from './session.js';
import { CatchUp } from './viewer-catch-up.js';
import { Goods } from './viewer-goods.js';
import { Orders } from './viewer-orders.js';
import { PictureChoice } from './viewer-picture.js';
import { Sheet } from './viewer-sheet.js';
import { Talk } from './viewer-talk.js';
import { showNotice } from './notice.js';
import { t, translate } from './words.js';

const byId = (id) => document.getElementById(id);
const video = part('video');

translate();
const session = new Session({ room: roomOfPage(), role: 'viewer' });
if (await session.find()) enter();
else showDoor('need_link', 'need_link_more');

function enter() {
  byId('stage').hidden = false;
  const room = new Room({ room: roomOfPage(), token: session.token, renew: () => session.renew() });
  // A handle for tests and for the curious.
  window.maishou = { room, get pc() { return room.pc; } };

  const orders = new Orders(room, (hold) => sheet.openHold(hold));
  const sheet = new Sheet(room, orders);
  const goods = new Goods(room, (product) => sheet.open(product));
  new Talk(room);
  new CatchUp(room, (product) => sheet.open(product));
  const choice = new PictureChoice(room, () => paintPoster(room));

  room.addEventListener('change', ({ detail }) => {
    paint(room, detail.changed);
    choice.show(room.state.media.live);
  });
  room.addEventListener('status', ({ detail }) => paintStatus(room, detail, goods));
  room.addEventListener('private', ({ detail }) => tellPrivate(detail));
  room.addEventListener('video', () => paintPoster(room));
  room.addEventListener('blocked', () => (byId('play').hidden = false));
  wireVideo(room);
  paintPoster(room);
  setText(part('status'), t('connecting'));

  room.watch(video);
  room.connect().then(() => orders.load(), () => {});
}

function paint(room, changed) {
  const { state } = room;
  if (changed.has('tally')) {
    setText(part('online'), count(state.tally.viewers));
    setText(part('likes'), count(state.tally.likes));
    byId('online-pill').setAttribute('aria-label', t('watching', { n: count(state.tally.viewers) }));
    byId('likes-pill').setAttribute('aria-label', t('likes', { n: count(state.tally.likes) }));
  }
  if (changed.has('show')) {
    const title = state.show.title || room.id;
    setText(byId('title'), title);
    setText(byId('avatar'), [...title][0]);
    document.title = `${title} · Maishou`;
    paintRehearsal(room);
  }
  if (changed.has('show') || changed.has('media')) {
    const live = state.show.running;
    setText(byId('live-word'), t(live ? 'live' : 'offline'));
    byId('live-dot').classList.toggle('on', live);
    paintPoster(room);
  }
}

function paintStatus(room, { status, code }, goods) {
  const element = part('status');
  element.dataset.state = status;
  part('transport').dataset.state = room.transport;
  setText(element, status === 'live' ? '' : t(status));
  document.body.classList.toggle('stale', status !== 'live');
  goods.paintAll();
  if (status === 'closed') leave(code);
}

function leave(code) {
  session.forget();
  if (code === 3500 && session.isReplaceable) return location.reload();
  const key = `ended_${code}`;
  showDoor('closed', t(key) === key ? '' : key);
}

function showDoor(title, more) {
  byId('stage').hidden = true;
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  byId('door').hidden = false;
  setText(byId('door-title'), t(title));
  setText(byId('door-more'), more && t(more));
  byId('door-again').onclick = () => location.reload();
}

// The picture

function wireVideo(room) {
  for (const happening of ['playing', 'resize', 'emptied', 'waiting']) {
    video.addEventListener(happening, () => paintPoster(room));
  }
  video.addEventListener('playing', () => (byId('play').hidden = true));
  video.addEventListener('resize', () => {
    video.classList.toggle('wide', video.videoWidth > video.videoHeight);
  });
  byId('play').addEventListener('click', () => video.play().catch(() => {}));
  part('sound').addEventListener('click', () => setSound(video.muted));
  // Once on, the picture itself is the switch.
  video.addEventListener('click', () => !video.muted && setSound(false));
}

function setSound(on) {
  video.muted = !on;
  video.play().catch(() => {
    video.muted = true;
    part('sound').hidden = false;
  });
  const pill = part('sound');
  pill.hidden = on;
  pill.firstElementChild.replaceWith(icon(on ? 'sound' : 'muted'));
}

function paintPoster(room) {
  const words = posterWords(room);
  byId('poster').hidden = words === null;
  part('sound').hidden = words !== null || !video.muted;
  if (!words) return;
  setText(byId('poster-title'), t(words));
  setText(byId('poster-more'), words === 'connecting' ? '' : t(`${words}_more`));
}

/** What stands where the picture would be; null while the picture runs. */
function posterWords(room) {
  const { show, media, epoch } = room.state;
  const video_state = room.watcher?.state;
  if (video_state === 'unsupported' || video_state === 'refused') return 'no_video';
  if (epoch && !media.live) {
    if (show.running) return 'away';
    return show.started_at ? 'ended' : 'waiting';
  }
  if (room.watcher?.layer === 'audio') return 'audio_only';
  return video.videoWidth > 0 ? null : 'connecting';
}

function tellPrivate({ type, order }) {
  const key = `notice_${type.split('.')[1]}`;
  const isNews = ['hold.expired', 'order.paid', 'order.refund_due', 'order.refunded'].includes(type);
  // An open order sheet says it itself; what names its buyer is about somebody else's.
  if (isNews && !order?.buyer && !part('sheet').open) showNotice(t(key));
}
