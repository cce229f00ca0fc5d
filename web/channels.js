// What the server says of its channels, and of the time.

const POLL_MS = 2000;

// Milliseconds by which the server's clock is ahead of this one. A `Date` field is cut to seconds and may be old,
// so every sample is too small, and the greatest is the best.
let clockAhead = -Infinity;

/** The server's time in milliseconds, as well as it is known. */
export function serverNow() {
  return Date.now() + (Number.isFinite(clockAhead) ? clockAhead : 0);
}

/** The channels that can be watched now. Fails where the server cannot be reached. */
async function fetchChannels() {
  const response = await fetch("/channels.json", { cache: "no-cache", signal: AbortSignal.timeout(8000) });
  if (!response.ok) throw new Error(`channels.json: ${response.status}`);
  const date = Date.parse(response.headers.get("Date") ?? "");
  if (!Number.isNaN(date)) clockAhead = Math.max(clockAhead, date - Date.now());
  return (await response.json()).channels;
}

/**
 * Calls `tell` with the list of channels, now and every two seconds; with null where the server cannot be reached.
 * A page that is not seen asks nothing.
 */
export async function watchChannels(tell) {
  for (;;) {
    if (!document.hidden) tell(await fetchChannels().catch(() => null));
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
