// What WHIP and WHEP have in common: one offer, one answer, one session to delete.

import { errorOf } from './errors.js';

/**
 * Posts the offer of `pc` and applies the answer.
 * Candidates are not gathered first: the server learns them from the connectivity checks.
 * @returns {Promise<string|null>} the URL of the session
 */
export async function negotiate(pc, endpoint, token, signal) {
  await pc.setLocalDescription();
  const response = await fetch(endpoint, {
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp', Authorization: `Bearer ${token}` },
    body: pc.localDescription.sdp,
    signal,
  });
  if (!response.ok) throw await errorOf(response);

  const place = response.headers.get('Location');
  await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
  return place ? new URL(place, endpoint).href : null;
}

/** Ends a session on the server. Also works while the page goes away; a failure is only a later timeout. */
export function endSession(session, token) {
  if (!session) return;
  const headers = { Authorization: `Bearer ${token}` };
  fetch(session, { method: 'DELETE', headers, keepalive: true }).catch(() => {});
}

/** True when joining again cannot help without another token. */
export function isRefusal(error) {
  return error.status === 401 || error.status === 403;
}

/** Watches `pc` and calls `lost(why)` once, when it failed or stayed disconnected. */
export function whenLost(pc, lost, patience_ms = 2_000) {
  let timer = null;
  const told = (why) => {
    pc.removeEventListener('connectionstatechange', look);
    clearTimeout(timer);
    lost(why);
  };
  function look() {
    clearTimeout(timer);
    if (pc.connectionState === 'failed' || pc.connectionState === 'closed') told(pc.connectionState);
    if (pc.connectionState === 'disconnected') timer = setTimeout(() => told('disconnected'), patience_ms);
  }
  pc.addEventListener('connectionstatechange', look);
}

/** Resolves when `pc` is connected; rejects when it fails or takes too long. */
export function connected(pc, timeout_ms = 12_000) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => finish(reject, new Error('no connection in time')), timeout_ms);
    const look = () => {
      if (pc.connectionState === 'connected') finish(resolve);
      if (['failed', 'closed'].includes(pc.connectionState)) finish(reject, new Error(pc.connectionState));
    };
    function finish(settle, value) {
      clearTimeout(timer);
      pc.removeEventListener('connectionstatechange', look);
      settle(value);
    }
    pc.addEventListener('connectionstatechange', look);
    look();
  });
}
