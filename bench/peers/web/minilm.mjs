// MiniLM in ONNX Runtime's WebAssembly, on one thread of a browser's page, for
// `make bench-guest`. Arguments: the folder with node_modules, the model, the
// browser, token ids with commas between them. Prints the runtime's version and the
// number of tokens, then the vector as JSON; then for each number read encodes the
// tokens once, and as many times, and prints the seconds that those took.
import { createReadStream, existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const [packages, model, browserPath, list] = process.argv.slice(2);
const ids = list.split(",").map(Number);
const dist = resolve(packages, "node_modules/onnxruntime-web/dist");
const { version } = JSON.parse(readFileSync(join(dist, "../package.json")));
const puppeteer = createRequire(join(resolve(packages), "x.js"))("puppeteer-core");

const page = `<!doctype html><script type="module">
import * as ort from "/dist/ort.wasm.min.mjs";
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = "/dist/";
window.open_ = async (ids) => {
  const session = await ort.InferenceSession.create("/model", { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  const feeds = { ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]) };
  window.once = () => session.run(feeds);
  return Array.from((await window.once()).mean.data);
};
window.many = async (n) => {
  await window.once();
  const start = performance.now();
  for (let i = 0; i < n; i++) await window.once();
  return (performance.now() - start) / 1000;
};
window.ready = true;
</script>`;
const types = { mjs: "text/javascript", js: "text/javascript", wasm: "application/wasm" };
const server = createServer((request, response) => {
  const path = new URL(request.url, "http://localhost").pathname;
  const file = path === "/model" ? model : path.startsWith("/dist/") ? join(dist, path.slice(6)) : "";
  if (path === "/") {
    response.writeHead(200, { "content-type": "text/html" }).end(page);
  } else if (!path.includes("..") && existsSync(file)) {
    response.writeHead(200, { "content-type": types[path.split(".").pop()] ?? "application/octet-stream" });
    createReadStream(file).pipe(response);
  } else {
    response.writeHead(404).end();
  }
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const browser = await puppeteer.launch({ executablePath: browserPath, headless: true, args: ["--no-sandbox"] });
try {
  const tab = await browser.newPage();
  tab.on("pageerror", (e) => console.error(e.message));
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  await tab.waitForFunction("window.ready");
  const vector = await tab.evaluate((ids) => window.open_(ids), ids);
  console.log(version, ids.length);
  console.log(JSON.stringify(vector));
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(await tab.evaluate((n) => window.many(n), Number(line)));
  }
} finally {
  await browser.close();
  server.close();
}
