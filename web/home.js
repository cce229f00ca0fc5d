// The list of the channels that are live.

import { serverNow, watchChannels } from "./channels.js";

// A picture is asked for anew when it may be another one.
const PICTURE_MS = 10000;

const list = document.getElementById("channels");
const status = document.getElementById("status");
const empty = document.getElementById("empty");

document.getElementById("server").textContent = `rtmp://${location.hostname || "localhost"}/live`;
watchChannels(show);

function show(channels) {
  if (channels === null) return say("network", "The server cannot be reached. Trying again.");
  empty.hidden = channels.length > 0;
  say(channels.length > 0 ? "live" : "empty", count(channels.length));
  for (const card of [...list.children]) {
    if (!channels.some((channel) => channel.name === card.dataset.channel)) card.remove();
  }
  channels.forEach((channel, position) => {
    const card = cardOf(channel.name);
    fill(card, channel);
    if (list.children[position] !== card) list.insertBefore(card, list.children[position] ?? null);
  });
}

function say(state, text) {
  if (status.textContent === text) return;
  status.dataset.state = state;
  status.textContent = text;
}

function count(channels) {
  if (channels === 0) return "No channel is live.";
  return channels === 1 ? "One channel is live." : `${channels} channels are live.`;
}

/** The card of a channel: the one in the list, so that focus stays where it is, or a new one. */
function cardOf(name) {
  const known = [...list.children].find((card) => card.dataset.channel === name);
  if (known) return known;
  const item = document.createElement("li");
  item.dataset.channel = name;
  const link = element("a", "card");
  link.href = `/watch/${name}`;
  const top = element("span", "top");
  top.append(element("span", "name", name), element("span", "badge"));
  const picture = element("img", "picture");
  picture.alt = "";
  picture.addEventListener("load", () => { picture.hidden = false; });
  picture.addEventListener("error", () => { picture.hidden = true; });
  link.append(picture, top, element("span", "more qualities"), element("span", "more since"));
  item.append(link);
  return item;
}

function fill(card, channel) {
  const picture = card.querySelector(".picture");
  const src = `/live/${channel.name}/thumb.jpg?${Math.floor(serverNow() / PICTURE_MS)}`;
  if (picture.getAttribute("src") !== src) picture.src = src;
  const badge = card.querySelector(".badge");
  badge.dataset.state = channel.state;
  badge.textContent = channel.state === "live" ? "Live" : "Interrupted";
  const count = channel.renditions.length;
  card.querySelector(".qualities").textContent = count === 1 ? "One quality" : `${count} qualities: ${channel.renditions.join(", ")}`;
  card.querySelector(".since").textContent = channel.since ? `Live for ${span(serverNow() - Date.parse(channel.since))}` : "The publisher was lost, and may return";
}

/** A span of milliseconds in words, as exact as anyone wants it. */
function span(ms) {
  const minutes = Math.floor(Math.max(ms, 0) / 60000);
  if (minutes < 1) return "less than a minute";
  if (minutes < 60) return minutes === 1 ? "one minute" : `${minutes} minutes`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
