// The ticket with a keyboard and a chart beside it. Everything here also works without this file.
"use strict";
(() => {
  const ticket = () => document.getElementById("ticket");
  const form = () => document.getElementById("ticket-form");
  const chart = () => document.getElementById("candles");
  const clockSkew = Date.parse(document.body.dataset.now) - Date.now();
  const now = () => Date.now() + clockSkew;

  const field = (name) => form()?.elements.namedItem(name);
  const isTyping = (element) => element?.matches?.("input:not([type=radio]):not([type=checkbox]), select, textarea");

  // ------------------------------------------------------------ keys

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !form()) return;
    if (event.key === "Escape") {
      if (ticket().contains(document.activeElement) || !isTyping(document.activeElement)) clear(event);
      return;
    }
    if (isTyping(event.target)) return;
    const side = { b: "buy", s: "sell" }[event.key.toLowerCase()];
    if (!side) return;
    const radio = document.getElementById(`f-side-${side}`);
    if (!radio || radio.matches(":disabled")) return;
    radio.checked = true;
    radio.dispatchEvent(new Event("change", { bubbles: true }));
    field("size").focus();
    field("size").select();
    event.preventDefault();
  });

  // Esc: away with the preview; once there is none, away with what is typed.
  function clear(event) {
    const shown = document.getElementById("preview") ?? document.getElementById("outcome");
    if (shown) shown.remove();
    else {
      for (const input of form().querySelectorAll("input")) {
        if (input.type === "checkbox") input.checked = false;
        else if (input.type === "text" || input.type === "datetime-local") input.value = "";
      }
      for (const wrong of form().querySelectorAll(".is-wrong")) wrong.classList.remove("is-wrong");
      for (const said of form().querySelectorAll(".error, .error-text")) said.remove();
    }
    history.replaceState(null, "", ticket().dataset.fresh);
    draw();
    event.preventDefault();
  }

  // What opens a form below a row is a link that acts like a button: Space presses it too.
  document.addEventListener("keydown", (event) => {
    if (event.key !== " " || !event.target.matches?.("a[role=button]")) return;
    event.preventDefault();
    event.target.click();
  });

  // ------------------------------------------------------------ size by share

  document.addEventListener("click", (event) => {
    const share = event.target.closest("#ticket-form button[name=share]");
    if (!share) return;
    event.preventDefault();
    field("size").value = share.value;
    field("size_in").value = "percent";
    const held = Number(ticket().dataset.held);
    const side = form().querySelector("input[name=side]:checked")?.value;
    field("reduce_only").checked = side === "sell" ? held > 0 : held < 0;
    outdated();
  }, true);

  // ------------------------------------------------------------ prices from quote and chart

  let priced = null; // the price field that a click fills: the last one used
  document.addEventListener("focusin", (event) => {
    if (event.target.matches?.("#ticket-form [data-price]")) priced = event.target;
  });

  function take(text) {
    const isShown = (input) => input && input.offsetParent !== null && !input.matches(":disabled");
    const first = [...(form()?.querySelectorAll("[data-price]") ?? [])].find(isShown);
    const into = priced?.isConnected && isShown(priced) ? priced : first;
    if (!into) return;
    into.value = text;
    into.focus();
    outdated();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-take]");
    if (button) take(button.dataset.take);
  });
  document.addEventListener("pointed", (event) => {
    const { price, decimals } = event.detail;
    const step = Number(field("limit_price")?.getAttribute("step"));
    take((step ? Math.round(price / step) * step : price).toFixed(decimals));
  });

  // ------------------------------------------------------------ prices into the chart

  const titles = { limit_price: "limit", stop_price: "trigger", stop_loss: "stop", take_profit: "target" };

  function draw() {
    const levels = [];
    for (const [name, text] of Object.entries(titles)) {
      const input = field(name);
      const price = Number(input?.value);
      if (input && input.offsetParent !== null && price > 0) levels.push({ price, text: `${text}?`, kind: "ticket" });
    }
    chart()?.dispatchEvent(new CustomEvent("levels", { detail: levels }));
  }

  // A preview of something else than what is typed now must not be sent.
  function outdated() {
    document.getElementById("preview")?.remove();
    draw();
  }
  for (const kind of ["input", "change"]) {
    document.addEventListener(kind, (event) => {
      if (event.target.closest("#ticket-form")) outdated();
    });
  }

  // ------------------------------------------------------------ the age of a preview

  setInterval(() => {
    const preview = document.getElementById("preview");
    if (!preview || now() < Date.parse(preview.dataset.stale)) return;
    if (preview.classList.contains("is-stale")) return;
    preview.classList.add("is-stale");
    const send = preview.querySelector(".send");
    if (send && !send.disabled) {
      send.textContent = "Preview again";
      preview.querySelector(".stale-note").hidden = false;
    }
  }, 500);

  // ------------------------------------------------------------ after the engine's answer

  document.addEventListener("htmx:after:settle", (event) => {
    const isTicket = event.target.id === "ticket" || event.target.querySelector?.("#ticket");
    if (!isTicket) return;
    history.replaceState(null, "", ticket().dataset.url);
    const wrong = ticket().querySelector("[aria-invalid]");
    const denied = ticket().querySelector(":scope > .flush [role=alert]");
    const shown = document.getElementById("preview") ?? document.getElementById("outcome");
    if (wrong) wrong.focus();
    else if (denied && !shown) denied.scrollIntoView({ block: "center" });
    else if (shown) {
      shown.focus({ preventScroll: true });
      shown.scrollIntoView({ block: "nearest" });
    }
    draw();
  });

  document.addEventListener("htmx:finally:request", (event) => {
    const source = event.detail?.ctx?.sourceElement;
    if (!source?.matches?.("form[data-waits]")) return;
    for (const button of source.querySelectorAll(".is-asked")) button.classList.remove("is-asked");
  });

  window.addEventListener("load", draw);
})();
