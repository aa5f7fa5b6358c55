// What the server can't do: local times, copying, staleness, one act a click, and sending files in pieces.
// Everything else is HTML from the server. Nothing here writes HTML.
(() => {
  "use strict";

  const $ = (selector) => document.querySelector(selector);
  const every = (selector, act, within = document) => within.querySelectorAll(selector).forEach(act);

  // Times are written in UTC; the viewer sees their own zone, and UTC on hover.
  const clock = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false});
  const day = new Intl.DateTimeFormat(undefined, {day: "numeric", month: "short"});
  const year = new Intl.DateTimeFormat(undefined, {day: "numeric", month: "short", year: "numeric"});
  const shown = (at, now) => {
    if (at.toDateString() === now.toDateString()) return clock.format(at);
    return `${(at.getFullYear() === now.getFullYear() ? day : year).format(at)}, ${clock.format(at)}`;
  };
  const localTimes = () => every("time[datetime]", (time) => {
    const local = shown(new Date(time.dateTime), new Date());
    if (time.textContent !== local) time.textContent = local;
  });

  // An id is copied whole by a click on it.
  const say = (text) => {
    const said = $("#said");
    if (said) said.textContent = text;
  };
  document.addEventListener("click", async (event) => {
    const id = event.target.closest?.("[data-copy]");
    if (!id) return;
    try {
      await navigator.clipboard.writeText(id.dataset.copy);
      id.classList.add("copied");
      say("copied");
      setTimeout(() => id.classList.remove("copied"), 900);
    } catch {
      getSelection().selectAllChildren(id);
    }
  });

  // A form is sent once, however often its button is pressed; coming back to the page makes it usable again.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
    form.setAttribute("aria-busy", "true");
  });
  addEventListener("pageshow", () => every("form[data-sent]", (form) => {
    delete form.dataset.sent;
    form.removeAttribute("aria-busy");
  }));

  // A dangerous button waits until what must be typed is there.
  const armed = (input) => {
    const button = input.form?.querySelector("[data-armed]");
    const digits = (text) => text.replace(/[\s.,]/g, "");
    if (button) button.disabled = digits(input.value) !== digits(input.dataset.want);
  };
  document.addEventListener("input", (event) => {
    if (event.target.dataset?.want) armed(event.target);
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|SELECT)$/.test(document.activeElement?.tagName ?? "")) return;
    event.preventDefault();
    $("#quick")?.focus();
  });

  // The live part says since when it is stale.
  const QUIET_MS = 9000;
  const live = $("#live");
  let heard = Date.now(), tried = heard, ended = false, connected = false;
  const fresh = () => {
    heard = Date.now();
    $("#stale").hidden = true;
  };
  const stale = () => {
    if (!live?.hasAttribute("hx-sse:connect")) return;
    if (Date.now() - heard < QUIET_MS && !ended) return;
    const told = $("#stale");
    const since = new Date(heard).toLocaleTimeString();
    const text = ended
      ? "Your session has ended. Open the link that the console printed where it was started."
      : `What you see is of ${since}: the console or Redis doesn’t answer. It goes on by itself.`;
    if (told.textContent !== text) told.textContent = text;
    told.hidden = false;
    // htmx tries again where a connection ended, but not where the first one never began.
    if (connected || ended || Date.now() - tried < QUIET_MS) return;
    tried = Date.now();
    htmx.ajax("GET", live.getAttribute("hx-sse:connect"), {source: live}).catch(() => {});
  };
  if (live) {
    live.addEventListener("htmx:sse:after:connection", () => { connected = true; });
    live.addEventListener("htmx:sse:close", () => { connected = false; });
    live.addEventListener("htmx:sse:after:message", (event) => {
      if (event.detail.message.event !== "away") fresh();
    });
    live.addEventListener("htmx:sse:error", (event) => {
      ended = event.detail.status === 401;
      stale();
    });
    new MutationObserver(localTimes).observe(live, {childList: true, subtree: true, characterData: true});
    setInterval(stale, 1000);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) heard = Date.now(); });
  }

  const ask = async (path, options = {}) => {
    const headers = {accept: "text/plain", "x-csrf-token": $("meta[name=csrf]").content, ...options.headers};
    const answer = await fetch(path, {...options, headers});
    if (!answer.ok) {
      throw Object.assign(new Error(await answer.text() || answer.status), {status: answer.status});
    }
    return answer.json();
  };

  // What the vendor's support has answered is small: it goes up in one piece, and is shown before it is used.
  $("#answer")?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target, file = form.elements.file.files[0];
    if (!file) return;
    try {
      const which = new URLSearchParams({name: file.name, org: form.dataset.org});
      const {id} = await ask(`said?${which}`, {method: "PUT", body: file});
      location.assign(`said?id=${id}`);
    } catch (error) {
      $("#answer-said").textContent = `${file.name} wasn’t read: ${error.message}`;
    }
  });

  // A file goes up in pieces, each behind the bytes before it; what is there already isn't sent again.
  const drop = $("#drop");
  if (drop) {
    const form = $("#upload"), told = $("#upload-said"), sent = $("#sent"), stop = $("#stop");
    let stopped = false;
    const known = (file, org) => `upload ${org} ${file.name} ${file.size} ${file.lastModified}`;
    const where = async (file, org) => {
      const before = localStorage.getItem(known(file, org));
      if (before) {
        try { return await ask(`piece?id=${before}`); } catch (error) { if (error.status !== 404) throw error; }
      }
      const fields = new URLSearchParams({name: file.name, size: file.size, org, csrf: $("meta[name=csrf]").content});
      const made = await ask("upload", {method: "POST", body: fields});
      localStorage.setItem(known(file, org), made.id);
      return made;
    };
    const wait = (ms) => new Promise((go) => setTimeout(go, ms));
    const upload = async (file, org) => {
      stopped = false;
      stop.hidden = sent.hidden = false;
      sent.max = Math.max(1, file.size);
      let {id, offset} = await where(file, org), tries = 0;
      while (offset < file.size && !stopped) {
        sent.value = offset;
        told.textContent = `${Math.floor(100 * offset / file.size)} % of ${file.name}`;
        try {
          const body = file.slice(offset, offset + Number(drop.dataset.piece));
          ({offset} = await ask(`piece?id=${id}&offset=${offset}`, {method: "PUT", body}));
          tries = 0;
        } catch (error) {
          if (error.status && error.status < 500 || ++tries > 60) throw error;
          told.textContent = "The console doesn’t answer; it is tried again.";
          await wait(Math.min(5000, 500 * tries));
        }
      }
      stop.hidden = true;
      if (stopped) { told.textContent = "Stopped. Choose the same file again, and it goes on."; return; }
      localStorage.removeItem(known(file, org));
      location.assign(`staged?id=${id}`);
    };
    const begin = (file) => upload(file, form.elements.org.value).catch((error) => {
      stop.hidden = true;
      told.textContent = `${file.name} wasn’t uploaded: ${error.message}`;
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (form.elements.file.files[0]) begin(form.elements.file.files[0]);
    });
    stop.addEventListener("click", () => { stopped = true; });
    for (const name of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(name, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", name === "dragover");
        if (name === "drop" && event.dataTransfer.files[0]) begin(event.dataTransfer.files[0]);
      });
    }
  }

  // What is still being looked for is asked for again, unless somebody is filling in a form.
  const again = $("[data-again]");
  const busy = () => document.hidden || /^(INPUT|SELECT)$/.test(document.activeElement?.tagName ?? "");
  // What somebody changed in its forms stands there again afterwards.
  const fields = () => [...document.querySelectorAll("form[method=post] :is(input, select)[name]")]
    .filter((field) => field.type !== "hidden");
  const changed = (field) => field.tagName === "SELECT"
    ? [...field.options].some((option) => option.selected !== option.defaultSelected)
    : field.type === "checkbox" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
  const kept = `kept ${location.pathname}${location.search}`;
  const reload = () => {
    const said = fields().filter(changed).map((field) => [field.name, field.value, field.checked]);
    sessionStorage.setItem(kept, JSON.stringify(said));
    location.reload();
  };
  const restore = () => {
    for (const [name, value, checked] of JSON.parse(sessionStorage.getItem(kept) ?? "[]")) {
      const field = fields().find((one) => one.name === name);
      if (field) Object.assign(field, field.type === "checkbox" ? {checked} : {value});
    }
    sessionStorage.removeItem(kept);
  };
  restore();
  if (again) setInterval(() => { if (!busy()) reload(); }, 1000 * Number(again.dataset.again));

  // The zone that is probably meant is only proposed.
  every("[data-zone]", (input) => {
    input.placeholder = `such as ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
  });

  localTimes();
  every("[data-want]", armed);
})();
