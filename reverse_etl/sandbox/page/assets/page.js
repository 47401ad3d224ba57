// The sandbox's page. Text reaches the document as text only (no HTML is ever made from data), lists come in pages,
// and long JSON is drawn where it is looked at.
"use strict";

const main = document.getElementById("main");
const ROW_PX = 20, CHUNK_ROWS = 400, LONGEST = 2000;
const TABS = { u: "users", r: "requests", e: "errors", d: "drops", c: "catalogs", f: "faults" };
let turn = 0;            // of drawing: the response to an older one is discarded
let view = null;         // what is shown: {tab, refresh?, rejected?}
let sums = null;         // of the last pulse
let moves = 0;           // inside this page, so that Esc can go back
const rates = [];
const focused = new Map();  // address -> the link that was left there

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  const value = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(value.message), { status: answer.status });
  return value;
}

const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined)).toString();
const count = (number) => number.toLocaleString("en");
const many = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;
// Times are written in one way, as on the page of a project, and with their zone.
function moment(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return el("span", {}, iso);
  const [day, time] = [at.toISOString().slice(0, 10), at.toISOString().slice(11, 19)];
  return el("time", { datetime: iso, title: iso }, el("span", { class: "tight" }, day), " ", el("span", { class: "tight" }, `${time} UTC`));
}
// A path may break before each slash.
const path = (text) => el("code", {}, ...text.split("/").flatMap((part, n) => n ? [document.createElement("wbr"), `/${part}`] : [part]));
const took = (seconds) => seconds === null ? "–" : seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms` : `${seconds.toFixed(2)} s`;
const size = (text) => text.length < 1000 ? `${text.length} characters` : text.length < 1e6 ? `${(text.length / 1000).toFixed(1)} KB` : `${(text.length / 1e6).toFixed(1)} MB`;
const userLink = (user) => user.external_id !== null && user.external_id !== "" ? `#/users/${encodeURIComponent(user.external_id)}` : `#/profiles/${user.braze_id}`;

