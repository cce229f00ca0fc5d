// One attempt to play one playlist: by hls.js where Media Source Extensions are, else by the browser's own HLS.
// It reports what happens and decides nothing: `watch.js` says when to start and when to start over.

const Hls = window.Hls;

// A server that cannot be reached for some seconds, as when it is restarted, is waited for while the buffer lasts.
// hls.js gives up at once where there was no status at all; a status of 4xx is an answer, and is left to it.
const PATIENT = {
  maxTimeToFirstByteMs: 10000,
  maxLoadTimeMs: 30000,
  timeoutRetry: { maxNumRetry: 2, retryDelayMs: 0, maxRetryDelayMs: 0 },
  errorRetry: {
    maxNumRetry: 12,
    retryDelayMs: 500,
    maxRetryDelayMs: 2000,
    shouldRetry: (policy, retries, timedOut, response, wouldRetry) => wouldRetry || (!response?.code && retries < policy.maxNumRetry),
  },
};

const HLS_CONFIG = {
  playlistLoadPolicy: { default: PATIENT },
  fragLoadPolicy: { default: PATIENT },
  enableWorker: true,
  lowLatencyMode: true,
  // No backBufferLength: the browser drops what it has played by itself. When hls.js 1.7 does so, it forgets the parts of the
  // segment that it is loading, and may wait at its end until the whole of it is listed: seconds without sound.
  // How far behind to play is said by the playlist (PART-HOLD-BACK); a liveSyncDurationCount of ours would override it, and
  // hls.js takes no liveMaxLatencyDurationCount without one. Nor a maxLiveSyncPlaybackRate: see `#keepUp`.
};

// A player that fell behind catches up by playing faster, which nobody hears at a twentieth: from so many seconds on, down to so many.
const CATCH_UP = { rate: 1.05, from: 0.1, to: 0.02 };

/** What this browser plays HLS with: "hls.js", "native", or null. */
export function engine(video) {
  if (Hls?.isSupported()) return "hls.js";
  return video.canPlayType("application/vnd.apple.mpegurl") ? "native" : null;
}

/** Plays `url` in `video`. `on.levels`, `on.level` and `on.failed(kind, cause)` are called as things happen. */
export function play(video, url, on) {
  return engine(video) === "hls.js" ? new HlsPlayer(video, url, on) : new NativePlayer(video, url, on);
}

class HlsPlayer {
  #hls = new Hls(HLS_CONFIG);
  #video;
  #on;
  #listening = new AbortController();
  #recoveredAt = -Infinity;

