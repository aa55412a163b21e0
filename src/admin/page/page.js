// Keeps the status page current: replaces the sections that have changed, and counts the relative times on.
"use strict";

const live = document.getElementById("live");
const pause = document.getElementById("pause");
const announcement = document.getElementById("announcement");
const waiting = new Map();
let ahead = 0; // How far bondgate's clock is ahead of this one, in milliseconds.
let source;
let lost; // The timer that reports a lost connection.

const unit = (seconds) => {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  if (seconds < 63072000) return `${Math.floor(seconds / 86400)} d`;
  return `${Math.floor(seconds / 31536000)} years`;
};

const relative = (at) => {
  const seconds = Math.trunc((at - Date.now() - ahead) / 1000);
  if (seconds === 0) return "now";
  return seconds > 0 ? `in ${unit(seconds)}` : `${unit(-seconds)} ago`;
};

const countTimes = (root) => {
  for (const time of root.querySelectorAll("time")) {
    const text = relative(Date.parse(time.dateTime));
    const ago = time.querySelector(".ago");
    if (ago.textContent !== text) ago.textContent = text;
  }
};

const isSelected = (section) => {
  const selection = document.getSelection();
  return !selection.isCollapsed && selection.containsNode(section, true);
};

// What is selected stays as it is, to be copied.
const show = () => {
  if (isPaused()) return;
  for (const [id, html] of waiting) {
    const section = document.getElementById(id);
    if (!section || isSelected(section)) continue;
    section.innerHTML = html;
    countTimes(section);
    waiting.delete(id);
  }
  const verdict = document.getElementById("verdict").textContent;
  if (announcement.textContent !== verdict) {
    if (announcement.dataset.begun) announcement.textContent = verdict;
    announcement.dataset.begun = "yes";
  }
  document.title = `${verdict} \u00b7 bondgate`;
};

const isPaused = () => pause.getAttribute("aria-pressed") === "true";

const tell = (state, text) => {
  document.body.dataset.live = state;
  live.textContent = text;
};

const tellConnected = () => {
  clearTimeout(lost);
  lost = undefined;
  tell("on", isPaused() ? "Paused" : "Live");
};

const connect = () => {
  source = new EventSource("events");
  source.addEventListener("sections", (event) => {
    const { now, sections } = JSON.parse(event.data);
    ahead = Date.parse(now) - Date.now();
    for (const [id, html] of Object.entries(sections)) waiting.set(id, html);
    show();
    tellConnected();
  });
  source.addEventListener("open", tellConnected);
  source.addEventListener("error", () => {
    // A stream ends from time to time, and the browser opens the next one after a second.
    lost ??= setTimeout(() => tell("off", "No connection: this is the last known state"), 4000);
    if (source.readyState !== EventSource.CLOSED) return;
    // bondgate refused it, or something else responds in its place.
    source.close();
    setTimeout(connect, 5000);
  });
};

pause.hidden = false;
pause.addEventListener("click", () => {
  pause.setAttribute("aria-pressed", String(!isPaused()));
  pause.textContent = isPaused() ? "Resume updates" : "Pause updates";
  if (document.body.dataset.live === "on") tell("on", isPaused() ? "Paused" : "Live");
  show();
});
setInterval(() => {
  if (!isPaused()) countTimes(document);
}, 1000);
document.addEventListener("selectionchange", () => {
  if (document.getSelection().isCollapsed) show();
});
// A page that the browser keeps must hold no connection.
addEventListener("pagehide", () => source.close());
addEventListener("pageshow", (event) => {
  if (event.persisted) connect();
});
tell("off", "Connecting");
connect();