function address() {
  const [path, search = ""] = location.hash.replace(/^#/, "").split("?");
  const parts = path.split("/").slice(1);
  return { tab: parts[0] || "users", name: parts.length > 1 ? decodeURIComponent(parts.slice(1).join("/")) : null, params: new URLSearchParams(search) };
}

// JSON as it came: the text is laid out, never read into numbers, which would lose digits.

function* tokens(text) {
  const pattern = /\s*(?:("[^"\\]*(?:\\.[^"\\]*)*")|([{}[\],:])|([^\s{}[\],:"]+))/sy;
  while (pattern.lastIndex < text.length) {
    const found = pattern.exec(text);
    if (found === null) return;
    yield [found[1] ? "s" : found[2] ? "" : "n", found[1] ?? found[2] ?? found[3]];
  }
}

function short(text) {
  return text.length > LONGEST ? `${text.slice(0, LONGEST)} … ${count(text.length - LONGEST)} more characters` : text;
}

// Rows of laid out JSON: {depth, parts: [[class, text]], at: "attributes/3", key}. `at` names the object of a top-level array.
function layOut(text) {
  const rows = [], stack = [];
  let row = null, key = null, closed = false;
  const here = () => stack.length > 1 && stack[0].kind === "{" && stack[1].kind === "[" ? `${stack[0].key}/${stack[1].index}` : null;
  const put = (kind, part) => {
    if (row === null) rows.push(row = { depth: stack.length, parts: [], at: here(), key: stack.length ? stack.at(-1).key : null });
    row.parts.push([kind, part]);
  };
  let previous = "";
  for (const [kind, token] of tokens(text)) {
    const top = stack.at(-1);
    if (token === "{" || token === "[") {
      put("", token);
      stack.push({ kind: token, key: null, index: 0 });
      row = null;
    } else if ((token === "}" || token === "]") && kind === "") {
      const isEmpty = previous === "{" || previous === "[";
      stack.pop();
      if (isEmpty && rows.length) row = rows.at(-1); else row = null;
      put("", token);
    } else if (token === "," && kind === "") {
      put("", ",");
      row = null;
      if (top) { top.index += 1; top.key = top.kind === "{" ? null : top.key; }
    } else if (token === ":" && kind === "") put("", ": ");
    else if (kind === "s" && top && top.kind === "{" && top.key === null) {
      try { top.key = JSON.parse(token); } catch { top.key = token; }
      put("k", short(token));
    } else put(kind, short(token));
    previous = kind === "" ? token : "";
  }
  return rows;
}

function isJson(text) {
  try { JSON.parse(text); return true; } catch { return false; }
}

function inline(text) {
  return el("code", { class: "json-inline" }, ...[...tokens(text.length > 20000 ? text.slice(0, 20000) : text)].map(([kind, token]) =>
    kind ? el("span", { class: kind }, short(token)) : token === "," || token === ":" ? `${token} ` : token), text.length > 20000 ? " …" : "");
}

// A box of JSON. `marks`: "attributes/3" -> {class, notes}; `origin` marks one row more.
function jsonBox(text, label, marks = new Map(), isOrigin = () => false) {
  const box = el("div", { class: "json mono", tabindex: "0", role: "region", "aria-label": label });
  let rows = isJson(text) ? layOut(text) : text.split("\n").map((line) => ({ depth: 0, parts: [["", short(line)]], at: null }));
  const noted = new Set();
  rows = rows.flatMap((row) => {
    const mark = row.at === null ? undefined : marks.get(row.at);
    row.mark = mark;
    row.origin = isOrigin(row);
    if (!mark || noted.has(row.at)) return [row];
    noted.add(row.at);
    return [...mark.notes.map((note) => ({ depth: row.depth, parts: [["", note.text]], at: row.at, mark, note: note.class })), row];
  });
  const draw = (row) => el("div", {
    class: ["row", row.mark?.class, row.note ? `note ${row.note}` : "", row.origin ? (row.origin === "exact" ? "origin exact" : "origin") : ""].filter(Boolean).join(" "),
    "data-at": row.note ? row.at : null,
  }, "  ".repeat(row.depth), ...row.parts.map(([kind, part]) => kind ? el("span", { class: kind }, part) : part));
  const chunks = [];
  const fill = (chunk) => {
    if (chunk.childElementCount) return;
    chunk.style.height = "";
    chunk.append(...rows.slice(chunk.start, chunk.start + CHUNK_ROWS).map(draw));
  };
  for (let start = 0; start < rows.length; start += CHUNK_ROWS) {
    const chunk = el("div", { class: "chunk" });
    chunk.start = start;
    chunk.style.height = `${Math.min(CHUNK_ROWS, rows.length - start) * ROW_PX}px`;
    chunks.push(chunk);
  }
  if (chunks.length <= 6) chunks.forEach(fill);
  else {
    const watcher = new IntersectionObserver((seen) => seen.filter((one) => one.isIntersecting).forEach((one) => fill(one.target)), { root: box, rootMargin: "800px" });
    chunks.forEach((chunk) => watcher.observe(chunk));
  }
  box.append(...chunks);
  box.show = (wanted) => {
    const at = rows.findIndex(wanted);
    if (at < 0) return false;
    const chunk = chunks[Math.floor(at / CHUNK_ROWS)];
    fill(chunk);
    const shown = chunk.children[at % CHUNK_ROWS];
    box.scrollTop = Math.max(0, shown.offsetTop - box.offsetTop - 3 * ROW_PX);
    return true;
  };
  return box;
}

// Parts

function status(request) {
  const text = request.status === null ? "no response" : String(request.status);
  const tone = request.is_probe ? "" : request.status === null || request.status >= 400 ? "bad" : "good";
  return el("span", { class: `pill ${tone}` }, text);
}

const probe = (request) => request.is_probe ? el("span", { class: "pill", title: "An empty request, such as those of retl debug: the key may use this endpoint. It changes nothing." }, "probe") : null;

function trouble(request) {
  return [
    request.rejected ? el("span", { class: "pill bad" }, `${count(request.rejected)} rejected`) : null,
    request.dropped ? el("span", { class: "pill warn" }, `${count(request.dropped)} dropped`) : null,
    request.fault ? el("span", { class: "pill warn" }, `fault: ${request.fault}`) : null,
  ].filter(Boolean).flatMap((pill) => [pill, " "]);
}

const written = (json) => json.length > 300 ? `${json.slice(0, 300)} …` : json;
const held = (records) => Object.entries(records).map(([name, number]) => `${name.replaceAll("_", " ")}: ${count(number)}`).join(", ");

function table(heads, rows, label) {
  return el("div", { class: "card" }, el("table", { "aria-label": label },
    el("thead", {}, el("tr", {}, ...heads.map(([head, kind]) => el("th", { scope: "col", class: kind }, head)))), el("tbody", {}, ...rows)));
}

const row = (cells, kinds) => el("tr", {}, ...cells.map((cell, n) => el("td", { class: kinds[n] ?? null }, ...[cell].flat())));

// A list with a button for more. `load(next)` gives {rows, next}; `build(rows)` makes the table.
function growing(first, heads, label, draw, load) {
  const box = table(heads, first.rows.map(draw), label);
  let next = first.next;
  const button = el("button", { type: "button", class: "more", "data-item": true, onclick: async () => {
    button.disabled = true;
    const page = await load(next);
    const rows = page.rows.map(draw);
    box.querySelector("tbody").append(...rows);
    next = page.next;
    button.disabled = false;
    button.hidden = next === null;
    rows[0]?.querySelector("[data-item]")?.focus();
  } }, "Show more");
  button.hidden = next === null;
  return [box, button];
}

// Views: each gives what to put into the page.

const VIEWS = {
  async users({ name, params }) {
    if (name !== null) return profile(`external_id=${encodeURIComponent(name)}`, name);
    const found = async (q, after) => {
      const page = await ask(`/_sandbox/users?${query({ q, after })}`);
      return { rows: page.users, next: page.next };
    };
    const list = el("div");
    let asked = 0;
    const draw = async (q) => {
      const mine = ++asked;
      const page = await found(q, "");
      if (mine !== asked) return;
      list.replaceChildren(...usersList(page, q, found));
      say(q ? `${page.next ? "more than " : ""}${many(page.rows.length, "user")} found` : "");
    };
    const search = el("input", { type: "search", id: "search", value: params.get("q") ?? "", autocomplete: "off", spellcheck: "false",
      placeholder: "External id, alias, email, phone or Braze id (starts with)", "aria-label": "Search users",
      oninput: () => {
        history.replaceState(null, "", search.value ? `#/users?${query({ q: search.value })}` : "#/users");
        clearTimeout(search.wait);
        search.wait = setTimeout(() => draw(search.value), 100);
      },
      onkeydown: (event) => {
        if (event.key === "ArrowDown" || event.key === "Enter") {
          event.preventDefault();
          const first = list.querySelector("[data-item]");
          if (event.key === "Enter" && list.querySelectorAll("tbody tr").length === 1) first?.click(); else first?.focus();
        }
      } });
    await draw(search.value);
    return { title: "Users", nodes: [el("h1", { class: "quiet-voice" }, "Users"), el("div", { class: "bar", role: "search" }, search), list],
      watch: "users", refresh: () => search.value === "" && draw("") };
  },

  profiles: ({ name }) => profile(`braze_id=${encodeURIComponent(name)}`, name),

  async requests({ name, params }) {
    if (name !== null) return oneRequest(name, params);
    return requestList("requests", params);
  },

  errors: ({ params }) => requestList("errors", params),

  async drops() {
    const load = async (before) => { const page = await ask(`/_sandbox/drops?${query({ before })}`); return { rows: page.drops, next: page.next }; };
    const first = await load(null);
    const draw = (drop) => row([
      el("a", { href: `#/requests/${drop.request}?${query({ at: `${drop.input_array}/${drop.index}` })}`, "data-item": true }, `#${drop.request}`),
      el("code", {}, `${drop.input_array}[${drop.index}]`), el("code", {}, drop.field || "(whole object)"), drop.reason,
    ], ["tight", "tight"]);
    const nodes = first.rows.length ? growing(first, [["Request"], ["Object"], ["Field"], ["Reason"]], "Silent drops", draw, load)
      : [empty("Nothing was dropped silently", "Braze responds “success” to some values but does not store them. They are listed here.")];
    return { title: "Silent drops", watch: "silent_drops", nodes: [el("h1", {}, "Silent drops"),
      el("p", { class: "soft" }, "Not stored, or not stored as sent, although the response was a success."), ...nodes] };
  },

  async catalogs({ name, params }) {
    if (name !== null) return oneCatalog(name, params);
    const list = el("div");
    const refresh = async () => {
      const { catalogs } = await ask("/_sandbox/catalogs");
      list.replaceChildren(catalogs.length ? table([["Catalog"], ["Description", "wide"], ["Fields", "number"], ["Items", "number"], ["Updated", "wide"]], catalogs.map((catalog) => row([
        el("a", { href: `#/catalogs/${encodeURIComponent(catalog.name)}`, "data-item": true, class: "id" }, catalog.name), catalog.description,
        count(catalog.fields.length), count(catalog.items), moment(catalog.updated_at)], [null, "wide", "number", "number", "wide"])), "Catalogs")
        : empty("No catalogs", "A catalog is created by POST /catalogs, or by a sync: retl sync NAME --create-catalog."));
    };
    await refresh();
    return { title: "Catalogs", watch: "requests", refresh, nodes: [el("h1", { class: "quiet-voice" }, "Catalogs"), list] };
  },

  async items({ name }) {
    const [catalog, id] = [name.slice(0, name.indexOf("/")), name.slice(name.indexOf("/") + 1)];
    const back = crumb(`#/catalogs/${encodeURIComponent(catalog)}`, catalog);
    let item;
    try { item = await ask(`/_sandbox/item?${query({ catalog, id })}`); } catch (error) {
      if (error.status !== 404) throw error;
      return { title: "No such item", nodes: [back, empty("No such item", `The catalog “${catalog}” has no item “${id}” now.`)] };
    }
    return { title: id, nodes: [back, el("h1", {}, id),
      el("p", { class: "facts" }, el("span", {}, "written by ", writtenBy(item.request, id, "id"))),
      table([["Field"], ["Type"], ["Value"]], item.fields.map((field) => row([el("span", { class: "id" }, field.name), field.type, inline(field.json)], [])), "Fields"),
      item.lacks.length ? el("p", { class: "soft" }, `No value: ${item.lacks.join(", ")}.`) : null].filter(Boolean) };
  },

  async faults() {
    const input = el("input", { id: "fault", placeholder: "status:status=503,times=3", "aria-label": "New fault", spellcheck: "false", autocomplete: "off" });
    const problem = el("p", { class: "said", role: "alert" });
    const list = el("div");
    const draw = (faults) => list.replaceChildren(faults.length ? table([["Kind"], ["Path"], ["Settings"], ["Hits", "number"]], faults.map((fault) => row([
      el("span", { class: "pill warn" }, fault.kind), el("code", {}, fault.path || "all paths"), el("code", {}, faultText(fault)), count(fault.hits),
    ], [null, null, null, "number"])), "Faults") : empty("No active faults", "Add a fault above, or with --fault."));
    const send = async (method, body) => {
      try {
        await ask("/_sandbox/faults", { method, body });
        problem.textContent = "";
        draw((await ask("/_sandbox/pulse")).faults);
        return true;
      } catch (error) { problem.textContent = error.message; return false; }
    };
    const form = el("form", { class: "form", onsubmit: async (event) => {
      event.preventDefault();
      if (await send("POST", JSON.stringify([input.value.trim()]))) input.value = "";
    } }, input, el("button", {}, "Add"));
    draw((await ask("/_sandbox/pulse")).faults);
    const example = (text, what) => el("li", {}, el("button", { type: "button", onclick: () => { input.value = text; input.focus(); } }, el("code", {}, text)), ` ${what}`);
    return { title: "Faults", onPulse: (pulse) => draw(pulse.faults), nodes: [el("h1", {}, "Faults"),
      el("p", { class: "soft" }, "Injected failures. They apply to the next requests."), form, problem, list,
      el("p", { class: "more" }, el("button", { type: "button", class: "danger", onclick: () => send("DELETE") }, "Clear all faults")),
      el("h2", {}, "Examples"), el("ul", {}, example("delay:seconds=0.3", "responses are delayed"), example("status:status=429,probability=0.1", "one request in ten gets a 429"),
        example("drop_after:times=1", "accepted, but the response is lost"), example("object_error:share=0.01", "one user in a hundred is rejected"))] };
  },
};

function faultText(fault) {
  const usual = { times: null, skip: 0, probability: 1, burst: 1, status: 500, headers: "{}", body: null, seconds: 0, external_ids: "[]", share: 0 };
  return Object.entries(fault).filter(([name, value]) => name in usual && String(usual[name]) !== (typeof value === "object" && value !== null ? JSON.stringify(value) : String(value)))
    .map(([name, value]) => `${name}=${Array.isArray(value) ? value.join("+") : typeof value === "object" ? JSON.stringify(value) : value}`).join(", ") || (fault.kind === "status" ? "status=500" : "always");
}

function empty(title, ...parts) {
  return el("div", { class: "card empty" }, el("p", {}, el("b", {}, title)), ...parts.map((part) => typeof part === "string" ? el("p", {}, part) : part));
}

function start() {
  const example = `curl ${location.origin}/users/track \\\n  -H 'Authorization: Bearer sandbox' -H 'Content-Type: application/json' \\\n  -d '{"attributes": [{"external_id": "u1", "plan": "pro"}]}'`;
  return empty("No users yet", "Users appear here when a request creates them. Try this in a shell:", el("pre", {}, example));
}

function usersList(page, q, found) {
  if (!page.rows.length) return [q ? empty("No users found", `No identifier starts with “${q}”. Ids are case-sensitive, emails are not.`) : start()];
  const draw = (user) => row([
    [el("a", { href: userLink(user), "data-item": true, class: "id" }, user.external_id ?? user.user_aliases[0]?.alias_name ?? user.braze_id),
      user.external_id === null ? el("span", { class: "soft" }, user.user_aliases.length ? " alias only" : " no external id") : null],
    [user.name, user.found_by && user.found_by !== "external_id" ? el("span", { class: "soft" }, ` found by ${user.found_by.replace("_", " ")} ${user.found}`) : null],
    user.email ?? "", user.phone ?? "", count(user.attributes), moment(user.created_at),
  ], [null, null, null, "wide", "number wide", "stamp wide"]);
  return growing(page, [["User"], ["Name"], ["Email"], ["Phone", "wide"], ["Attributes", "number wide"], ["Created", "wide"]], "Users", draw, (next) => found(q, next));
}

const writtenBy = (number, id, field) => el("a", { href: `#/requests/${number}?${query({ user: id, field })}`, "data-item": true, title: "Request that wrote this value" }, `#${number}`);

async function profile(which, name) {
  let user;
  try { user = await ask(`/_sandbox/user?${which}`); } catch (error) {
    if (error.status !== 404) throw error;
    return { title: "No such user", nodes: [crumb("#/users", "Users"), empty("No such user", `No user has the identifier “${name}” now.`)] };
  }
  const id = user.external_id ?? user.user_aliases[0]?.alias_name ?? user.braze_id;
  const section = (title, rows, heads, extra = []) => rows.length || extra.length
    ? [el("h2", {}, title, el("small", {}, rows.length ? count(rows.length) : "none")), rows.length ? table(heads, rows, title) : null, ...extra] : [];
  const values = (entries) => entries.map((entry) => row([el("span", { class: "id" }, entry.name), inline(entry.json), writtenBy(entry.request, id, entry.name)], [null, null, "number"]));
  const heads = [["Name"], ["Value"], ["Written by", "number"]];
  const acts = (kind, title, heads, cells, kinds) => {
    if (!user[kind].rows.length) return [el("h2", {}, title, el("small", {}, "none"))];
    const load = async (before) => ask(`/_sandbox/${kind}?${query({ user: user.id, before })}`);
    return [el("h2", {}, title, el("small", {}, "latest first")), ...growing(user[kind], heads, title, (act) => row(cells(act), kinds), load)];
  };
  const properties = (act) => act.properties === null ? "" : inline(act.properties);
  return { title: id, nodes: [
    crumb("#/users", "Users"),
    el("h1", {}, id),
    el("p", { class: "facts" }, user.name ? el("span", {}, el("b", {}, user.name)) : null,
      el("span", {}, "external id ", el("b", {}, user.external_id ?? "none")), el("span", {}, "Braze id ", el("b", { class: "mono" }, user.braze_id)), el("span", {}, "created ", el("b", {}, moment(user.created_at)))),
    ...section("Profile fields", values(user.fields), heads),
    ...section("Custom attributes", values(user.custom_attributes), heads),
    el("div", { class: "two" },
      el("div", {}, ...section("Subscriptions", user.subscription_groups.map((group) => row([el("code", {}, group.group_id), el("span", { class: `pill ${group.state === "unsubscribed" ? "bad" : "good"}` }, group.state), writtenBy(group.request, id, group.group_id)], [null, null, "number"])), [["Group"], ["State"], ["Written by", "number"]])),
      el("div", {}, ...section("Aliases", user.user_aliases.map((alias) => row([el("code", {}, alias.alias_label), alias.alias_name], [])), [["Label"], ["Name"]])),
      el("div", {}, ...section("Deprecated external ids", user.deprecated_ids.map((old) => row([old], [])), [["Id"]])),
      el("div", {}, ...section("Push tokens", user.push_tokens.map((token) => row([token.app_id, token.token, token.device_id], [])), [["App"], ["Token"], ["Device"]]))),
    ...acts("events", "Events", [["Event"], ["Time"], ["Properties"], ["Written by", "number"]], (act) => [el("span", { class: "id" }, act.name), moment(act.time), properties(act), writtenBy(act.request, id, act.name)], [null, null, null, "number"]),
    ...acts("purchases", "Purchases", [["Product"], ["Price", "number"], ["Time"], ["Properties"], ["Written by", "number"]],
      (act) => [el("span", { class: "id" }, act.product_id), `${act.quantity > 1 ? `${act.quantity} × ` : ""}${act.price} ${act.currency}`, moment(act.time), properties(act), writtenBy(act.request, id, act.product_id)], [null, "number", null, null, "number"]),
  ].flat() };
}

async function oneCatalog(name, params) {
  const load = (q, after) => ask(`/_sandbox/catalog?${query({ name, q, after })}`);
  const list = el("div");
  const draw = async (q) => {
    const found = await load(q, "");
    const item = (one) => row([el("a", { href: `#/items/${encodeURIComponent(name)}/${encodeURIComponent(one.id)}`, "data-item": true, class: "id" }, one.id), inline(written(one.json)), writtenBy(one.request, one.id, "id")], [one.id.length < 24 ? "tight" : null, null, "number"]);
    list.replaceChildren(...(found.rows.length ? growing(found, [["Item"], ["Values"], ["Written by", "number"]], "Items", item, (next) => load(q, next)) : [empty(q ? "No items found" : "No items", q ? `No id starts with “${q}”.` : "The catalog is empty.")]));
    return found;
  };
  const search = el("input", { type: "search", id: "search", value: params.get("q") ?? "", autocomplete: "off", spellcheck: "false", placeholder: "Item id (starts with)", "aria-label": "Search items",
    oninput: () => { clearTimeout(search.wait); search.wait = setTimeout(() => { history.replaceState(null, "", `#/catalogs/${encodeURIComponent(name)}?${query({ q: search.value })}`.replace(/\?$/, "")); draw(search.value); }, 100); },
    onkeydown: (event) => { if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); list.querySelector("[data-item]")?.focus(); } } });
  let catalog;
  try { catalog = await draw(search.value); } catch (error) {
    if (error.status !== 404) throw error;
    return { title: "No such catalog", nodes: [crumb("#/catalogs", "Catalogs"), empty("No such catalog", `There is no catalog “${name}” now.`)] };
  }
  const fields = catalog.fields.flatMap((field, n) => [n ? ", " : "", el("b", {}, field.name), ` ${field.type}`]);
  return { title: name, watch: "requests", refresh: () => draw(search.value), nodes: [crumb("#/catalogs", "Catalogs"), el("h1", {}, name),
    el("p", { class: "facts" }, catalog.description ? el("span", {}, catalog.description) : null, el("span", {}, el("b", {}, many(catalog.items, "item"))), el("span", {}, "updated ", el("b", {}, moment(catalog.updated_at)))),
    el("p", { class: "soft" }, many(catalog.fields.length, "field"), ": ", ...fields), el("div", { class: "bar", role: "search" }, search), list] };
}

const crumb = (href, text) => el("p", { class: "crumb" }, el("a", { href, "data-back": true }, `← ${text}`));

async function requestList(tab, params) {
  const filter = { path: params.get("path") ?? "", status: params.get("status") ?? "", only: tab === "errors" ? "errors" : "" };
  const load = async (before) => { const page = await ask(`/_sandbox/log?${query({ ...filter, before })}`); return { rows: page.requests, next: page.next }; };
  const draw = (request) => row([
    el("a", { href: `#/requests/${request.number}`, "data-item": true, class: "id" }, `#${request.number}`),
    [request.method === "POST" ? null : el("code", {}, `${request.method} `), path(request.path), request.is_probe ? [" ", probe(request)] : null,
      !request.is_probe && request.said.length ? el("div", { class: "said" }, request.said.join("; ")) : null,
      el("div", { class: "narrow soft" }, held(request.records), " ", ...trouble(request), el("div", {}, moment(request.at)))].flat().filter(Boolean),
    status(request), [held(request.records), " ", ...trouble(request)], took(request.duration_s), moment(request.at),
  ], ["tight", null, "tight", "wide", "number wide", "stamp wide"]);
  const list = el("div");
  const refresh = async () => {
    const page = await load(null);
    list.replaceChildren(...(page.rows.length ? growing(page, [["#"], ["Endpoint"], ["Response"], ["Objects", "wide"], ["Duration", "number wide"], ["Time", "wide"]], tab, draw, load)
      : [filter.path || filter.status ? empty("No such request", "Nothing matches this filter.") : tab === "errors" ? empty("No errors", "Rejected requests, rejected objects and faults are listed here.") : start()]));
  };
  const go = (name) => (event) => { filter[name] = event.target.value; history.replaceState(null, "", `#/${tab}?${query({ path: filter.path, status: filter.status })}`.replace(/\?$/, "")); refresh(); };
  const statuses = [["", "any response"], ["2xx", "2xx accepted"], ["4xx", "4xx"], ["400", "400 bad request"], ["401", "401 unknown key"], ["404", "404 unknown path"], ["429", "429 rate limit"], ["5xx", "5xx"], ["none", "no response"]];
  const select = el("select", { "aria-label": "Response", onchange: go("status") }, ...statuses.map(([value, text]) => el("option", { value, selected: value === filter.status }, text)));
  const where = el("input", { type: "search", id: "search", value: filter.path, placeholder: "Path (starts with): /users/track", "aria-label": "Filter by path", autocomplete: "off", spellcheck: "false",
    oninput: (event) => { clearTimeout(where.wait); where.wait = setTimeout(go("path"), 120, event); },
    onkeydown: (event) => { if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); list.querySelector("[data-item]")?.focus(); } } });
  const only = el("label", { class: "check" }, el("input", { type: "checkbox", checked: tab === "errors", onchange: () => { location.hash = `#/${tab === "errors" ? "requests" : "errors"}?${query({ path: filter.path, status: filter.status })}`.replace(/\?$/, ""); } }), "errors only");
  await refresh();
  return { title: tab === "errors" ? "Errors" : "Requests", watch: "requests", refresh, nodes: [el("h1", { class: "quiet-voice" }, tab === "errors" ? "Errors" : "Requests"), el("div", { class: "bar" }, where, select, only), list] };
}

async function oneRequest(number, params) {
  let request;
  try { request = await ask(`/_sandbox/log/${encodeURIComponent(number)}`); } catch (error) {
    if (error.status !== 404) throw error;
    return { title: "No such request", nodes: [crumb("#/requests", "Requests"), empty("No such request", "It may have been cleared by a reset.")] };
  }
  let errors = [];
  try { errors = JSON.parse(request.answer).errors ?? []; } catch { /* a response that is not JSON identifies no objects */ }
  const marks = new Map();
  const mark = (array, index, kind, text) => {
    const at = `${array}/${index}`;
    const found = marks.get(at) ?? { class: kind, notes: [] };
    if (kind === "rejected") found.class = kind;
    found.notes.push({ class: kind, text });
    marks.set(at, found);
  };
  for (const error of Array.isArray(errors) ? errors : []) if (error && error.input_array !== undefined) mark(error.input_array, error.index, "rejected", `✗ rejected: ${error.type}`);
  for (const drop of request.drops) mark(drop.input_array, drop.index, "dropped", `△ ${drop.field ? `${drop.field} dropped` : "dropped"}: ${drop.reason}`);
  const origin = params.get("at") ?? objectOf(request.body, params.get("user"));
  const field = params.get("field");
  const body = request.body === null ? empty("Body no longer stored", "The sandbox stores only the bodies of the latest requests.") : request.body === "" ? empty("No body", request.query ? `The query string was ${request.query}` : "The request had no body.")
    : jsonBox(request.body, "Body", marks, (row) => row.at !== null && row.at === origin && (field !== null && row.key === field ? "exact" : true));
  const bad = [...marks.keys()];
  let shown = -1;
  const jump = (step) => {
    if (!bad.length) return;
    shown = (shown + step + bad.length) % bad.length;
    body.show((row) => row.note && row.at === bad[shown]);
    say(marks.get(bad[shown]).notes.map((note) => note.text).join("; "));
  };
  const isRejected = [...marks.values()].filter((one) => one.class === "rejected").length;
  const n = Number(request.number);
  return {
    title: `Request ${request.number}`, jump,
    after: () => { if (origin && body.show) body.show((row) => row.at === origin && (field === null || row.origin === "exact")) || body.show((row) => row.at === origin); else if (bad.length) jump(1); },
    nodes: [
      crumb("#/requests", "Requests"),
      el("h1", {}, `#${request.number} ${request.method} ${request.path}`),
      el("p", { class: "facts" }, el("span", {}, status(request), " ", probe(request) ?? "", ...trouble(request)), el("span", {}, held(request.records)), el("span", {}, "took ", el("b", {}, took(request.duration_s))),
        el("span", {}, "at ", el("b", {}, moment(request.at))), el("span", {}, "key ", el("b", { class: "mono" }, request.key ?? "none")), request.query ? el("span", {}, "query ", el("b", { class: "mono" }, request.query)) : null,
        el("span", {}, n > 1 ? el("a", { href: `#/requests/${n - 1}`, "data-previous": true }, "‹ previous") : null, "  ", el("a", { href: `#/requests/${n + 1}` }, "next ›"))),
      el("div", { class: "pair" }, el("div", {}, ...[el("h2", {}, "Body", el("small", {}, request.body ? size(request.body) : "", request.body ? [" · ", el("a", { href: `/_sandbox/log/${request.number}/body`, target: "_blank", rel: "noopener" }, "as received")] : "")),
      bad.length ? el("p", { class: "bar" }, isRejected ? el("span", { class: "pill bad" }, `${many(isRejected, "object")} rejected`) : null, request.drops.length ? el("span", { class: "pill warn" }, `${many(request.drops.length, "value")} dropped`) : null,
        el("button", { type: "button", onclick: () => jump(-1) }, "‹ previous"), el("button", { type: "button", onclick: () => jump(1) }, "next ›")) : null,
      body].filter(Boolean)), el("div", {}, el("h2", {}, "Response", el("small", {}, request.answer ? size(request.answer) : "")),
      request.answer ? jsonBox(request.answer, "Response") : empty("No response", "The connection was closed."))),
    ].filter(Boolean),
  };
}

// Where an identifier is in a body: "attributes/3".
function objectOf(body, id) {
  if (!body || id === null) return null;
  let value;
  try { value = JSON.parse(body); } catch { return null; }
  const names = (one) => [one.external_id, one.braze_id, one.id, one.email, one.phone, one.user_alias?.alias_name, one.alias_name, one.alias_to_identify?.alias_name].map(String);
  for (const [name, objects] of Object.entries(value ?? {})) {
    if (!Array.isArray(objects)) continue;
    const index = objects.findIndex((one) => one === id || (one && typeof one === "object" && (names(one).includes(id) || (one.external_ids ?? []).includes?.(id))));
    if (index >= 0) return `${name}/${index}`;
  }
  return null;
}

// Drawing and moving

const say = (text) => { document.getElementById("said").textContent = text; };

async function draw() {
  const mine = ++turn;
  const where = address();
  const made = VIEWS[where.tab] ?? VIEWS.users;
  let next;
  try { next = await made(where); } catch (error) {
    next = { title: "Error", nodes: [empty("Something went wrong", error.message)] };
  }
  if (mine !== turn) return;
  view = { tab: where.tab, isDetail: where.name !== null, seen: sums?.[next.watch], ...next };
  document.title = `${next.title} · Braze sandbox`;
  main.replaceChildren(...next.nodes);
  const tab = { profiles: "users", items: "catalogs" }[where.tab] ?? where.tab;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.tab === tab) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
  next.after?.();
  const left = focused.get(location.hash);
  const again = left && [...main.querySelectorAll("[data-item]")].find((link) => link.getAttribute("href") === left);
  if (again) again.focus(); else main.focus({ preventScroll: true });
}

