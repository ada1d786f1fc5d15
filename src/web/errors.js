// How the server says no.

/** A refusal or a failure, with the server's `code` (see the protocol page). */
export class RoomError extends Error {
  constructor(code, message, details = {}) {
    super(message || code);
    this.name = 'RoomError';
    /** One word for programs, for example `sold_out`. */
    this.code = code;
    /** How long to wait before trying again, when the server said so. */
    this.retry_after_ms = details.retry_after_ms;
    /** What may be shown beside the refusal: the price now, the number left, the limit. */
    this.detail = details.detail;
    /** The HTTP status, for answers to requests. */
    this.status = details.status;
  }

  /** True when nobody knows whether the command was done: ask again with the same key. */
  get unanswered() {
    return this.code === 'disconnected' || this.code === 'timeout';
  }
}

/** The error that an HTTP answer describes (`application/problem+json`). */
export async function errorOf(response) {
  const problem = await response.json().catch(() => ({}));
  const seconds = Number(response.headers.get('Retry-After'));
  return new RoomError(problem.code ?? `http_${response.status}`, typeof problem.detail === 'string' ? problem.detail : problem.title, {
    status: response.status,
    detail: typeof problem.detail === 'object' ? problem.detail : undefined,
    retry_after_ms: problem.retry_after_ms ?? (seconds ? seconds * 1000 : undefined),
  });
}

/** An idempotency key. Works without a secure context, unlike `randomUUID`. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
