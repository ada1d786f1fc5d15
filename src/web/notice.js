// One line of news at the top of the page, gone after a while. The latest counts.

const SHOWN_MS = 4_500;
let timer = null;

export function showNotice(text) {
  const element = document.getElementById('notice');
  element.textContent = text;
  // A popover that is shown anew lies above every dialog.
  element.hidePopover();
  element.showPopover();
  clearTimeout(timer);
  timer = setTimeout(() => element.hidePopover(), SHOWN_MS);
}
