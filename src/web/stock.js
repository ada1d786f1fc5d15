// How stock is shown. Every number of a SKU carries `data-stock`, so that all of them change at once.

import { el, setText } from './format.js';
import { t } from './words.js';

/** From here on a number is shown as scarce. */
const SCARCE = 5;

/** An element that shows what is left of `sku`, kept true by `paintStock`. */
export function stockOf(sku, entry) {
  const element = el('span', { className: 'stock', data: { stock: sku } });
  paint(element, entry);
  return element;
}

/** Repaints every number of the given SKUs on the page. */
export function paintStock(stock, skus) {
  for (const sku of skus) {
    for (const element of document.querySelectorAll(`[data-stock="${CSS.escape(sku)}"]`)) {
      paint(element, stock[sku]);
    }
  }
}

/** What is left of a product in all its SKUs. */
export function availableOf(product, stock) {
  return product.skus.reduce((sum, sku) => sum + (stock[sku.id]?.available ?? 0), 0);
}

function paint(element, entry) {
  const left = entry?.available ?? 0;
  setText(element, wordsFor(left));
  element.classList.toggle('scarce', left > 0 && left <= SCARCE);
  element.classList.toggle('gone', left === 0);
}

function wordsFor(left) {
  return left === 0 ? t('none_left') : t('left', { n: left });
}
