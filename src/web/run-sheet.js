// The run sheet: what was explained so far, and what comes next when. Pure, as the rest of the fold.

/** Explained products that are kept; the oldest goes. */
const EXPLAINED_MAX = 200;
/** Products that are named as coming up. */
const NEXT_MAX = 3;

/** `explained` with `product` as the one that is explained now. To pin it again goes on explaining. */
export function explain(explained, product, at) {
  const last = explained.at(-1);
  const goesOn = last?.product === product.id;
  const seen = { product: product.id, price: product.price, at: goesOn ? last.at : at };
  return [...explained.filter((known) => known.product !== product.id), seen].slice(-EXPLAINED_MAX);
}

/** `explained` with the price that the card shows now. */
export function reprice(explained, pinned) {
  if (!pinned) return explained;
  const { id, price } = pinned.product;
  return explained.map((seen) => (seen.product === id ? { ...seen, price } : seen));
}

/** `explained` after the shelf changed: a product that leaves it takes its title along. */
export function shelve(explained, before, after) {
  const titleOn = (shelf, id) => shelf.find((product) => product.id === id)?.title;
  return explained.map(({ title, ...seen }) => {
    if (titleOn(after, seen.product) !== undefined) return seen;
    return { ...seen, title: titleOn(before, seen.product) ?? title };
  });
}

/**
 * What is on the shelf and was not explained yet: first what stands behind the product explained last.
 * @returns {Array<{product: object, at: number|null}>} `at`: when it may begin, by the server's clock
 */
export function comingUp({ shelf, explained, planned_seconds, pinned }) {
  const last = explained.at(-1)?.product;
  const place = shelf.findIndex(({ id }) => id === last) + 1;
  const known = new Set(explained.map(({ product }) => product));
  const open = [...shelf.slice(place), ...shelf.slice(0, place)].filter(({ id }) => !known.has(id));
  let at = endOf(pinned, explained, planned_seconds);
  return open.slice(0, NEXT_MAX).map((product) => {
    const coming = { product, at };
    at = plus(at, planned_seconds[product.id]);
    return coming;
  });
}

function endOf(pinned, explained, planned_seconds) {
  if (!pinned) return null;
  if (pinned.explain_until) return pinned.explain_until;
  const { id } = pinned.product;
  const began = explained.find(({ product }) => product === id)?.at ?? null;
  return plus(began, planned_seconds[id]);
}

function plus(at, seconds) {
  return at === null || seconds === undefined ? null : at + seconds * 1000;
}
