// One line of news at the top of the page, gone after a while. The latest counts.

const SHOWN_MS = 4_500;
let timer = null;

export function showNotice(text) {
  const element = document.getElementById('notice');
  element.textContent = text;
  element.hidden = false;
  // A modal dialog lies in the top layer; news must be seen above it.
  const place = document.querySelector('dialog[open]') ?? document.body;
  if (element.parentElement !== place) place.append(element);
  clearTimeout(timer);
  timer = setTimeout(() => {
    element.hidden = true;
    document.body.append(element);
  }, SHOWN_MS);
}
