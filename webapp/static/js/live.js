// What a page does by itself: keeps its parts current, counts ages, flashes changed numbers, shows toasts.
"use strict";
(() => {
  const TOAST_STAYS = 7000;
  const clockSkew = Date.parse(document.body.dataset.now) - Date.now();

  // ------------------------------------------------------------ polling

  const isPoll = (event) => event.detail?.ctx?.sourceEvent?.type === "every";

  document.addEventListener("htmx:config:request", (event) => {
    if (!isPoll(event)) return;
    const part = event.detail.ctx.sourceElement;
    const held = part.hasAttribute("data-hold") && part.matches(":hover, :focus-within");
    const isOpen = part.querySelector("details.drop[open]");
    if (document.hidden || held || isOpen) event.preventDefault();
  });

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refresh();
  });

  function refresh() {
    document.body.dispatchEvent(new CustomEvent("refresh"));
  }

  // ------------------------------------------------------------ connection

  const offline = document.getElementById("offline");
  let failures = 0;

  function connected(is) {
    if (offline) offline.hidden = is;
    document.body.classList.toggle("is-offline", !is);
  }

  function failed() {
    failures += 1;
    if (failures >= 2) connected(false);
  }

  document.addEventListener("htmx:error", (event) => {
    if (event.detail?.ctx) failed();
  });
  document.addEventListener("htmx:response:error", (event) => {
    const status = event.detail.ctx.response.status;
    if (status >= 500 || status === 429) failed();
    else if (!isPoll(event)) say(`Not done: ${event.detail.ctx.text ? plain(event.detail.ctx.text) : status}`);
  });
  document.addEventListener("htmx:after:request", (event) => {
    if (event.detail.ctx.response.status >= 400) return;
    failures = 0;
    connected(true);
    // htmx does so only with its history, which would bring back numbers that are out of date.
    const shown = event.detail.ctx.sourceElement?.getAttribute("hx-replace-url");
    if (shown) history.replaceState(history.state, "", shown);
  });

  function plain(html) {
    return new DOMParser().parseFromString(html, "text/html").body.textContent.trim().slice(0, 300);
  }

  // ------------------------------------------------------------ changed numbers

  const before = new WeakMap();

  const numbersIn = (element) => element.querySelectorAll?.("[data-n]") ?? [];

  document.addEventListener("htmx:before:swap", (event) => {
    for (const task of event.detail.tasks ?? []) {
      if (!(task.target instanceof Element)) continue;
      for (const number of numbersIn(task.target)) before.set(number, number.textContent);
    }
  });

  document.addEventListener("htmx:after:settle", (event) => {
    for (const number of numbersIn(event.target)) {
      const was = before.get(number);
      if (was === undefined || was === number.textContent) continue;
      number.classList.remove("flash");
      void number.offsetWidth; // so that the animation starts again
      number.classList.add("flash");
    }
    countAges();
    for (const toast of event.target.querySelectorAll?.(".toast") ?? []) tend(toast);
    if (event.target.matches?.(".toast")) tend(event.target);
  });
  document.addEventListener("animationend", (event) => {
    if (event.animationName === "flash") event.target.classList.remove("flash");
  });

  // ------------------------------------------------------------ ages

  function duration(seconds) {
    const s = Math.max(0, Math.floor(seconds));
    for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
      if (s >= 2 * size) return `${Math.floor(s / size)}\u00a0${unit}`;
    }
    return `${s}\u00a0s`;
  }

  function countAges() {
    const now = Date.now() + clockSkew;
    for (const time of document.querySelectorAll("time[data-age]")) {
      const text = duration((now - Date.parse(time.dateTime)) / 1000);
      if (time.textContent !== text) time.textContent = text;
    }
  }
  setInterval(countAges, 1000);

  // ------------------------------------------------------------ toasts

  const toasts = document.getElementById("toasts");
  const tended = new WeakSet();

  function tend(toast) {
    if (tended.has(toast) || toast.dataset.leaves !== "yes") return;
    tended.add(toast);
    setTimeout(() => leave(toast), TOAST_STAYS);
  }

  function leave(toast) {
    if (toast.matches(":hover, :focus-within")) setTimeout(() => leave(toast), 2000);
    else toast.remove();
  }

  function say(text) {
    const toast = document.createElement("div");
    toast.className = "toast bad";
    toast.setAttribute("role", "alert");
    const dot = document.createElement("span");
    dot.className = "dot bad";
    const words = document.createElement("span");
    words.textContent = text;
    const close = document.createElement("button");
    close.className = "link close";
    close.type = "button";
    close.dataset.close = "";
    close.textContent = "✕";
    close.setAttribute("aria-label", "Close");
    toast.append(dot, words, close);
    toasts.append(toast);
  }

  for (const toast of document.querySelectorAll(".toast")) tend(toast);

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-close]")) event.target.closest(".toast, .notice")?.remove();
    for (const drop of document.querySelectorAll("details.drop[open]")) {
      if (!drop.contains(event.target)) drop.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const drop of document.querySelectorAll("details.drop[open]")) {
      drop.open = false;
      drop.querySelector("summary").focus();
    }
  });

  // ------------------------------------------------------------ asking the engine

  function newToken() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
  }

  // The press is answered at once; the truth follows in the toast.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form[data-command], form[data-waits]")) return;
    const button = event.submitter ?? form.querySelector("button[type=submit]");
    if (!button) return;
    if (button.classList.contains("is-asked")) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return;
    }
    button.classList.add("is-asked");
    button.dataset.label = button.textContent;
  }, true);

  document.addEventListener("htmx:finally:request", (event) => {
    const form = event.detail?.ctx?.sourceElement;
    if (!form?.matches?.("form[data-command]")) return;
    const token = form.querySelector("input[name=command_id]");
    if (token) token.value = newToken();
    for (const button of form.querySelectorAll(".is-asked")) button.classList.remove("is-asked");
  });
  document.addEventListener("htmx:confirm", (event) => {
    // a dropped confirmation ends without a request: take the press back
    const form = event.detail?.ctx?.sourceElement;
    setTimeout(() => {
      for (const button of form?.querySelectorAll?.(".is-asked") ?? []) button.classList.remove("is-asked");
    }, 0);
  });
  window.addEventListener("pageshow", () => {
    for (const button of document.querySelectorAll(".is-asked")) button.classList.remove("is-asked");
  });

  // A command's answer arrives as a toast of its own.
  document.addEventListener("htmx:after:request", (event) => {
    const { ctx } = event.detail;
    if (!ctx.sourceElement?.matches?.("form[data-command]") || ctx.response.status >= 400) return;
    const holder = document.createElement("template");
    holder.innerHTML = ctx.text;
    const toast = holder.content.firstElementChild;
    if (!toast?.matches(".toast")) return;
    document.getElementById(toast.id)?.remove();
    toasts.append(toast);
    htmx.process(toast);
    tend(toast);
  });

  // ------------------------------------------------------------ small conveniences

  // Choices that act at once: filters and the like. Without JavaScript there is a button.
  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-at-once]");
    if (form) form.requestSubmit();
  });

  countAges();
})();
