// Opens /watch/CHANNEL in Chromium and leaves the page alone, while its server is killed and started again so many times.
//   node stay.mjs URL TIMES
// Says as it happens, a line of JSON each on standard output: {"plays":…}; then each time {"stands":…} and {"plays":…} again, with the
// seconds since what was said before; and {"errors":[…]} at the end.
import { launch } from "./chromium.mjs";

const [url, times] = process.argv.slice(2);
const timeout = 60_000;
const say = (line) => console.log(JSON.stringify(line));

const browser = await launch();
const errors = [];
try {
  const page = await browser.newPage({ viewport: { width: 1100, height: 860 } });
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(url, { timeout });
  const opened = await page.evaluate(() => performance.timeOrigin);
  say({ plays: await page.evaluate(plays, timeout) });
  for (let time = 0; time < Number(times); time += 1) {
    say({ stands: await page.evaluate(stands, timeout) });
    say({ plays: await page.evaluate(plays, timeout) });
  }
  if ((await page.evaluate(() => performance.timeOrigin)) !== opened) errors.push("the page was loaded again");
} catch (error) {
  errors.push(String(error));
} finally {
  await browser.close();
}
say({ errors });

// Runs in the page: waits until three seconds were played; gives how long that took.
async function plays(timeout) {
  const video = document.querySelector("video#player");
  const began = performance.now();
  let [played, last] = [0, video.currentTime];
  while (played < 3) {
    if (performance.now() - began > timeout) throw new Error(`it stands at ${video.currentTime} s: ${document.body.dataset.state}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    // A seek, or a player that starts over, is no time that was played.
    const step = video.currentTime - last;
    if (step > 0 && step < 0.5) played += step;
    last = video.currentTime;
  }
  return (performance.now() - began) / 1000;
}

// Runs in the page: waits until the picture has stood for a second; gives how long that took.
async function stands(timeout) {
  const video = document.querySelector("video#player");
  const began = performance.now();
  let [last, since] = [video.currentTime, began];
  while (performance.now() - since < 1000) {
    if (performance.now() - began > timeout) throw new Error("it plays on");
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (video.currentTime !== last) [last, since] = [video.currentTime, performance.now()];
  }
  return (performance.now() - began) / 1000;
}
