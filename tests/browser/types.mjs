// Asks Chromium which of these values of CODECS it plays, as JSON on standard output.
//   node types.mjs CODECS...
import { launch } from "./chromium.mjs";

const browser = await launch();
try {
  const page = await browser.newPage();
  const ask = (all) => all.map((codecs) => MediaSource.isTypeSupported(`video/mp4; codecs="${codecs}"`));
  console.log(JSON.stringify(await page.evaluate(ask, process.argv.slice(2))));
} finally {
  await browser.close();
}