  constructor(video, url, on) {
    this.#video = video;
    this.#on = on;
    const hls = this.#hls;
    hls.on(Hls.Events.MANIFEST_PARSED, () => on.levels(hls.levels.map(describe)));
    hls.on(Hls.Events.LEVELS_UPDATED, () => on.levels(hls.levels.map(describe)));
    hls.on(Hls.Events.LEVEL_SWITCHED, () => on.level());
    hls.on(Hls.Events.ERROR, (_, error) => this.#failed(error));
    const { signal } = this.#listening;
    video.addEventListener("playing", () => this.#join(), { once: true, signal });
    video.addEventListener("timeupdate", () => this.#keepUp(), { signal });
    hls.loadSource(url);
    hls.attachMedia(video);
  }

  /** The level that is shown, or null before the first. */
  get level() {
    const level = this.#hls.levels?.[this.#hls.currentLevel];
    return level ? describe(level, this.#hls.currentLevel) : null;
  }

  /** Bits a second that the network seems to carry. */
  get bandwidth() {
    return this.#hls.bandwidthEstimate;
  }

  /** When the picture that is shown was taken, in milliseconds; null where it is not known. */
  get shownAt() {
    return this.#hls.playingDate?.getTime() ?? null;
  }

  /** The playlist says that the programme is over. */
  get ended() {
    const details = this.#hls.levels?.[this.#hls.currentLevel]?.details ?? this.#hls.latestLevelDetails;
    return details ? !details.live : false;
  }

  /** Chooses a level by its number, or by -1 lets the network decide. The buffer is kept up to the next segment. */
  choose(level) {
    this.#hls.nextLevel = level;
  }

  stop() {
    this.#listening.abort();
    this.#hls.destroy();
    if (this.#video.playbackRate === CATCH_UP.rate) this.#video.playbackRate = 1;
  }

  /** While the first pictures were fetched the programme went on: the viewer is taken to where it is at once. */
  #join() {
    const { latestLevelDetails, liveSyncPosition } = this.#hls;
    if (latestLevelDetails?.live && latestLevelDetails.partTarget && liveSyncPosition - this.#video.currentTime > 0.2) {
      this.#video.currentTime = liveSyncPosition;
    }
  }

  /** Plays faster for as long as the picture is later than the playlist asks for. hls.js can do that by itself, but only while more
   * than a second is in the buffer, which with short parts there never is. */
  #keepUp() {
    const [video, { latestLevelDetails: details, latency, targetLatency }] = [this.#video, this.#hls];
    const catching = video.playbackRate === CATCH_UP.rate;
    // Another rate is the viewer's.
    if (!catching && video.playbackRate !== 1) return;
    const late = latency - targetLatency;
    // Whoever is a whole segment late went back to see something; and what plays faster must not run out.
    const least = details?.partTarget ? 1.5 * details.partTarget : 2;
    const wanted = Boolean(details?.live) && late < details.targetduration && bufferedAhead(video) > least;
    const faster = wanted && late > (catching ? CATCH_UP.to : CATCH_UP.from);
    if (faster !== catching) video.playbackRate = faster ? CATCH_UP.rate : 1;
  }

  #failed(error) {
    if (!error.fatal) return;
    if (error.response?.code === 403) return this.#on.failed("forbidden");
    if (error.type !== Hls.ErrorTypes.MEDIA_ERROR) return this.#on.failed("network", error.details);
    // The first time a new decoder often helps; if that fails too within ten seconds, nothing but a new start does.
    const now = performance.now();
    if (now - this.#recoveredAt < 10000) return this.#on.failed("decode", error.details);
    this.#recoveredAt = now;
    this.#hls.recoverMediaError();
    this.#video.play().catch(() => {});
  }
}

class NativePlayer {
  #video;
  #listening = new AbortController();

  constructor(video, url, on) {
    this.#video = video;
    const signal = this.#listening.signal;
    const failed = () => on.failed(video.error?.code === MediaError.MEDIA_ERR_DECODE ? "decode" : "network", video.error?.message);
    video.addEventListener("error", failed, { signal });
    video.addEventListener("resize", () => on.level(), { signal });
    video.src = url;
    on.levels([]);
  }

  get level() {
    const height = this.#video.videoHeight;
    return height ? { index: -1, name: `${height}p`, height, bitrate: 0 } : null;
  }

  get bandwidth() {
    return null;
  }

  get shownAt() {
    const start = this.#video.getStartDate?.().getTime();
    return start > 0 ? start + this.#video.currentTime * 1000 : null;
  }

  get ended() {
    return Number.isFinite(this.#video.duration);
  }

  choose() {}

  stop() {
    this.#listening.abort();
    this.#video.removeAttribute("src");
    this.#video.load();
  }
}

/** Seconds that can be played from where `video` is. */
export function bufferedAhead(video) {
  for (let i = 0; i < video.buffered.length; i += 1) {
    if (video.buffered.start(i) <= video.currentTime + 0.1 && video.currentTime <= video.buffered.end(i)) {
      return video.buffered.end(i) - video.currentTime;
    }
  }
  return 0;
}

/** A level in the words of the page. Its name is the rendition's, as its URL has it: `…/720p/index.m3u8`. */
function describe(level, index) {
  const name = /([^/]+)\/index\.m3u8/.exec(level.url?.[0] ?? level.uri ?? "")?.[1] ?? `${level.height}p`;
  return { index, name, height: level.height, bitrate: level.bitrate };
}
