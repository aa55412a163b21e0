// Looks at the status page in each of its states; see .ci/page.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const screenshots = join(here, "screenshots");
const api = "/sb-partner-oauth-proxy-api/rest/v1";
const widths = [1440, 820, 390];
const problems = [];

const fail = (text) => {
  problems.push(text);
  console.log(`  FAILED: ${text}`);
};

const until = async (what, condition) => {
  const end = Date.now() + 60_000;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
};

// A demo: bondgate, with a simulator in place of Cisco.
class Demo {
  static async start() {
    const demo = new Demo();
    demo.process = spawn(process.env.BONDGATE_TEST_PROGRAM, ["demo", "--listen", "127.0.0.1:0"]);
    demo.output = "";
    for (const stream of [demo.process.stdout, demo.process.stderr]) {
      stream.on("data", (data) => (demo.output += data));
    }
    demo.ended = new Promise((resolve) => demo.process.on("close", resolve));
    const place = (pattern) => until(pattern, () => demo.output.match(pattern)?.[1]);
    demo.admin = await place(/Status and metrics: (http:\S+)/);
    demo.control = await place(/(http:\S+)\/seen/);
    demo.callers = await place(/(http:\S+)\/sb-partner/);
    return demo;
  }

  async send(method, path, headers = {}, body) {
    const { status } = await fetch(this.callers + path, { method, headers, body }).catch(() => ({ status: 0 }));
    return status;
  }

  fault(fault) {
    return this.ask("faults", { method: "POST", body: JSON.stringify(fault) });
  }

  async ask(path, options) {
    const response = await fetch(`${this.control}/${path}`, options);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  }

  async status() {
    return (await fetch(`${this.admin}status.json`)).json();
  }

  token(state) {
    return until(`a token that is ${state}`, async () => (await this.status()).upstreams[0].token.state === state);
  }

  async traffic() {
    const json = { "Content-Type": "application/json" };
    const ticket = '{"Calls":{"CustCallID":"INC0001"},"CallStates":{"ShortName":"New"}}';
    for (let turn = 0; turn < 6; turn++) {
      await this.send("GET", `${api}/pull/call`, { "X-Correlation-ID": `5f0c1f9e-${turn}-4a7e-8d3b-1c2d3e4f5a6b` });
      await this.send("POST", `${api}/push/call`, json, ticket);
    }
    await this.send("GET", `${api}/${"a-very-long-segment-".repeat(12)}?password=hidden`);
    await this.send("GET", "/%3Cscript%3Ealert(1)%3C/script%3E");
    await this.send("DELETE", `${api}/pull/call`);
    await this.sendRaw("GET / HTTP/1.1\r\nHost: not a host\r\n\r\n");
  }

  // Sends bytes that no client library would, and waits for the end of the connection.
  sendRaw(bytes) {
    const { hostname, port } = new URL(this.callers);
    return new Promise((resolve, reject) => {
      const socket = net.connect(Number(port), hostname, () => socket.end(bytes));
      socket.on("error", reject);
      socket.on("close", resolve);
      socket.resume();
    });
  }

  async stop() {
    this.process.kill("SIGKILL");
    await this.ended;
  }
}

const states = {
  async fresh(demo) {
    await demo.traffic();
  },
  async empty() {},
  async degraded(demo) {
    await demo.ask("lifetime", { method: "PUT", body: "40" });
    await demo.ask("revoke", { method: "POST" });
    await demo.traffic();
    await demo.fault({ on: "token", times: "forever", kind: { status: { code: 503 } } });
    await demo.token("degraded");
  },
  async "api-down"(demo) {
    await demo.traffic();
    await demo.fault({ on: "push", times: "forever", kind: "reset" });
    await demo.fault({ on: "pull", times: "forever", kind: { status: { code: 502 } } });
    await demo.traffic();
  },
  async misconfigured(demo) {
    const status = { code: 401, body: '{"error":"invalid_client"}' };
    await demo.fault({ on: "token", times: "forever", kind: { status } });
    await demo.ask("revoke", { method: "POST" });
    await demo.traffic();
    await demo.token("misconfigured");
  },
  async draining(demo) {
    await demo.traffic();
    await demo.fault({ on: "push", kind: { slow: { ms: 20_000 } } });
    const request = http.request(`${demo.callers}${api}/push/call`, { method: "POST" });
    request.on("error", () => {});
    request.end("{}");
    await until("the request", async () => /push/.test(await (await fetch(`${demo.control}/seen?last=1`)).text()));
    demo.process.kill("SIGTERM");
    await until("the stop", async () => (await demo.status()).phase === "stopping");
  },
};

// Checks a page that is open.
const look = async (page, name) => {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  for (const violation of violations) {
    const nodes = violation.nodes.map((node) => node.target.join(" "));
    fail(`${name}: ${violation.id} (${violation.help}) at ${nodes.slice(0, 3).join(", ")}`);
  }
  const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  if (content > width) fail(`${name}: ${content} px wide in a window of ${width} px`);
};

