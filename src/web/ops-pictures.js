// A room's picture on the operator's page: what comes in, what goes out, and what viewers see of it.

import { bitrate, count, el } from './format.js';

const LAYERS = ['Small', 'Middle', 'Large'];
/** From where on a figure is marked. */
const MARKS = { loss: [0.02, 0.1], round_trip_ms: [200, 500], first_frame_ms: [600, 2_000] };

const percent = (part) => (part === null || part === undefined ? '–' : `${(part * 100).toFixed(1)} %`);
const ms = (value) => (value === null || value === undefined ? '–' : `${Math.round(value)} ms`);

/** One room's figures, and its viewers with the worst connections. */
export function pictureOf(quality, title) {
  const { room, uplink, watching, worst } = quality;
  return el(
    'article',
    { className: 'picture-room', data: { room } },
    el(
      'header',
      {},
      el('h3', { textContent: title || room }),
      el('span', { className: 'hint', textContent: `${count(watching)} watching` }),
      ...layerTags(quality.layers),
    ),
    el('dl', { className: 'facts' }, ...facts(quality, uplink)),
    worst.length > 0 && worstTable(worst),
  );
}

function facts({ watching, bits_out, loss, round_trip_ms, first_frame_ms, first_frames, freezes, freeze_ms }, uplink) {
  const both = (values, write, name) => ({
    text: write(values.p50),
    mark: mark(name, values.p50),
    more: `p95 ${write(values.p95)}`,
    moreMark: mark(name, values.p95),
  });
  const nothing = { text: '–', more: '' };
  return [
    fact('In', uplink ? { text: bitrate(uplink.bits ?? 0), more: `${Math.round(uplink.frames ?? 0)} fps` } : { text: 'Nobody', more: 'publishes' }),
    fact('Lost coming in', uplink ? { text: percent(uplink.loss), more: '', mark: mark('loss', uplink.loss) } : nothing),
    fact('Out', { text: bitrate(bits_out), more: '' }),
    fact('Lost going out', watching > 0 ? both(loss, percent, 'loss') : nothing),
    fact('Round trip', watching > 0 ? both(round_trip_ms, ms, 'round_trip_ms') : nothing),
    fact('First picture', first_frames > 0 ? both(first_frame_ms, ms, 'first_frame_ms') : nothing),
    fact('Freezes', { text: count(freezes), more: freezes > 0 ? `${(freeze_ms / 1000).toFixed(1)} s in all` : '' }),
  ];
}

// The card is of the worse of both values' colour, which is the second's (p95); each value has its own.
function fact(name, { text, more, mark: state = 'good', moreMark = state }) {
  const second = more && el('small', { data: { state: moreMark }, textContent: more });
  return el('div', { data: { state: moreMark } }, el('dt', { textContent: name }), el('dd', { data: { state } }, el('span', { textContent: text }), second));
}

function mark(name, value) {
  const [warn, bad] = MARKS[name];
  return value >= bad ? 'bad' : value >= warn ? 'warn' : 'good';
}

function layerTags(layers = {}) {
  return Object.entries(layers).map(([layer, viewers]) => {
    return el('span', { className: 'tag', textContent: `${LAYERS[layer] ?? `Layer ${layer}`} ${count(viewers)}` });
  });
}

function worstTable(worst) {
  const head = ['Viewer', 'Lost', 'Round trip', 'Freezes', 'First picture', 'Gets', 'Layer'];
  const cell = (textContent, state = 'good') => el('td', { className: 'n', textContent, data: { state } });
  const row = ({ who, bits, layer, loss, round_trip_ms, first_frame_ms, freezes, freeze_ms }) =>
    el(
      'tr',
      {},
      el('td', {}, el('code', { textContent: who ?? '–' })),
      cell(percent(loss), mark('loss', loss)),
      cell(ms(round_trip_ms), mark('round_trip_ms', round_trip_ms)),
      cell(freezes > 0 ? `${count(freezes)} · ${(freeze_ms / 1000).toFixed(1)} s` : '0'),
      cell(ms(first_frame_ms), mark('first_frame_ms', first_frame_ms)),
      cell(bitrate(bits ?? 0)),
      cell(layer === null || layer === undefined ? '–' : (LAYERS[layer] ?? layer)),
    );
  const names = head.map((textContent, place) => el('th', { textContent, className: place > 0 ? 'n' : '' }));
  return el('div', { className: 'scroll' }, el('table', { className: 'worst' }, el('thead', {}, el('tr', {}, ...names)), el('tbody', {}, ...worst.map(row))));
}
