// The page with the player: starts when the channel is live, starts over when playing fails, and says how it does.

import { serverNow, watchChannels } from "./channels.js";
import { messageOf } from "./messages.js";
import { bufferedAhead, engine, play } from "./player.js";

const TICK_MS = 500;
// Without a new picture for so long, the viewer is told; and then, a playlist that does not lead on is given up.
const STALL_MS = 1500;
const GIVE_UP_MS = 15000;
// Between a failure and the next attempt: doubled each time, until something plays.
const RETRY_MS = { least: 1000, most: 8000 };

const name = location.pathname.split("/")[2];
// A playback token goes into the path, so that the playlists carry it on to all that they name.
const token = new URLSearchParams(location.search).get("token");
const url = token ? `/live/~${encodeURIComponent(token)}/${name}/index.m3u8` : `/live/${name}/index.m3u8`;
const ui = Object.fromEntries(
  ["player", "channel", "badge", "headline", "detail", "unmute", "status", "quality", "level", "bitrate", "latency", "buffer", "dropped", "bandwidth", "playlist"]
    .map((id) => [id, document.getElementById(id)]),
);
const video = ui.player;

let player = null;
let listed; // The channel's line in the server's list: undefined if not live, null if the server cannot be reached.
let failure = null; // { state, cause } of the last attempt, until the next one plays.
let retryAt = 0;
let retryMs = RETRY_MS.least;
let movedAt = 0; // When the picture last moved,
let position = 0; // and where.
let played = false; // This attempt has shown a moving picture.
let over = false; // The programme was played to its end.
let blocked = false; // The browser refused to play without a click.
let wantedName = null; // The rendition that the viewer chose, kept over new attempts.

document.title = `${name} · Headwater`;
ui.channel.textContent = name;
ui.playlist.href = url;
ui.playlist.textContent = url;
video.muted = true;
video.addEventListener("ended", finish);
video.addEventListener("play", () => { blocked = false; });
video.addEventListener("volumechange", () => { ui.unmute.hidden = !video.muted; });
ui.unmute.addEventListener("click", unmute);
ui.quality.addEventListener("change", choose);
watchChannels((channels) => {
  listed = channels === null ? null : channels.find((channel) => channel.name === name);
  tick();
});
setInterval(tick, TICK_MS);

/** Brings everything to the present. */
function tick() {
  watchMotion();
  if (player === null) {
    if (listed && performance.now() >= retryAt && engine(video)) start();
  } else if (shouldGiveUp()) {
    fail("stalled");
  }
  show(stateNow());
  showFacts();
}

function start() {
  over = false;
  played = false;
  movedAt = performance.now();
  video.controls = true;
  player = play(video, url, { levels: showLevels, level: showFacts, failed: fail });
  ui.unmute.hidden = !video.muted;
  video.play().catch((error) => { blocked = error.name === "NotAllowedError"; });
}

function stop() {
  player?.stop();
  player = null;
  video.controls = false;
  ui.unmute.hidden = true;
}

/** An attempt failed: the next one waits, longer each time. */
function fail(state, cause) {
  stop();
  failure = { state, cause };
  retryAt = performance.now() + retryMs;
  retryMs = Math.min(retryMs * 2, RETRY_MS.most);
  show(stateNow());
}

/** The end of the programme was played: nothing more happens until another one begins. */
function finish() {
  over = true;
  failure = null;
  stop();
  retryAt = performance.now() + RETRY_MS.least;
}

function watchMotion() {
  const moving = video.currentTime !== position;
  position = video.currentTime;
  if (moving || video.paused || document.hidden) movedAt = performance.now();
  if (!moving || player === null || video.paused) return;
  played = true;
  failure = null;
  retryMs = RETRY_MS.least;
}

/** Nothing has moved for long, though the channel is live: it may be a new programme under the old URL. */
function shouldGiveUp() {
  if (listed?.state === "interrupted" || blocked) return false;
  return performance.now() - movedAt > GIVE_UP_MS && listed !== null;
}

function stateNow() {
  if (!engine(video)) return "unsupported";
  if (player !== null && isMoving()) return "playing";
  if (blocked) return "blocked";
  if (listed === null) return "network";
  if (over) return "ended";
  if (player === null) return failure && listed ? failure.state : listed ? "loading" : "waiting";
  if (played && video.paused) return "paused";
  if (listed?.state === "interrupted") return "interrupted";
  return played ? "stalled" : "loading";
}

function isMoving() {
  return played && !video.paused && performance.now() - movedAt < STALL_MS;
}

function show(state) {
  if (document.body.dataset.state === state && ui.status.dataset.state === state && ui.headline.textContent) return;
  const message = messageOf(state, failure?.state === state ? failure.cause : null);
  document.body.dataset.state = ui.badge.dataset.state = ui.status.dataset.state = state;
  ui.badge.textContent = message.badge;
  ui.headline.textContent = message.headline;
  ui.detail.textContent = message.detail;
  ui.status.textContent = message.detail ? `${message.headline}. ${message.detail}` : message.headline;
}

function showLevels(levels) {
  const options = levels.map((level) => {
    const option = new Option(labelOf(level), String(level.index));
    option.dataset.name = level.name;
    option.dataset.height = String(level.height);
    return option;
  });
  ui.quality.replaceChildren(new Option("Auto", "auto"), ...options.toReversed());
  ui.quality.disabled = options.length === 0;
  const wanted = options.find((option) => option.dataset.name === wantedName);
  if (wanted === undefined) return;
  ui.quality.value = wanted.value;
  player?.choose(Number(wanted.value));
}

function choose() {
  const option = ui.quality.selectedOptions[0];
  wantedName = option.dataset.name ?? null;
  player?.choose(option.value === "auto" ? -1 : Number(option.value));
}

function unmute() {
  video.muted = false;
  video.play().catch(() => { video.muted = true; });
}

function showFacts() {
  const level = player?.level;
  fact(ui.level, level ? nameOf(level) : "–", { height: level?.height, name: level?.name });
  fact(ui.bitrate, level?.bitrate ? megabits(level.bitrate) : "–", { bits: level?.bitrate });
  const shownAt = player?.shownAt ?? null;
  seconds(ui.latency, shownAt === null ? null : (serverNow() - shownAt) / 1000);
  seconds(ui.buffer, player === null ? null : bufferedAhead(video));
  const frames = player === null ? null : video.getVideoPlaybackQuality?.();
  fact(ui.dropped, frames ? `${frames.droppedVideoFrames} of ${frames.totalVideoFrames}` : "–", { frames: frames?.droppedVideoFrames });
  const bandwidth = player?.bandwidth;
  fact(ui.bandwidth, bandwidth ? megabits(bandwidth) : "–", { bits: bandwidth });
}

function seconds(place, value) {
  fact(place, value === null ? "–" : `${value.toFixed(1)} s`, { seconds: value?.toFixed(3) });
}

/** Shows a fact: in words for people, and as data for scripts. */
function fact(place, text, data) {
  if (place.textContent !== text) place.textContent = text;
  for (const [key, value] of Object.entries(data)) {
    if (value === undefined || value === null) delete place.dataset[key];
    else place.dataset[key] = String(value);
  }
}

function labelOf(level) {
  return level.bitrate ? `${nameOf(level)} · ${megabits(level.bitrate)}` : nameOf(level);
}

/** The rendition's name, and its height unless that is the name. */
function nameOf(level) {
  return level.name === `${level.height}p` ? level.name : `${level.name} · ${level.height}p`;
}

function megabits(bits) {
  return `${(bits / 1e6).toFixed(1)} Mb/s`;
}
