// How money, counts and times are written, and how elements are made. All text goes in as text.

import { language } from './words.js';

/** An amount in minor units with its currency, as people write it. */
export function money({ amount, currency } = {}) {
  try {
    const format = new Intl.NumberFormat(language, {
      style: 'currency',
      currency,
      currencyDisplay: 'narrowSymbol',
      trailingZeroDisplay: 'stripIfInteger',
    });
    return format.format(amount / 10 ** minorDigits(currency));
  } catch {
    return `${amount ?? ''} ${currency ?? ''}`.trim();
  }
}

function minorDigits(currency) {
  return new Intl.NumberFormat('en', { style: 'currency', currency }).resolvedOptions().maximumFractionDigits;
}

/** `1234` as `1,234`; `123456` as `123K`. */
export function count(number = 0) {
  const compact = number >= 100_000 ? { notation: 'compact', maximumFractionDigits: 1 } : {};
  return new Intl.NumberFormat(language, compact).format(number);
}

/** A duration as `4:05` or `1:02:03`. Never negative. */
export function clock(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (part) => String(part).padStart(2, '0');
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** Bits per second as `2.4 Mb/s`. */
export function bitrate(bits = 0) {
  if (bits >= 1e6) return `${(bits / 1e6).toFixed(1)} Mb/s`;
  return `${Math.round(bits / 1e3)} kb/s`;
}

/** The first element in `root` with this `data-test` name. */
export function part(name, root = document) {
  return root.querySelector(`[data-test="${name}"]`);
}

/** Makes an element: properties, `data`, `on` (listeners), `aria`, then children. */
export function el(tag, { data = {}, on = {}, aria = {}, ...properties } = {}, ...children) {
  const element = document.createElement(tag);
  Object.assign(element, properties);
  Object.assign(element.dataset, data);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An icon of the page's sprite. */
export function icon(name) {
  const ns = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(ns, 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(ns, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A product's picture, or the first character of its title when there is none. */
export function picture({ image, title = '' } = {}) {
  const letter = el('span', { className: 'picture-letter', aria: { hidden: 'true' } }, [...title][0] ?? '');
  const frame = el('div', { className: 'picture' }, letter);
  if (!image) return frame;
  const img = el('img', { alt: '', loading: 'lazy', decoding: 'async', referrerPolicy: 'no-referrer' });
  img.addEventListener('load', () => letter.remove());
  img.addEventListener('error', () => img.remove());
  img.src = image;
  frame.append(img);
  return frame;
}

/** Sets text only when it differs: no needless work for the page nor for a screen reader. */
export function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}
