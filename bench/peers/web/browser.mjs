// The browser package beside ONNX Runtime's WebAssembly, for `make bench-browser`.
// Arguments: the folder with node_modules, that of the browser package, the ONNX model, a
// folder of artefacts, the browser, token ids with commas between them, their text, a text
// of 16 tokens, rounds, and how often the memory test loads and closes. Prints one JSON
// object with the samples of each figure, in seconds or bytes.
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [packages, web, onnx, served, browserName, list, text32, text16, rounds, cycles] = process.argv.slice(2);
const { serve } = await import(pathToFileURL(resolve(web, "serve.mjs")));
const puppeteer = createRequire(join(resolve(packages), "x.js"))("puppeteer-core");
const ort = resolve(packages, "node_modules/onnxruntime-web");
const { version } = JSON.parse(readFileSync(join(ort, "package.json")));

const load = "import { Recommender } from '/dist/index.js';\nconst options = { allowUnsigned: true, history: false };\n";
// What each page runs. Numbers of calls are such that a coarse clock does.
const scripts = {
  first: `${load}
    const r = await Recommender.load('/artefact/embedded.wisp', options);
    await r.recommend({ k: 10 });
    window.took = performance.now() / 1000;
    await r.complete();
    window.kept = true;`,
  work: `${load}
    import * as ort from '/ort/ort.wasm.min.mjs';
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = '/ort/';
    const once = async (f) => { const start = performance.now(); await f(); return (performance.now() - start) / 1000; };
    const many = async (n, f) => { await f(); return (await once(async () => { for (let i = 0; i < n; i++) await f(); })) / n; };
    window.prepare = async (ids, text32, text16) => {
      const model = new Uint8Array(await (await fetch('/onnx')).arrayBuffer());
      let session;
      const sessionTime = await once(async () => { session = await ort.InferenceSession.create(model, { executionProviders: ['wasm'], graphOptimizationLevel: 'all' }); });
      const feeds = { ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]) };
      const [minilm, large, embedded] = await Promise.all(['minilm', 'large', 'embedded'].map((name) => Recommender.load('/artefact/' + name + '.wisp', options)));
      const history = Array.from({ length: 50 }, (_, i) => ({ item: String(i * 31 % 10000), time: 1000 * i }));
      window.sides = {
        minilm: [20, () => minilm.embed(text32)], onnx: [20, () => session.run(feeds)],
        recommend: [200, () => large.recommend({ history, k: 10 })],
        ...embedded.info.manifest.model.text && { encoder: [100, () => embedded.embed(text16)] },
      };
      return { sessionTime, vectors: [Array.from(await minilm.embed(text32)), Array.from((await session.run(feeds)).mean.data)] };
    };
    window.measure = (name) => many(...window.sides[name]);
    window.ready = true;`,
  cycle: `${load}
    window.cycle = async (n) => {
      for (let i = 0; i < n; i++) {
        const r = await Recommender.load('/artefact/embedded.wisp', options);
        await r.recommend({ k: 10 });
        r.close();
      }
    };
    window.ready = true;`,
};
const server = await serve({ "/dist/": join(web, "dist"), "/ort/": join(ort, "dist"), "/artefact/": served, "/": served }, {
  intercept: ({ url }, response) => {
    const page = /^\/(\w+)\.(html|page\.js)$/.exec(url);
    if (url === "/onnx") response.writeHead(200, { "Content-Type": "application/octet-stream" }).end(readFileSync(onnx));
    else if (page?.[2] === "html") response.writeHead(200, { "Content-Type": "text/html" }).end(`<!doctype html><title>bench</title><link rel="icon" href="data:,"><script type="module" src="/${page[1]}.page.js"></script>`);
    else if (page) response.writeHead(200, { "Content-Type": "text/javascript" }).end(scripts[page[1]]);
    else return false;
    return true;
  },
});

/** Memory of a process and of those below it, in bytes: what is shared counts by share. */
function memory(pid) {
  const parents = new Map();
  for (const name of readdirSync("/proc")) {
    try {
      if (/^\d+$/.test(name)) parents.set(Number(name), Number(/\) \S (\d+)/.exec(readFileSync(`/proc/${name}/stat`, "utf8"))[1]));
    } catch {} // it ended meanwhile
  }
  const below = (p) => p === pid || (parents.has(p) && below(parents.get(p)));
  let total = 0;
  for (const p of parents.keys()) {
    try {
      if (below(p)) total += 1024 * Number(/^Pss: +(\d+)/m.exec(readFileSync(`/proc/${p}/smaps_rollup`, "utf8"))[1]);
    } catch {}
  }
  return total;
}

const firefox = browserName.startsWith("firefox");
const paths = { chromium: "/usr/bin/chromium", "firefox-esr": "/usr/bin/firefox-esr" };
const browser = await puppeteer.launch({
  browser: firefox ? "firefox" : "chrome", executablePath: paths[browserName], headless: true, timeout: 120_000, protocolTimeout: 600_000,
  args: firefox ? [] : ["--no-sandbox", "--disable-dev-shm-usage"],
});
const samples = {};
const add = (name, value) => (samples[name] ??= []).push(value);
const open = async (context, name) => {
  const page = await context.newPage();
  page.on("pageerror", (e) => console.error(e.message));
  await page.goto(`${server.url}/${name}.html`);
  await page.waitForFunction(name === "first" ? "window.kept" : "window.ready", { timeout: 60_000 });
  return page;
};
try {
  for (let i = 0; i < Number(rounds); i++) {
    const context = await browser.createBrowserContext();
    for (const visit of ["cold", "warm"]) {
      const page = await open(context, "first");
      add(visit, await page.evaluate("window.took"));
      await page.close();
    }
    await context.close();
  }
  const page = await open(browser.defaultBrowserContext(), "work");
  const { sessionTime, vectors } = await page.evaluate((...args) => window.prepare(...args), list.split(",").map(Number), text32, text16);
  add("session", sessionTime);
  const names = await page.evaluate(() => Object.keys(window.sides));
  for (let i = 0; i < Number(rounds); i++) {
    for (let j = 0; j < names.length; j++) {
      const name = names[(i + j) % names.length];
      add(name, await page.evaluate((name) => window.measure(name), name));
    }
    console.error(`${browserName}: round ${i + 1} of ${rounds}: ${names.map((n) => `${n} ${(1000 * samples[n][i]).toPrecision(3)} ms`).join(", ")}`);
  }
  await page.close();
  const cycling = await open(browser.defaultBrowserContext(), "cycle");
  const pid = browser.process().pid;
  // A page's garbage is no leak; Firefox has no way to ask for its collection.
  const collector = firefox ? null : await cycling.createCDPSession();
  const settle = async () => {
    await collector?.send("HeapProfiler.collectGarbage");
    await new Promise((done) => setTimeout(done, 3000));
  };
  await cycling.evaluate((n) => window.cycle(n), 3);
  await settle();
  add("memory-before", memory(pid));
  await cycling.evaluate((n) => window.cycle(n), Number(cycles));
  await settle();
  add("memory-after", memory(pid));
  console.log(JSON.stringify({ version, vectors, samples }));
} finally {
  await browser.close();
  await server.close();
}
