// What is told to the viewer in each state of the player: a badge, a headline, and what happens next.

const MESSAGES = {
  loading: ["Loading", "Loading", "Fetching the playlist and the first segments."],
  waiting: ["Off air", "Not live yet", "This page starts to play by itself as soon as the channel goes live."],
  playing: ["Live", "Playing", ""],
  paused: ["Paused", "Paused", ""],
  blocked: ["Ready", "Press play", "The browser does not let a page start to play by itself."],
  stalled: ["Stalled", "Stalled", "No data arrived in time. The player goes on as soon as there is more."],
  interrupted: ["Interrupted", "The publisher was lost", "The picture goes on by itself when the publisher returns."],
  network: ["Offline", "The server cannot be reached", "Trying again until it answers."],
  forbidden: ["Closed", "This channel needs a playback token", "The link to this page has none, or one that is not valid any more."],
  decode: ["Error", "The browser could not decode the stream", "Starting over."],
  unsupported: ["Error", "This browser cannot play the stream", "It has neither Media Source Extensions nor HLS of its own."],
  ended: ["Ended", "The programme has ended", "If the channel goes live again, it starts to play by itself."],
};

/** The badge, headline and detail for `state`; `cause` is the player's own word for what went wrong. */
export function messageOf(state, cause) {
  const [badge, headline, detail] = MESSAGES[state];
  return { badge, headline, detail: cause ? `${detail} (${cause})` : detail };
}