function step(by) {
  const items = [...main.querySelectorAll("[data-item]")].filter((one) => !one.hidden);
  const at = items.indexOf(document.activeElement);
  const next = items[Math.max(0, Math.min(items.length - 1, at < 0 ? 0 : at + by))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

function back() {
  if (!view?.isDetail) return;
  if (moves > 0) history.back(); else location.hash = main.querySelector("[data-back]")?.getAttribute("href") ?? "#/users";
}

document.addEventListener("keydown", (event) => {
  const help = document.getElementById("help");
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  const isTyping = event.target.matches("input, textarea, select");
  if (event.key === "Escape") {
    if (isTyping) event.target.blur(); else back();
    return;
  }
  if (isTyping) return;
  const isScrolling = event.target.closest(".json") && event.key.startsWith("Arrow");
  const acts = {
    "/": () => { const search = document.getElementById("search"); if (search) search.select(), search.focus(); else { location.hash = "#/users"; setTimeout(() => document.getElementById("search")?.focus(), 150); } },
    j: () => step(1), k: () => step(-1), ArrowDown: () => !isScrolling && step(1), ArrowUp: () => !isScrolling && step(-1),
    n: () => view?.jump?.(1), p: () => view?.jump?.(-1), "?": () => help.showModal(),
    ...Object.fromEntries(Object.entries(TABS).map(([key, tab]) => [key, () => { location.hash = `#/${tab}`; }])),
  };
  const act = acts[event.key];
  if (!act || act() === false) return;
  event.preventDefault();
});
document.getElementById("keys").addEventListener("click", () => document.getElementById("help").showModal());
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
main.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#/']");
  if (link?.dataset.item !== undefined) focused.set(location.hash, link.getAttribute("href"));
});
window.addEventListener("hashchange", () => { moves += 1; draw(); });

