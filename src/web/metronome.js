// Ticks from a worker: a page in the background has its own timers slowed to one a second.

let timer = null;

onmessage = ({ data: every_ms }) => {
  clearInterval(timer);
  if (every_ms > 0) timer = setInterval(() => postMessage(null), every_ms);
};
