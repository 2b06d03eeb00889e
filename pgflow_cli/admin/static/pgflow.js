// What the page does beyond links and forms: updates itself, copies commands, keys.
"use strict";
(() => {
  const body = document.body;
  const kinds = ["queues", "jobs", "alerts"];
  const POLL = 5000;
  const QUIET = 15000;
  const say = (text, on) => {
    const live = document.getElementById("live");
    if (live) { live.textContent = text; live.classList.toggle("on", on); }
  };
  // Copying works where the browser trusts the page: over TLS, and on this host.
  const arm = () => {
    if (!navigator.clipboard) return;
    for (const button of document.querySelectorAll(".copy[hidden]")) button.hidden = false;
  };
  let state = ["", false];
  const tell = (text, on) => { state = [text, on]; say(text, on); };
  // What comes while the panel is asked for would wait on the panel that is replaced,
  // and be forgotten with it: we keep it.
  let asking = false;
  const missed = new Set();
  const refresh = (kind) => {
    if (document.hidden) return;
    if (asking) missed.add(kind);
    else htmx.trigger(body, "pgflow:" + kind);
  };
  body.addEventListener("htmx:beforeSend", () => { asking = true; });
  body.addEventListener("htmx:afterRequest", () => {
    asking = false;
    const kinds = [...missed];
    missed.clear();
    kinds.forEach(refresh);
  });

  // What a visitor types in a panel, has typed there, or marks, stays as it is.
  const inUse = (panel) => {
    const at = document.activeElement;
    if (at && panel.contains(at) && at.matches("input, select, textarea")) return true;
    const typed = [...panel.querySelectorAll("input, textarea")].some((field) => field.value !== field.defaultValue);
    if (typed) return true;
    const marked = getSelection();
    return !marked.isCollapsed && panel.contains(marked.anchorNode);
  };
  body.addEventListener("htmx:beforeRequest", (event) => {
    if (!inUse(event.target)) return;
    event.preventDefault();
    say("on hold while you type or mark text", false);
  });
  // htmx gives the focus back to what has an id; a copy button has its command.
  let scrolled = [];
  let copying = null;
  body.addEventListener("htmx:beforeSwap", (event) => {
    const { target, xhr } = event.detail;
    // A login that has ended answers with the form: what is shown stays.
    const loggedOut = new URL(xhr.responseURL).pathname.endsWith("/login");
    if (loggedOut) tell("logged out: load the page again", false);
    if (loggedOut || inUse(target)) event.detail.shouldSwap = false;
    copying = target.contains(document.activeElement) ? document.activeElement.dataset.copy : null;
    scrolled = [...target.querySelectorAll(".scroll")].map((table) => table.scrollLeft);
  });
  // A wide table stays where the visitor has moved it to.
  body.addEventListener("htmx:afterSwap", () => {
    const tables = document.querySelectorAll("#panel .scroll");
    scrolled.forEach((left, place) => { if (tables[place]) tables[place].scrollLeft = left; });
    arm();
    if (copying) document.querySelector(`#panel [data-copy="${CSS.escape(copying)}"]`)?.focus({ preventScroll: true });
  });
  // Only what is new is read aloud: the same alert with another number is not.
  const told = () => [...document.querySelectorAll("#alerts li > a, #alerts .calm")].map((each) => each.textContent.trim());
  const constant = (text) => text.replace(/[+]?\d[\d.,]*\S*/g, "#");
  let known = new Set(told().map(constant));
  body.addEventListener("htmx:oobAfterSwap", (event) => {
    say(...state);
    if (event.detail.target.id !== "alerts") return;
    const now = told();
    const fresh = now.filter((text) => !known.has(constant(text)));
    known = new Set(now.map(constant));
    const news = document.getElementById("news");
    if (news && fresh.length) news.textContent = fresh.join(". ");
  });
  body.addEventListener("htmx:responseError", (event) => {
    const { status } = event.detail.xhr;
    say("no update: " + (status === 503 ? "no usable database" : "error " + status), false);
  });
  body.addEventListener("htmx:sendError", () => say("no update: the server does not answer", false));

  // Updates are for who looks. A browser has six connections for all its tabs, and the
  // server few places: a tab in the background gives up both.
  let source = null;
  let timer = 0;
  const poll = () => {
    tell("updates every 5 s", true);
    timer = setInterval(() => { refresh("queues"); refresh("jobs"); }, POLL);
  };
  const follow = () => {
    if (!window.EventSource) { poll(); return; }
    // Where nothing happens no event comes, but ages grow and rates fall.
    timer = setInterval(() => { refresh("queues"); refresh("jobs"); }, QUIET);
    source = new EventSource(body.dataset.events);
    source.onopen = () => tell("live", true);
    source.onerror = () => {
      // Closed for good (503, 404): ask now and then. Else it connects again itself.
      if (source.readyState === EventSource.CLOSED) { clearInterval(timer); poll(); }
      else tell("connecting", false);
    };
    for (const kind of kinds) source.addEventListener(kind, () => refresh(kind === "alerts" ? "queues" : kind));
  };
  const rest = () => {
    if (source) source.close();
    clearInterval(timer);
  };
  const attend = () => {
    rest();
    // A new stream begins with the word to look at everything.
    if (!document.hidden) follow();
  };
  if (body.dataset.updates === "on") {
    attend();
    // A screen on a wall comes back by itself.
    if ("retry" in body.dataset) setTimeout(() => location.reload(), QUIET);
    document.addEventListener("visibilitychange", attend);
    addEventListener("pagehide", rest);
    addEventListener("pageshow", (event) => { if (event.persisted) attend(); });
  } else tell("updates are paused", false);

  // Copy buttons.
  arm();
  body.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    button.firstChild.textContent = "Copied";
    setTimeout(() => { button.firstChild.textContent = "Copy"; }, 1500);
  });

  // On a phone the tabs scroll: the present one is in sight.
  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  // Keys: / to the filter, g and a letter to a page, ? for the list.
  let going = 0;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.matches("input, select, textarea")) return;
    const keys = document.getElementById("keys");
    if (keys.open) return;
    if (event.key === "/") {
      const first = document.querySelector(".filter input, .filter select");
      if (first) { event.preventDefault(); first.focus(); }
    } else if (event.key === "?") {
      keys.showModal();
    } else if (event.key === "g") {
      going = Date.now();
    } else if (Date.now() - going < 1500) {
      going = 0;
      document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`)?.click();
    }
  });
})();
