// Plays a low-latency channel that carries the demo's picture, reads the clock that is burnt into each decoded frame, and
// reports how far behind it is, as JSON on standard output.
//   node latency.mjs URL hls.js|shaka SECONDS
import { createRequire } from "node:module";
import { launch } from "./chromium.mjs";

const [url, kind, seconds] = process.argv.slice(2);
const scripts = { "hls.js": "hls.js/dist/hls.min.js", shaka: "shaka-player/dist/shaka-player.compiled.js" };
const timeout = 40_000;

const browser = await launch();
const report = { errors: [] };
try {
  // The script is ours, not the origin's.
  const context = await browser.newContext({ bypassCSP: true, viewport: { width: 1300, height: 760 } });
  const page = await context.newPage();
  page.on("pageerror", (error) => report.errors.push(String(error)));
  page.on("response", (response) => {
    if (response.status() >= 400) report.errors.push(`${response.status()} ${response.url()}`);
  });
  await page.goto(new URL("/healthz", url).href, { timeout });
  await page.addScriptTag({ path: createRequire(import.meta.url).resolve(scripts[kind]) });
  Object.assign(report, await page.evaluate(measure, [url, kind, Number(seconds), timeout]));
} catch (error) {
  report.errors.push(String(error));
} finally {
  await browser.close();
}
console.log(JSON.stringify(report));

// Runs in the page.
async function measure([url, kind, seconds, timeout]) {
  const errors = [];
  const video = document.body.appendChild(Object.assign(document.createElement("video"), { muted: true, autoplay: true }));
  video.style.width = "1280px";
  const player = await (kind === "shaka" ? playByShaka() : playByHlsJs());
  await until(() => video.readyState > 2 && !video.paused && video.currentTime > 0, timeout);

  // Players seek and catch up at first; what counts is what follows.
  await new Promise((resolve) => setTimeout(resolve, 5000));
  const stalls = watchForStalls();
  const latencies = [];
  const started = performance.now();
  while (performance.now() - started < seconds * 1000) {
    const [behind] = await Promise.all([nextLatency(), new Promise((resolve) => setTimeout(resolve, 250))]);
    if (behind !== null) latencies.push(behind);
  }
  latencies.sort((a, b) => a - b);
  const at = (share) => Math.round(latencies[Math.min(latencies.length - 1, Math.floor(share * latencies.length))]);
  const quality = video.getVideoPlaybackQuality();
  return {
    errors,
    samples: latencies.length,
    latencyMillis: { min: at(0), median: at(0.5), p95: at(0.95), max: at(1) },
    stalls: stalls(),
    frames: quality.totalVideoFrames,
    dropped: quality.droppedVideoFrames,
    height: video.videoHeight,
    player,
  };

  async function playByHlsJs() {
    // As the watch page does, by its own script, which tells only of errors that end it.
    window.Hls = class extends Hls {
      constructor(config) {
        super(config);
        this.on(Hls.Events.ERROR, (_, error) => errors.push(`${error.fatal ? "fatal " : ""}${error.details} ${error.error ?? ""}`));
      }
    };
    const page = await (await fetch("/watch/demo")).text();
    const { play } = await import(page.match(/"([^"]*)watch\.js"/)[1] + "player.js");
    play(video, url, { levels() {}, level() {}, failed: (kind) => errors.push(kind) });
    return `hls.js ${Hls.version}`;
  }

  async function playByShaka() {
    shaka.polyfill.installAll();
    const player = new shaka.Player();
    await player.attach(video);
    player.configure({ streaming: { lowLatencyMode: true, liveSync: { enabled: true, targetLatency: 0.25, targetLatencyTolerance: 0.1 } } });
    player.addEventListener("error", (event) => errors.push(`shaka ${event.detail.code}`));
    await player.load(url);
    return `shaka ${shaka.Player.version}`;
  }

  // Stalls: media time that is missing, more than 300 ms of it in one go. The looks of a busy page come late while the picture
  // goes on, so what counts is how much less of the media passed between two of them than of the day.
  function watchForStalls() {
    const found = { count: 0, millis: 0 };
    let [time, at, missing] = [video.currentTime, performance.now(), 0];
    const end = () => {
      if (missing > 300) {
        found.count += 1;
        found.millis += Math.round(missing);
      }
      missing = 0;
    };
    const look = () => {
      const [timeNow, now] = [video.currentTime, performance.now()];
      const lost = now - at - (timeNow - time) * 1000;
      if (lost > Math.min(300, (now - at) / 2)) missing += lost;
      else end();
      [time, at] = [timeNow, now];
    };
    const timer = setInterval(look, 50);
    return () => (clearInterval(timer), look(), end(), found);
  }

  // How far the next frame that is shown is behind the time of day, in milliseconds; null where its clock cannot be read.
  function nextLatency() {
    return new Promise((resolve) => {
      const late = setTimeout(() => resolve(null), 2000);
      video.requestVideoFrameCallback(() => {
        clearTimeout(late);
        const shown = readClock();
        const day = 86_400_000;
        resolve(shown === null ? null : (((Date.now() - shown) % day) + day) % day);
      });
    });
  }

  // The demo's clock, HH:MM:SS.mmm in figures of seven segments, at its place in a picture of 1280x720.
  function readClock() {
    const [left, top, width, height] = [110, 236, 1090, 168];
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const scale = video.videoHeight / 720;
    context.drawImage(video, left * scale, top * scale, width * scale, height * scale, 0, 0, width, height);
    const samples = context.getImageData(0, 0, width, height).data;
    const lit = (x, y) => samples[4 * ((y + 240 - top) * width + (x - left)) + 1] > 110;
    const places = [[34, 6], [6, 40], [62, 40], [34, 80], [6, 120], [62, 120], [34, 153]];
    const figures = ["1110111", "0010010", "1011101", "1011011", "0111010", "1101011", "1101111", "1010010", "1111111", "1111011"];
    let x = 116;
    let text = "";
    for (const sign of "00:00:00.000") {
      if (sign === "0") {
        const seen = figures.indexOf(places.map(([dx, dy]) => (lit(x + dx, dy) ? "1" : "0")).join(""));
        if (seen < 0) return null;
        text += seen;
      }
      x += sign === "0" ? 88 : 54;
    }
    const [h, m, s, millis] = [text.slice(0, 2), text.slice(2, 4), text.slice(4, 6), text.slice(6)].map(Number);
    return ((h * 60 + m) * 60 + s) * 1000 + millis;
  }

  async function until(holds, limit) {
    const started = performance.now();
    while (!holds()) {
      if (performance.now() - started > limit) throw new Error(`nothing plays: ${errors.join("; ")}`);
      await new Promise(requestAnimationFrame);
    }
  }
}
