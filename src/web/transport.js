// The two ways to a session: a WebSocket, or the data channel `room` of a video connection.
// Both carry the same text messages; a link is { kind, send(text), close(code) }.

/** The subprotocol of the socket. */
export const PROTOCOL = 'maishou.v1.json';

const OPEN_TIMEOUT_MS = 8_000;
/** The code that browsers report for a connection lost without a close frame. */
const LOST = 1006;

/**
 * Opens a WebSocket. Throws when the browser refuses to make one at all.
 * @param {{opened: function, message: function(string), closed: function({code: number, reason: string})}} on
 */
export function socketLink(url, on) {
  const socket = new WebSocket(url, PROTOCOL);
  const deadline = setTimeout(() => socket.close(), OPEN_TIMEOUT_MS);
  const closed = once(on.closed);

  socket.onopen = () => {
    clearTimeout(deadline);
    on.opened();
  };
  socket.onmessage = (message) => on.message(message.data);
  socket.onclose = (event) => {
    clearTimeout(deadline);
    closed({ code: event.code, reason: event.reason });
  };

  return {
    kind: 'websocket',
    send: (text) => socket.send(text),
    close(code = LOST) {
      // A dead network answers no close frame, and nobody should wait for one.
      socket.onmessage = null;
      socket.close(1000);
      closed({ code, reason: '' });
    },
  };
}

/** Speaks over an open data channel. */
export function channelLink(channel, on) {
  const closed = once(on.closed);
  channel.onmessage = (message) => on.message(message.data);
  channel.onclose = () => closed({ code: LOST, reason: '' });
  // Later, as a socket does it: the caller has the link by then.
  setTimeout(on.opened);

  return {
    kind: 'channel',
    send: (text) => channel.send(text),
    close(code = LOST) {
      channel.onmessage = null;
      channel.close();
      closed({ code, reason: '' });
    },
  };
}

/** Closed by the server for good: joining again would not help. */
export function isFinal(code) {
  return code >= 3500 && code <= 3999;
}

/** Full jitter: anything from nothing to the doubled step, so that a crowd comes back spread out. */
export function jitteredDelay(attempt, { first = 500, most = 15_000 } = {}) {
  return Math.random() * Math.min(most, first * 2 ** Math.min(attempt, 16));
}

/** Resolves after `ms`, or as soon as `signal` is aborted. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    }
    signal?.addEventListener('abort', done);
  });
}

function once(call) {
  let called = false;
  return (value) => {
    if (called) return;
    called = true;
    call(value);
  };
}