// The pulse: once a second while somebody looks.

async function pulse() {
  try {
    const before = sums;
    const now = performance.now();
    sums = { ...(await ask("/_sandbox/pulse")), at: now };
    document.getElementById("lost").hidden = true;
    for (const place of document.querySelectorAll("[data-sum]")) {
      const value = sums[place.dataset.sum];
      const number = Array.isArray(value) ? value.length : value;
      place.textContent = count(number);
      if (place.dataset.one) place.parentElement.replaceChildren(place, ` ${number === 1 ? place.dataset.one : place.dataset.more}`);
    }
    if (before) {
      const rate = Math.max(0, (sums.requests - before.requests) * 1000 / (now - before.at));
      rates.push(rate);
      if (rates.length > 60) rates.shift();
      document.getElementById("rate").textContent = `${rate < 10 && rate > 0 ? rate.toFixed(1) : Math.round(rate)} req/s`;
      const most = Math.max(1, ...rates);
      document.querySelector("#spark polyline").setAttribute("points", rates.map((one, n) => `${n + 60 - rates.length},${19 - 18 * one / most}`).join(" "));
    }
    if (view) await follow();
  } catch { document.getElementById("lost").hidden = false; }
}

// Lists follow what comes in, unless somebody is reading further down or has a row in hand: then a button says so.
async function follow() {
  view.onPulse?.(sums);
  if (!view.watch || view.seen === sums[view.watch]) return;
  const more = view.seen === undefined ? 0 : sums[view.watch] - view.seen;
  if (view.seen === undefined) { view.seen = sums[view.watch]; return; }
  const isBusy = window.scrollY > 40 || main.contains(document.activeElement) && document.activeElement.dataset.item !== undefined;
  const refresh = view.refresh ?? draw;
  main.querySelector(".fresh")?.remove();
  if (!isBusy) { view.seen = sums[view.watch]; await refresh(); return; }
  main.prepend(el("button", { type: "button", class: "fresh", onclick: () => { main.querySelector(".fresh")?.remove(); view.seen = sums[view.watch]; window.scrollTo(0, 0); refresh(); } }, more > 0 ? `${count(more)} new` : "Show changes"));
}

(async function beat() {
  if (!document.hidden) await pulse();
  setTimeout(beat, 1000);
})();
draw();
