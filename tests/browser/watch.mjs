// Plays /watch/CHANNEL in Chromium and reports what it saw, as JSON on standard output.
//   node watch.mjs URL SCREENSHOT
// Checks: time advances, the decoded picture changes, every quality can be chosen and then plays.
import { launch } from "./chromium.mjs";

const [url, screenshot] = process.argv.slice(2);
const timeout = 40_000;

const browser = await launch();
const report = { errors: [], qualities: [] };
try {
  const page = await browser.newPage({ viewport: { width: 1100, height: 860 } });
  page.on("pageerror", (error) => report.errors.push(String(error)));
  page.on("response", (response) => {
    if (response.status() >= 400) report.errors.push(`${response.status()} ${response.url()}`);
  });
  await page.goto(url, { timeout });

  report.advanced = await advance(page, 3);
  report.pictures = await distinctPictures(page, 5);
  const options = await page.locator("select#quality option").evaluateAll((all) => all.map((o) => o.value));
  for (const value of options) {
    await page.selectOption("select#quality", value);
    await advance(page, 1);
    const height = await settledHeight(page);
    report.qualities.push({ value, height, advanced: await advance(page, 1) });
  }
  report.status = await page.locator("#status").innerText();
  report.latency = await page.locator("#latency").innerText();
  report.dropped = await page.locator("video#player").evaluate((v) => v.getVideoPlaybackQuality().droppedVideoFrames);
  await page.screenshot({ path: screenshot });
} catch (error) {
  report.errors.push(String(error));
} finally {
  await browser.close();
}
console.log(JSON.stringify(report));

// Waits until the player's clock has gone on by so many seconds; gives how far it went.
async function advance(page, seconds) {
  return page.evaluate(async ([seconds, timeout]) => {
    const video = document.querySelector("video#player");
    const started = performance.now();
    while (video.readyState < 2 && performance.now() - started < timeout) await new Promise(requestAnimationFrame);
    const from = video.currentTime;
    while (video.currentTime - from < seconds) {
      if (performance.now() - started > timeout) throw new Error(`stuck at ${video.currentTime} s`);
      await new Promise(requestAnimationFrame);
    }
    return video.currentTime - from;
  }, [seconds, timeout]);
}

// Draws decoded frames to a canvas and counts those that differ.
async function distinctPictures(page, count) {
  const seen = new Set();
  for (let i = 0; i < count; i += 1) {
    seen.add(await page.evaluate(() => {
      const video = document.querySelector("video#player");
      const canvas = Object.assign(document.createElement("canvas"), { width: 160, height: 90 });
      const context = canvas.getContext("2d");
      context.drawImage(video, 0, 0, 160, 90);
      return context.getImageData(0, 0, 160, 90).data.join();
    }));
    await advance(page, 0.5);
  }
  return seen.size;
}

// The height of the picture once it stops changing: a new quality begins at the next segment.
async function settledHeight(page) {
  let height = 0;
  for (let same = 0; same < 3; ) {
    await advance(page, 1.5);
    const now = await page.locator("video#player").evaluate((video) => video.videoHeight);
    same = now === height ? same + 1 : 0;
    height = now;
  }
  return height;
}