const open = async (browser, demo, options, name) => {
  const context = await browser.newContext({ bypassCSP: false, ...options });
  const page = await context.newPage();
  page.on("console", (message) => {
    // Nothing responds once bondgate has ended, and documents that are no page have no symbol.
    const isExpected = /ERR_(CONNECTION|INCOMPLETE)/.test(message.text()) || message.location().url.endsWith("favicon.ico");
    if (message.type() === "error" && !isExpected) fail(`${name}: ${message.text()}`);
  });
  page.on("pageerror", (error) => fail(`${name}: ${error}`));
  await page.goto(demo.admin);
  return page;
};

// Whether this state ends by itself within seconds: each photograph needs a demo of its own.
const isShort = (state) => state === "draining";

const photograph = async (browser, demo, state, width) => {
  for (const colorScheme of ["light", "dark"]) {
    const name = `${state}-${width}-${colorScheme}`;
    const page = await open(browser, demo, { viewport: { width, height: 900 }, colorScheme }, name);
    await page.waitForSelector('[data-live="on"]');
    await look(page, name);
    if (width > 360) await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
    await page.context().close();
  }
};

const readWithoutScript = async (browser, demo, state) => {
  const name = `${state} without a script`;
  const page = await open(browser, demo, { javaScriptEnabled: false }, name);
  const text = await page.locator("main").innerText();
  const parts = ["Upstreams", "The last hour", "Spool", "Listeners", "Certificates", "Refused connections", "Last requests"];
  if (state === "fresh") parts.push("request-malformed");
  if (state === "draining") parts.push("at the latest");
  for (const part of parts) {
    if (!text.includes(part)) fail(`${name}: no ${part}`);
  }
  if (!text.includes("ago")) fail(`${name}: no relative time`);
  await page.screenshot({ path: join(screenshots, `${state}-without-script.png`), fullPage: true });
  await page.context().close();
};

// Uses the page as an operator does.
const use = async (browser, demo) => {
  const page = await open(browser, demo, { viewport: { width: 1440, height: 900 } }, "use");
  await page.waitForSelector('[data-live="on"]');
  const rows = page.locator("#requests tbody tr");
  const path = `${api}/push/call`;
  await demo.send("POST", path, { "X-Correlation-ID": "seen-by-event" }, "{}");
  await page.locator("#requests", { hasText: "seen-by-event" }).waitFor({ timeout: 10_000 });
  await page.keyboard.press("Tab");
  if ((await page.evaluate(() => document.activeElement.id)) !== "pause") fail("the first tab stop is not the button");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Resume updates" }).waitFor();
  const before = await rows.first().innerText();
  const event = page.waitForFunction(() => waiting.has("requests"));
  await demo.send("POST", path, { "X-Correlation-ID": "while-paused" }, "{}");
  await event;
  if ((await rows.first().innerText()) !== before) fail("a paused page changes");
  await page.getByRole("button", { name: "Resume updates" }).click();
  await page.locator("#requests", { hasText: "while-paused" }).waitFor();
  for (const name of ["status.json", "metrics", "readyz", "livez"]) {
    const response = page.waitForResponse((response) => response.url().includes(name));
    await page.getByRole("link", { name }).click();
    if (!(await response).ok()) fail(`${name} does not open`);
    // Chromium saves some of them as files.
    await page.goto(demo.admin);
    await page.waitForSelector('[data-live="on"]');
  }
  const stopped = page.getByText("No connection").waitFor({ timeout: 30_000 });
  demo.process.kill("SIGTERM");
  await stopped;
  await page.context().close();
};

const main = async () => {
  mkdirSync(screenshots, { recursive: true });
  const profile = mkdtempSync(join(tmpdir(), "bondgate-page-"));
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
    env: { ...process.env, HOME: profile },
  });
  try {
    const wanted = process.argv.slice(2);
    for (const [state, prepare] of Object.entries(states)) {
      if (wanted.length && !wanted.includes(state)) continue;
      console.log(state);
      const steps = [...widths, 360].map((width) => (demo) => photograph(browser, demo, state, width));
      steps.push((demo) => readWithoutScript(browser, demo, state));
      if (state === "fresh") steps.push((demo) => use(browser, demo));
      const demos = isShort(state) ? steps.map((step) => [step]) : [steps];
      for (const steps of demos) {
        const demo = await Demo.start();
        try {
          await prepare(demo);
          for (const step of steps) await step(demo);
        } finally {
          await demo.stop();
        }
      }
    }
  } finally {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
  }
  if (problems.length) {
    console.log(`${problems.length} checks failed`);
    process.exitCode = 1;
  } else {
    console.log("The status page holds.");
  }
};

await main();
