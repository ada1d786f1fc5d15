// The list of rooms: what is live comes first.

import { clock, count, el, setText } from './format.js';
import { explain, t, translate } from './words.js';
import { errorOf, RoomError } from './errors.js';

const LOOK_EVERY_MS = 5_000;
const byId = (id) => document.getElementById(id);

translate();
look();

async function look() {
  try {
    paint(await rooms());
    byId('trouble').hidden = true;
  } catch (error) {
    setText(byId('trouble'), explain(error));
    byId('trouble').hidden = false;
  }
  setTimeout(look, LOOK_EVERY_MS);
}

async function rooms() {
  const response = await fetch('/v1/rooms').catch(() => {
    throw new RoomError('unreachable');
  });
  if (!response.ok) throw await errorOf(response);
  return (await response.json()).rooms ?? [];
}

function paint(list) {
  const order = (room) => (room.show?.running ? 0 : 1);
  const sorted = list.toSorted((a, b) => order(a) - order(b) || (b.viewers ?? 0) - (a.viewers ?? 0));
  const focused = document.activeElement?.dataset?.room;
  const places = document.querySelector('.rooms');
  places.replaceChildren(...sorted.map(item));
  if (focused) places.querySelector(`[data-room="${CSS.escape(focused)}"]`)?.focus();
  byId('nobody').hidden = sorted.length > 0;
}

function item({ id, title, anchor_name, show = {}, viewers = 0 }) {
  const isOn = Boolean(show.running);
  const since = isOn && show.started_at ? clock(Date.now() - show.started_at) : '';
  return el(
    'li',
    {},
    el(
      'a',
      { className: isOn ? 'room live' : 'room', href: `/watch/${encodeURIComponent(id)}`, data: { test: 'room', room: id } },
      el('span', { className: 'avatar', aria: { hidden: 'true' }, textContent: [...(title || id)][0] }),
      el('span', { className: 'room-text' }, el('strong', { textContent: title || id }), el('span', { className: 'hint', textContent: anchor_name ?? id })),
      el(
        'span',
        { className: 'room-live' },
        el('span', { className: isOn ? 'tag on' : 'tag', textContent: isOn ? `${t('live')} ${since}` : t('offline') }),
        el('span', { className: 'hint', textContent: isOn ? t('watching', { n: count(viewers) }) : '' }),
      ),
    ),
  );
}
