
// The page of a project. Text reaches the document as text only: no HTML is ever made from data. What is shown is all
// in `data`, packed as packed.py says.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main"), find = document.getElementById("find"), found = document.getElementById("found");
const PAGE = 100, MOST_FOUND = 30;
const UNREAD = ["damaged", "unreachable", "moved", "unknown"]; // of a state, of which nothing is known then
const GOOD = ["success", "baselined", "already_run"], BAD = ["failed", "blocked", ...UNREAD];

// --- data -------------------------------------------------------------------------------------------------------------

const iso = (seconds) => new Date(seconds * 1000).toISOString();
const text = (number) => data.texts[number];
const LENGTHS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const names = [];
for (const line of data.names === "" ? [] : data.names.split("\n"))
  names.push((names.at(-1) ?? "").slice(0, LENGTHS.indexOf(line[0])) + line.slice(1));
const SYNC = ["name", "description", "owner", "mode", "about", "sends", "model", "file", "line", "tags", "after", "ends", "ended",
  "schedule", "next", "due", "status", "message", "triedAt", "rows", "rejected", "inDoubt", "toSend", "written", "runs", "rejects", "notes", "ranges",
  "times", "types", "descriptions", "owners", "empty", "changes", "points", "changedAt", "flaps", "gone", "accepted", "values", "tries", "unshown", "overdue",
  "lasts", "fields", "lost"];
const RUN = ["id", "at", "seconds", "status", "rows", "planned", "accepted", "lost", "requests", "attributes", "message", "commit", "dirty", "by", "did", "changed", "others"];
const OF_TEXT = new Set(["description", "owner", "mode", "about", "sends", "model", "file", "ends", "ended", "lasts", "schedule", "status",
  "message", "commit", "by"]);
const named = (fields, row) => Object.fromEntries(fields.map((name, at) => [name, OF_TEXT.has(name) ? text(row[at]) : row[at]]));

const syncs = data.syncs.map((row) => {
  const sync = named(SYNC, row);
  sync.numbers = [];
  for (let at = 0; at < sync.ranges.length; at += 2)
    for (let step = 0; step < sync.ranges[at + 1]; step += 1) sync.numbers.push(sync.ranges[at] + step);
  sync.runs = sync.runs.map((one) => ({ ...named(RUN, one), sync }));
  for (const run of sync.runs) {
    [run.invalid, run.rejected, run.inDoubt, run.unsent] = run.lost || [0, 0, 0, 0];
    run.did = Array.isArray(run.did) ? run.did : [run.did, run.accepted];
  }
  sync.tries = sync.tries.map(([status, why, at, until, times]) => ({ sync, status: text(status), why: text(why), at, until, times }));
  sync.fields = sync.fields.map((one) => one.map(text));
  sync.lost = sync.lost.map(([status, rows]) => [text(status), rows]);
  for (const run of sync.runs) if (run.id.startsWith("-")) run.id = iso(run.at).slice(0, 19).replace(/[-:]/g, "") + run.id;
  return sync;
});
const syncOf = new Map(syncs.map((sync) => [sync.name, sync]));
const runs = syncs.flatMap((sync) => sync.runs).sort((one, other) => other.at - one.at);
const nodes = new Map(data.nodes.map(([id, parents, file, description, sql]) =>
  [id, { id, parents, file, description: text(description), sql: text(sql) }]));
const events = data.events.map(([name, properties, by]) =>
  ({ name: text(name), properties: properties.map(([of, type]) => [text(of), text(type)]), syncs: by.map(([one]) => one), by }));

const at = (numbers, place) => numbers[numbers.length === 1 ? 0 : place];
// A column of a sync: what it is, and what became of it.
function column(sync, place) {
  const empty = at(sync.empty, place), changes = at(sync.changes, place), points = at(sync.points, place);
  const mine = text(at(sync.owners, place));
  return {
    sync, name: names[sync.numbers[place]], type: text(at(sync.types, place)), description: text(at(sync.descriptions, place)),
    owner: mine || sync.owner, filled: empty < 0 ? null : sync.rows - empty, changes, points: points < 0 ? changes : points,
    changedAt: sync.times[at(sync.changedAt, place)], flaps: text(at(sync.flaps, place)), gone: text(at(sync.gone, place)),
    unshown: text(at(sync.unshown, place)), accepted: (sync.accepted[place] ?? []).map(text),
    values: (sync.values[place] ?? []).map(([value, rows]) => [text(value), rows]),
  };
}
const columns = (sync) => sync.numbers.map((_, place) => column(sync, place));
// Attributes, by name: the syncs that write it, with the place of the column in each.
const attributes = new Map();
for (const sync of syncs) if (sync.sends === "attribute") sync.numbers.forEach((number, place) => {
  const written = attributes.get(names[number]);
  if (written) written.push([sync, place]); else attributes.set(names[number], [[sync, place]]);
});
const attributeNames = [...attributes.keys()].sort();
const writersOf = (name) => (attributes.get(name) ?? []).map(([sync, place]) => column(sync, place));
const isGone = (written) => written.every((one) => one.gone);
const past = () => el("span", { class: "pill warn" }, "no longer sent");
const first = (list, of) => list.map(of).find((value) => value) ?? "";
const sum = (list, of) => list.reduce((all, one) => all + of(one), 0);

// --- words ------------------------------------------------------------------------------------------------------------

const count = (number) => number.toLocaleString("en");
// A number of a sync, which may not be known.
const known = (sync, number, shown = count) => number === null ? el("span", { class: "soft", title: sync.message }, "unknown") : shown(number);
const rowsOf = (number) => many(number, "row");
const many = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;
function age() {
  const minutes = Math.max(Math.round(Date.now() / 60000 - data.at / 60), 0);
  return `${minutes < 60 ? many(minutes, "minute") : minutes < 2880 ? many(Math.round(minutes / 60), "hour") : many(Math.round(minutes / 1440), "day")} ago`;
}
const day = (seconds) => iso(seconds).slice(0, 10);
const weekday = (date) => new Date(`${date}T00:00:00Z`).toLocaleDateString("en", { weekday: "long", timeZone: "UTC" });
const moment = (seconds) => seconds ? el("time", { datetime: iso(seconds), title: iso(seconds), class: "tight" }, `${day(seconds)} ${iso(seconds).slice(11, 16)} UTC`) : "–";
const took = (seconds) => seconds < 0 ? "unknown" : seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
const share = (part, all) => all === 0 ? "–" : `${(100 * part / all).toFixed(part === all || part === 0 ? 0 : 1)} %`;
const tone = (status) => GOOD.includes(status) ? "good" : BAD.includes(status) ? "bad" : status === "never" ? "" : "warn";
const isUnread = (sync) => UNREAD.includes(sync.status);
// While a sync is running, what its last run was is what counts.
const lastStatus = (sync) => sync.status !== "running" ? sync.status : sync.triedAt ? "failed" : sync.runs[0]?.status ?? "success";
const unhealthy = (sync) => sync.overdue || !GOOD.includes(lastStatus(sync)) || sync.rejected > 0 || sync.inDoubt > 0;

// --- elements ---------------------------------------------------------------------------------------------------------

function el(tag, attributes = {}, ...children) {
  return made(document.createElement(tag), attributes, children);
}
function svg(tag, attributes = {}, ...children) {
  return made(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}
function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
  return element;
}
const to = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;
const link = (label, ...parts) => el("a", { href: to(...parts) }, label);
const attributeLink = (name) => link(name, "attributes", name);
const syncLink = (name) => syncOf.has(name) ? link(name, "syncs", name) : name;
const runLink = (run) => link(moment(run.at), "runs", run.sync.name, run.id);
const columnLink = (one) => one.sync.sends === "attribute" ? attributeLink(one.name) : link(one.name, "columns", one.sync.name, one.name);
const nodeLink = (id) => id.startsWith("sync.") ? syncLink(id.slice(5)) : link(id.slice(id.indexOf(".") + 1), "sources", id);
const pill = (status) => el("span", { class: `pill ${tone(status)}` }, status);
const pillOf = (sync) => sync.overdue ? el("span", {}, pill(sync.status), " ", el("span", { class: "pill bad" }, "overdue")) : pill(sync.status);
// Rows that are not in Braze as the model has them, by what became of them.
const lostOf = (sync) => known(sync, sync.rejected, () => sync.lost.length ? sync.lost.map(([status, rows]) => `${count(rows)} ${status}`).join(", ") : "0");
const comma = (items) => items.flatMap((item, place) => place ? [", ", item] : [item]);
const heading = (title, small) => el("h2", {}, title, small && el("small", {}, small));
const nobody = () => el("span", { class: "soft" }, "nobody");
const commitOf = (run) => run.commit ? el("code", { title: run.commit }, run.commit.slice(0, 10) + (run.dirty ? " + edits not in git" : "")) : "–";

function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null).map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value === "" ? "–" : value))));
}

// A table: `heads` are names of columns, with a mark: # for numbers, - for what a narrow screen goes without. There, a
// row is a stack of its cells, each with its head.
function table(heads, rows, empty) {
  if (!rows.length) return el("div", { class: "card" }, el("p", { class: "none" }, empty));
  const classes = heads.map((head) => [head.includes("#") && "number", head.includes("-") && "wide"].filter(Boolean).join(" ") || null);
  const body = el("tbody");
  const plain = heads.map((head) => head.replace(/[#-]/g, ""));
  const line = (cells) => el("tr", {}, cells.map((cell, place) => el("td", { class: classes[place], "data-head": plain[place] }, cell)));
  const card = el("div", { class: "card" }, el("table", {},
    el("thead", {}, el("tr", {}, plain.map((head, place) => el("th", { class: classes[place] }, head)))), body));
  let shown = 0;
  const button = el("button", { class: "more", onclick: () => more() });
  function more() {
    body.append(...rows.slice(shown, shown + PAGE).map((row) => line(typeof row === "function" ? row() : row)));
    shown = Math.min(shown + PAGE, rows.length);
    button.textContent = `${count(rows.length - shown)} more`;
    button.hidden = shown === rows.length;
  }
  more();
  card.append(button);
  return card;
}

// --- drawings ---------------------------------------------------------------------------------------------------------

const WIDTH = 176, HEIGHT = 40, GAP_X = 40, GAP_Y = 12;

// What `last` is built from, from left to right. `more` are nodes behind it: [[label, href]].
function graph(last, parentsOf, more = []) {
  const depth = new Map();
  const visit = (id, steps) => {
    if ((depth.get(id) ?? -1) >= steps || steps > 50) return;
    depth.set(id, steps);
    for (const parent of parentsOf(id)) visit(parent, steps + 1);
  };
  visit(last, 0);
  const deepest = Math.max(...depth.values()), lanes = [];
  for (const [id, steps] of depth) (lanes[deepest - steps] ??= []).push(id);
  const place = new Map();
  lanes.forEach((lane, x) => lane.forEach((id, y) => place.set(id, [x * (WIDTH + GAP_X), y * (HEIGHT + GAP_Y)])));
  const ends = more.slice(0, 12).map((one, y) => [one, [lanes.length * (WIDTH + GAP_X), y * (HEIGHT + GAP_Y)]]);
  const edge = ([x, y], [to_x, to_y]) => {
    const from = [x + WIDTH, y + HEIGHT / 2], end = [to_x, to_y + HEIGHT / 2], middle = (from[0] + end[0]) / 2;
    return svg("path", { class: "edge", d: `M${from} C${middle},${from[1]} ${middle},${end[1]} ${end}` });
  };
  const box = (kind, label, href, [x, y], isHere) => svg("g", { class: isHere ? "here" : null, transform: `translate(${x},${y})` },
    svg("rect", { class: "box", width: WIDTH, height: HEIGHT, rx: 6 }), svg("text", { class: "kind", x: 10, y: 15 }, kind),
    svg("a", { href }, svg("text", { x: 10, y: 32 }, label.length > 22 ? `${label.slice(0, 21)}…` : label, svg("title", {}, label))));
  const edges = [...place].flatMap(([id, where]) => parentsOf(id).map((parent) => edge(place.get(parent), where)));
  const boxes = [...place].map(([id, where]) => box(kindOf(id), id.slice(id.indexOf(".") + 1), hrefOf(id), where, id === last && !more.length));
  const tails = ends.flatMap(([[kind, label, href], where]) => [edge(place.get(last), where), box(kind, label, href, where, more.length === 1)]);
  const wide = (lanes.length + (more.length ? 1 : 0)) * (WIDTH + GAP_X) - GAP_X + 4;
  const high = Math.max(ends.length, ...lanes.map((lane) => lane.length)) * (HEIGHT + GAP_Y) + 2;
  return el("div", { class: "card graph", role: "group", "aria-label": "lineage", tabindex: 0 },
    svg("svg", { width: wide, height: high, viewBox: `-2 -2 ${wide} ${high}` }, edges, boxes, tails));
}
const kindOf = (id) => id.slice(0, id.indexOf("."));
const hrefOf = (id) => id.startsWith("sync.") ? to("syncs", id.slice(5)) : to("sources", id);
const builtFrom = (id) => id.startsWith("sync.") ? [`model.${syncOf.get(id.slice(5)).model}`] : nodes.get(id)?.parents ?? [];
const lineage = (sync, more) => graph(`sync.${sync.name}`, builtFrom, more);

// All that `id` is built from, or, with other edges, all that is built from it.
function reached(id, edges) {
  const seen = new Set(), border = [id];
  while (border.length) for (const other of edges(border.pop())) if (!seen.has(other)) { seen.add(other); border.push(other); }
  return seen;
}
const children = new Map();
for (const node of nodes.values()) for (const parent of node.parents) children.set(parent, [...children.get(parent) ?? [], node.id]);
for (const sync of syncs) children.set(`model.${sync.model}`, [...children.get(`model.${sync.model}`) ?? [], `sync.${sync.name}`]);
const readers = (id) => [...reached(id, (one) => children.get(one) ?? [])];

// Bars, the earliest first: one for each run.
function plot(title, list, value, shown = count) {
  const values = list.map(value), most = Math.max(...values, 0), wide = 300, high = 70, step = wide / Math.max(list.length, 12);
  const bars = list.map((run, place) => {
    const tall = most ? Math.max(values[place] ? 1.5 : 0, high * values[place] / most) : 0;
    return svg("rect", { class: `bar ${tone(run.status) === "bad" ? "bad" : ""}`, x: place * step, y: high + 14 - tall, width: Math.max(step - 2, 1), height: tall },
      svg("title", {}, `${day(run.at)} ${iso(run.at).slice(11, 16)} UTC: ${shown(values[place])}`));
  });
  return el("div", {}, el("span", { class: "soft" }, title), svg("svg", { viewBox: `0 0 ${wide} ${high + 16}`, role: "img", "aria-label": title },
    svg("line", { class: "base", x1: 0, x2: wide, y1: high + 14.5, y2: high + 14.5 }), bars, svg("text", { class: "axis", x: 0, y: 10 }, shown(most))));
}
function plots(list) {
  const early = [...list].reverse();
  return el("div", { class: "card plots" }, plot("rows accepted", early, (run) => run.accepted),
    plot("requests", early, (run) => run.requests), plot("duration", early, (run) => Math.max(0, run.seconds), took),
    list.some((run) => run.sync.sends === "attribute") && plot("attributes written", early, (run) => run.attributes));
}

const strip = (list, isShort) => el("span", { class: isShort ? "strip short" : "strip" }, [...list].reverse().map((run) => {
  const title = `${day(run.at)} ${iso(run.at).slice(11, 16)} UTC: ${run.status}, ${many(run.accepted, "row")} accepted`;
  return el("a", { class: tone(run.status), href: to("runs", run.sync.name, run.id), title, "aria-label": title });
}));

// --- pages ------------------------------------------------------------------------------------------------------------

const HEADS_OF_RUNS = ["started", "status", "planned#-", "accepted#", "rejected#", "requests#-", "took#-", "commit-", "by-"];
const runCells = (run) => [runLink(run), pill(run.status), ...[run.planned, run.accepted, run.rejected, run.requests].map(count), took(run.seconds), commitOf(run), run.by];
const attributeRows = (list) => list.map((name) => () => {
  const written = writersOf(name);
  return [isGone(written) ? el("span", {}, attributeLink(name), " ", past()) : attributeLink(name), first(written, (one) => one.type) || "–", first(written, (one) => one.description), first(written, (one) => one.owner) || nobody(),
    comma(written.map((one) => syncLink(one.sync.name)))];
});
const HEADS_OF_ATTRIBUTES = ["attribute", "type", "description", "owner", "written by-"];
const syncRows = (list) => list.map((sync) => [syncLink(sync.name), pillOf(sync), sync.description, sync.mode, `${sync.about}s`, sync.owner || nobody(),
  strip(sync.runs.slice(0, 10), true), known(sync, sync.rows), sync.ends && el("span", { class: "pill warn" }, sync.ends)]);
const HEADS_OF_SYNCS = ["sync", "last run", "description", "mode-", "writes to-", "owner", "runs-", "acknowledged#-", "deletes"];
// A property of an event, as its syncs send it.
const propertyOf = (by, name) => {
  const sync = by.map((one) => syncOf.get(one)).find((one) => one?.numbers.some((number) => names[number] === name));
  return sync ? link(name, "columns", sync.name, name) : name;
};
const ownersOf = (by) => [...new Set(by.map((one) => syncOf.get(one)?.owner).filter(Boolean))].join(", ") || nobody();
// When a sync sent an event last: only a state whose keys have the names of events knows that of each.
function sentAt(sync, at, isOnly) {
  const run = sync.runs.find((one) => one.accepted > 0), which = isOnly ? "it sends no other event now" : "with which of its events, its state does not tell: `name` is not in its primary key";
  return at ? moment(at) : run ? [el("div", {}, "the last run of the sync that sent something: ", runLink(run)), el("div", { class: "soft" }, which)] : "no run of the sync that sent something is listed";
}
// Syncs whose events are not listed: names are values of rows, so how many there are is not known.
const unlisted = syncs.filter((sync) => / (events|purchases)$/.test(sync.mode) && !events.some((event) => event.syncs.includes(sync.name)));
const unnamed = unlisted.filter((sync) => sync.mode.endsWith(" events"));
const eventsInWords = () => !unnamed.length ? many(events.length, "event") : `${events.length ? `${many(events.length, "event")}, and those` : "events"} of ${many(unnamed.length, "sync")} with unknown names`;
const eventsInShort = () => !unnamed.length ? count(events.length) : events.length ? `${count(events.length)} +` : "?";
const eventRows = () => [
  ...events.map((event) => [link(event.name, "events", event.name), comma(event.properties.map(([name, type]) => el("span", {}, propertyOf(event.syncs, name), ` ${type}`))), comma(event.syncs.map(syncLink)), ownersOf(event.syncs)]),
  ...unlisted.map((sync) => [
    el("span", { class: "soft" }, sync.mode.endsWith("purchases") ? "purchases: what was bought is a value of its rows" : "names are values of its rows"),
    comma(columns(sync).filter((one) => !one.gone).map((one) => el("span", {}, columnLink(one), ` ${one.type}`))), syncLink(sync.name), sync.owner || nobody()]),
];
const HEADS_OF_EVENTS = ["event", "properties", "sent by", "owner"];
const NO_EVENTS = "No sync sends events or purchases.";
const DATA_POINT = "A data point is what Braze counts on contracts that are billed by them: one for each attribute that is written, and for each key of one that is an object.";
const changesMost = () => syncs.flatMap((sync) => columns(sync).filter((one) => one.changes)).sort((one, other) => other.changes - one.changes);
// When a sync is due, in UTC, and in the time zone of its schedule.
function dueAt(sync) {
  const at = sync.due || sync.next, zone = sync.schedule.replace(/ \+ .*/, "").split(" ").at(-1);
  let there = "";
  try {
    there = at && zone !== "UTC" ? ` (${new Date(at * 1000).toLocaleTimeString("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit" })} ${zone})` : "";
  } catch { /* a zone that the browser does not know */ }
  return el("span", {}, sync.due ? sync.overdue ? "overdue since " : "due since " : null, moment(at), there);
}
const coming = () => syncs.filter((sync) => sync.next || sync.due).sort((one, other) => !one.due - !other.due || (one.due || one.next) - (other.due || other.next));
const dueCells = (sync) => [syncLink(sync.name), dueAt(sync), sync.schedule];
const HEADS_OF_DUE = ["sync", "due", "schedule"];
const MOST_DUE = 5; // on the first page, and all that are overdue
const withoutOwner = () => syncs.filter((sync) => !sync.owner);
const attributesWithoutOwner = () => attributeNames.filter((name) => !writersOf(name).some((one) => one.owner));
// Runs by day, the latest first, and tries of syncs that left no run.
function days() {
  const by = new Map();
  const add = (at, place, one) => { if (!by.has(day(at))) by.set(day(at), [[], []]); by.get(day(at))[place].push(one); };
  for (const run of runs) add(run.at, 0, run);
  for (const one of tries) add(one.until, 1, one);
  return [...by].sort(([one], [other]) => one < other ? 1 : -1).map(([date, [list, tried]]) => [date, list, tried]);
}
const tries = syncs.flatMap((sync) => sync.tries).sort((one, other) => other.until - one.until);
const times = (one) => one.times === 1 ? moment(one.until) : el("span", {}, `${count(one.times)} times, the last `, moment(one.until));
const HEADS_OF_TRIES = ["sync", "at", "status", "why"];
const tryRows = (list) => list.map((one) => () => [syncLink(one.sync.name), times(one), pill(one.status), one.why]);
const NOT_COUNTED = "Runs that failed before they had a plan, and syncs that were skipped, are not among the runs. The last of these are known, as far as they were tried from where this page was made.";
const LISTED = `Of each sync, its last ${data.most} runs are listed, and those of the last ${many(data.days, "day")} that did not succeed.`;

const PAGES = {
  "": () => {
    const ill = syncs.filter(unhealthy), ending = syncs.filter((sync) => sync.ends), orphaned = data.orphans;
    const soon = coming().filter((sync, place) => sync.due || place < MOST_DUE);
    return [
      el("h1", {}, data.project), el("p", { class: "soft lead" }, `target ${data.target}: ${many(syncs.length, "sync")}, ${many(attributes.size, "attribute")}, ${eventsInWords()}; as of `, moment(data.at), `, ${age()}`),
      el("p", {}, link(`Not green (${ill.length})`, "ill"), " · ", link("What is due next", "due"), " · ", link(`Nobody owns (${withoutOwner().length})`, "owners"), " · ",
        link(`What deletes (${ending.length})`, "deletes"), " · ", link("What changes most", "changes"), " · ", link("What changed on a day", "runs")),
      orphaned.map((one) => el("p", { class: "said" }, one)),
      heading("Syncs"), table(HEADS_OF_SYNCS, syncRows(syncs), "No syncs."),
      heading("Attributes"), table(HEADS_OF_ATTRIBUTES, attributeRows(attributeNames), "No sync writes attributes, or the columns of the models are not known."),
      heading("Events"), table(HEADS_OF_EVENTS, eventRows(), NO_EVENTS),
      heading("Next"), table(HEADS_OF_DUE, soon.map(dueCells), "No sync has a schedule."), coming().length > soon.length && el("p", {}, link(`and ${count(coming().length - soon.length)} more`, "due")),
    ];
  },
  ill: () => [el("h1", {}, "Not green"), table(["sync", "last run", "to send#", "not in Braze, or not whole#", "in doubt#", "why"],
    syncs.filter(unhealthy).map((sync) => [syncLink(sync.name), pillOf(sync), known(sync, sync.toSend), lostOf(sync), known(sync, sync.inDoubt), why(sync)]), "All syncs are green.")],
  due: () => [el("h1", {}, "What is due next"), el("p", { class: "soft" }, "As of ", moment(data.at), ". A sync that is due runs with the next call of its schedule."),
    table(HEADS_OF_DUE, coming().map(dueCells), "No sync has a schedule.")],
  owners: () => [el("h1", {}, "What nobody owns"), el("p", { class: "soft" }, "owner: of a sync, or of a column in columns:, in syncs.yml"),
    heading("Syncs"), table(HEADS_OF_SYNCS, syncRows(withoutOwner()), "Every sync has an owner."),
    heading("Attributes"), table(HEADS_OF_ATTRIBUTES, attributeRows(attributesWithoutOwner()), "Every attribute has an owner.")],
  deletes: () => [el("h1", {}, "What deletes"), el("p", { class: "soft" }, "Nothing undoes what these syncs do."),
    table(HEADS_OF_SYNCS, syncRows(syncs.filter((sync) => sync.ends)), "No sync deletes or merges anything.")],
  changes: () => [el("h1", {}, "What changes most"), el("p", { class: "soft" }, `values that were changed in the last ${many(data.days, "day")}, in rows that Braze had already: as each run wrote down. ${DATA_POINT}`),
    table(["column", "sync", "changes#", "data points#", "why"], changesMost().map((one) => () => [one.gone ? el("span", {}, columnLink(one), " ", past()) : columnLink(one), syncLink(one.sync.name), count(one.changes), count(one.points), one.flaps]), "No changes are on record.")],
  attributes: (name) => name === undefined
    ? [el("h1", {}, "Attributes"), table(HEADS_OF_ATTRIBUTES, attributeRows(attributeNames), "No attributes are known.")]
    : attributes.has(name) && ofColumn("Attributes", "attributes", name, writersOf(name)),
  columns: (name, of) => {
    const sync = syncOf.get(name), place = sync?.numbers.findIndex((number) => names[number] === of) ?? -1;
    return place >= 0 && ofColumn(name, null, of, [column(sync, place)]);
  },
  events: (name) => {
    if (name === undefined) return [el("h1", {}, "Events"), el("p", { class: "soft lead" }, "The names of events are values of rows: shown are those in braze.lock.yml, which `retl lock` writes, and those that a model writes down."), table(HEADS_OF_EVENTS, eventRows(), NO_EVENTS)];
    const event = events.find((one) => one.name === name);
    return event && [el("p", { class: "crumb" }, link("Events", "events")), el("h1", {}, name), heading("Sent by"), table(["sync", "owner", "last run", "sent last"], event.by.map(([one, at, isOnly]) => [syncLink(one), syncOf.get(one).owner || nobody(), pillOf(syncOf.get(one)), sentAt(syncOf.get(one), at, isOnly)]), "No sync sends it now."),
      heading("Properties"), table(["property", "type"], event.properties.map(([name, type]) => [propertyOf(event.syncs, name), type]), "It has no properties."),
      event.syncs.map((one) => [heading(`From ${one}`), lineage(syncOf.get(one))])];
  },
  syncs: (name) => name === undefined ? [el("h1", {}, "Syncs"), table(HEADS_OF_SYNCS, syncRows(syncs), "No syncs.")] : syncOf.has(name) && ofSync(syncOf.get(name)),
  runs: (name, id) => {
    if (name === undefined) return [el("h1", {}, "Runs"), heading("By day"), el("p", { class: "note" }, `${LISTED} ${NOT_COUNTED}`), table(["day", "runs#", "not green#", "without a plan#", "rows accepted#"], days().map(([date, list, tried]) => [link(`${weekday(date)}, ${date}`, "days", date), count(list.length), count(list.filter((run) => !GOOD.includes(run.status)).length), count(sum(tried, (one) => one.times)), count(sum(list, (run) => run.accepted))]), "No sync has run yet."),
      heading("Runs without a plan"), table(HEADS_OF_TRIES, tryRows(tries), "None is known."),
      heading("Last runs"), table(["sync", ...HEADS_OF_RUNS], runs.map((run) => () => [syncLink(run.sync.name), ...runCells(run)]), "No sync has run yet.")];
    const run = syncOf.get(name)?.runs.find((one) => one.id === id);
    return run && ofRun(run);
  },
  days: (date) => {
    const list = runs.filter((run) => day(run.at) === date);
    return [el("p", { class: "crumb" }, link("Runs", "runs")), el("h1", {}, `What changed on ${weekday(date)}, ${date}`),
      table(["sync", ...HEADS_OF_RUNS.slice(0, 1), "status", "accepted#", "commit", "by", "changed"], list.map((run) => [syncLink(run.sync.name), runLink(run), pill(run.status), count(run.accepted), commitOf(run), run.by, changed(run)]), "No run is listed of this day."), el("p", { class: "note" }, LISTED),
      heading("Without a plan"), el("p", { class: "note" }, NOT_COUNTED), table(HEADS_OF_TRIES, tryRows(tries.filter((one) => day(one.until) === date)), "None is known of this day.")];
  },
  sources: (id) => {
    if (id === undefined) return [el("h1", {}, "Sources and models"), table(["name", "kind", "description-", "read by"], [...nodes.values()].sort((one, other) => kindOf(one.id) < kindOf(other.id) ? 1 : kindOf(one.id) > kindOf(other.id) ? -1 : one.id < other.id ? -1 : 1).map((node) => [nodeLink(node.id), kindOf(node.id), node.description, comma(readers(node.id).filter((one) => one.startsWith("sync.")).map(nodeLink))]), "The models read no seed, source or dbt model by ref() or source().")];
    const node = nodes.get(id);
    return node && ofNode(node);
  },
};

// Why a sync is not green: what is wrong first, then what has come of it, a line each.
const said = (message) => message.split("\n").map((line, place) => el("div", { class: place ? "soft" : null }, line));
const why = (sync) => [sync.overdue ? el("div", {}, dueAt(sync)) : null, sync.status === "never" ? el("div", {}, "it has not run yet") : sync.message && said(sync.message),
  ...sync.rejects.slice(0, 1).map(([status, of, reason, hint, rows]) => [el("div", {}, [`${text(status).replace("_", " ")}:`, text(of), text(reason), `(${many(rows, "row")})`].filter(Boolean).join(" ")), hint ? el("div", { class: "soft" }, text(hint)) : null])].flat(2);
const didTo = (run) => run.did.filter((_, place) => place % 2 === 0).map((verb, pair) => `${text(verb)} ${count(run.did[2 * pair + 1])}`);
const changed = (run) => run.did.length || run.changed.length || run.others ? comma([...didTo(run), ...run.changed.filter((_, place) => place % 2 === 0).map((place, pair) => el("span", {}, columnLink(column(run.sync, place)), ` ${count(run.changed[2 * pair + 1])}`)), ...run.others ? [`${run.others} more`] : []]) : "–";

const changesOf = (one, number = one.changes) => known(one.sync, isUnread(one.sync) ? null : number);

function ofColumn(title, tab, name, written) {
  const type = [...new Set(written.map((one) => one.type))].join(" or "), accepted = first(written, (one) => one.accepted.length ? one.accepted : "");
  const unread = written.find((one) => isUnread(one.sync)), sure = (value) => unread ? known(unread.sync, null) : value;
  const changedAt = Math.max(...written.map((one) => one.changedAt)), flaps = written.filter((one) => one.flaps);
  return [
    el("p", { class: "crumb" }, tab ? link(title, tab) : syncLink(title)), el("h1", {}, name, isGone(written) && [" ", past()]),
    written.filter((one) => one.gone).map((one) => el("p", { class: "said" }, written.length > 1 ? [syncLink(one.sync.name), `: ${one.gone}`] : one.gone)),
    el("p", { class: "lead" }, first(written, (one) => one.description) || el("span", { class: "soft" }, "It has no description: add one to columns: of the sync, or in dbt.")),
    facts([["type", type], ["owner", first(written, (one) => one.owner) || nobody()], ["written by", comma(written.map((one) => syncLink(one.sync.name)))],
      ["last change", sure(changedAt ? moment(changedAt) : `none in ${data.days} days`)], [`changes of the last ${data.days} days`, sure(many(sum(written, (one) => one.changes), "value"))],
      ["data points of these changes, new rows apart", sure(count(sum(written, (one) => one.points)))],
      ["changes too often", flaps.length ? flaps.map((one) => one.flaps).join(", ") : sure("no")],
      ["accepted values", accepted ? comma(accepted.map((value) => el("code", {}, value))) : el("span", { class: "soft" }, "not checked: the sync has no accepted_values test of it")],
      ["values", written.some((one) => one.values.length) ? null : written.some((one) => one.sync.rows === null) ? known(written.find((one) => one.sync.rows === null).sync, null) : el("span", { class: "soft" }, first(written, (one) => one.unshown) || "not shown: the sync does not have show_values: true for it")]]),
    written[0].sync.sends === "attribute" && el("p", { class: "note" }, DATA_POINT),
    written.filter((one) => one.values.length).map((one) => [heading("Values", written.length > 1 ? `from ${one.sync.name}` : ""), table(["value", "rows#", "share#"],
      one.values.map(([value, rows]) => [value === "" ? el("span", { class: "soft" }, "others, too many or in too few rows to be shown") : el("code", {}, value), count(rows), share(rows, one.sync.rows)]), "")]),
    heading("Written by"), table(["sync", "rows sent with a value#", "of acknowledged#", "last run", "finished", "changes#-", "data points#-"], written.map((one) => [syncLink(one.sync.name),
      one.filled === null ? "–" : count(one.filled), one.filled === null ? "–" : share(one.filled, one.sync.rows), pillOf(one.sync), one.sync.runs.length ? moment(one.sync.runs[0].at + Math.round(one.sync.runs[0].seconds)) : "–", changesOf(one), changesOf(one, one.points)]), ""),
    written.map((one) => [heading(`From ${one.sync.name}`, "what its model is built from"), lineage(one.sync, [[one.sync.sends, name, location.hash]])]),
  ];
}

function ofSync(sync) {
  const list = columns(sync), model = nodes.get(`model.${sync.model}`), behind = syncs.filter((other) => other.after.includes(sync.name));
  const noRuns = isUnread(sync) ? "Its runs are not known: its state cannot be read now." : sync.status === "running" ? "No run of it is on record yet." : "It has not run yet.";
  return [
    el("p", { class: "crumb" }, link("Syncs", "syncs")), el("h1", {}, sync.name, " ", pillOf(sync)),
    el("p", { class: "lead" }, sync.description || el("span", { class: "soft" }, "It has no description.")),
    sync.status !== "success" && sync.message ? el("div", { class: "said" }, said(sync.message)) : null,
    facts([["mode", sync.mode], ["owner", sync.owner || nobody()], ["writes to", `${sync.about}s`], ["cannot be undone", [sync.ends, sync.lasts].filter(Boolean).join("; ")], ["schedule", sync.schedule || "none"],
      ["next due", dueAt(sync)], [sync.ended ? `${sync.ended}, or erased` : "acknowledged", known(sync, sync.rows, rowsOf)], ["to send", known(sync, sync.toSend, rowsOf)], ["not in Braze, or not whole", lostOf(sync)],
      ["in doubt", known(sync, sync.inDoubt, rowsOf)], [`attributes written in ${data.days} days, new rows too`, sync.sends === "attribute" ? known(sync, sync.written) : null], [`data points of changes in ${data.days} days`, sync.sends === "attribute" ? known(sync, isUnread(sync) ? null : sum(list, (one) => one.points)) : null], ["runs after", sync.after.length ? comma(sync.after.map(syncLink)) : "–"], ["runs before", behind.length ? comma(behind.map((one) => syncLink(one.name))) : null],
      ["tags", sync.tags.length ? sync.tags.map(text).join(", ") : null], ["in", `${sync.file}:${sync.line}`]]),
    sync.notes.map((note) => el("p", { class: "note" }, text(note))),
    heading("Last runs", "the latest at the right"), sync.runs.length ? strip(sync.runs.slice(0, data.most)) : el("p", { class: "soft" }, noRuns),
    sync.runs.length ? [el("p"), plots(sync.runs.slice(0, data.most))] : null,
    heading("Runs"), table(HEADS_OF_RUNS, sync.runs.map((run) => () => runCells(run)), noRuns),
    sync.tries.length ? [heading("Runs without a plan", "failed before, or skipped"), table(HEADS_OF_TRIES.slice(1), sync.tries.map((one) => () => [times(one), pill(one.status), one.why]), "")] : null,
    heading("Not in Braze, by reason"), table(["status", "column", "reason", "rows#", "what to do"], sync.rejects.map(([status, of, reason, hint, rows]) => [text(status), text(of) || "–", text(reason), count(rows), text(hint)]), sync.rejected === null ? "Not known now." : "No row is rejected, invalid or in doubt."),
    heading("What it sends", "all columns that leave the warehouse"), table(["column", "type", "description", "owner-", "sent with a value#", "changes#-"], [...sync.fields.map(([name, type, description, owner]) => [name, type, description, owner || sync.owner || nobody(), "–", "–"]), ...list.map((one) => () => [one.gone ? el("span", {}, columnLink(one), " ", past()) : columnLink(one), one.type || "–", one.description, one.owner || nobody(), one.filled === null ? "–" : share(one.filled, sync.rows), changesOf(one)])], "Its columns are not known."),
    heading("Lineage"), lineage(sync),
    heading("Model", model?.file), model?.sql ? el("div", { class: "card" }, el("pre", { tabindex: 0 }, model.sql)) : el("p", { class: "soft" }, sync.ends ? "Its SQL is not shown: that of a sync that deletes or merges users may list persons." : "Its SQL is not known."),
  ];
}

function ofRun(run) {
  return [
    el("p", { class: "crumb" }, link("Runs", "runs"), " · ", syncLink(run.sync.name)), el("h1", {}, run.id, " ", pill(run.status)), run.message ? el("p", { class: "said" }, run.message) : null,
    facts([["sync", syncLink(run.sync.name)], ["started", moment(run.at)], ["took", took(run.seconds)], ["started by: user on machine, or run of CI", run.by], ["commit", commitOf(run)],
      ["rows of the model", count(run.rows)], ["planned", many(run.planned, "record")], ["accepted", count(run.accepted)], ["rejected by Braze", count(run.rejected)], ["invalid", count(run.invalid)],
      ["in doubt", count(run.inDoubt)], ["unsent", count(run.unsent)], ["requests", count(run.requests)], ["attributes written", run.sync.sends === "attribute" ? count(run.attributes) : null]]),
    heading("Changed", "whole rows, and values of other rows by column"), el("p", {}, changed(run)),
    didTo(run).some((one) => one.startsWith("suppressed ")) && el("p", { class: "note" }, "Suppressed rows are about users who were erased: they are not sent."),
  ];
}

function ofNode(node) {
  const all = readers(node.id), kind = kindOf(node.id), read = all.filter((one) => one.startsWith("sync."));
  return [
    el("p", { class: "crumb" }, link("Sources", "sources")), el("h1", {}, node.id.slice(kind.length + 1)), el("p", { class: "lead" }, node.description),
    facts([["kind", kind], ["file", node.file || null], ["built from", node.parents.length ? comma(node.parents.map(nodeLink)) : null]]),
    heading("Read by syncs"), table(HEADS_OF_SYNCS, syncRows(read.map((one) => syncOf.get(one.slice(5)))), "No sync reads it."),
    heading("Read by models"), table(["model", "directly"], all.filter((one) => one.startsWith("model.")).map((one) => [nodeLink(one), nodes.get(one).parents.includes(node.id) ? "yes" : "no"]), "No model reads it."),
    node.parents.length ? [heading("Lineage"), graph(node.id, builtFrom)] : null,
    node.sql ? [heading("SQL", node.file), el("div", { class: "card" }, el("pre", { tabindex: 0 }, node.sql))] : null,
  ];
}

function draw() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  const [tab, ...rest] = parts, shown = Object.hasOwn(PAGES, tab) && PAGES[tab](...rest);
  main.replaceChildren(...(shown || [el("h1", {}, "Not found"), el("p", {}, "The page has nothing of this name. ", link("Start"))]).flat(9).filter((one) => one !== null && one !== undefined && one !== "" && one !== false));
  for (const one of document.querySelectorAll("nav a")) one.toggleAttribute("aria-current", one.getAttribute("href") === `#/${tab}`);
  document.title = [...new Set([main.querySelector("h1").textContent, data.project])].join(" · ");
  window.scrollTo(0, 0);
}

// --- search -----------------------------------------------------------------------------------------------------------

let index = null, hits = [], selected = -1;
function indexed() {
  return index ??= [
    ...syncs.map((sync) => ["sync", sync.name, sync.description, to("syncs", sync.name)]),
    ...attributeNames.map((name) => ["attribute", name, first(writersOf(name), (one) => one.description), to("attributes", name)]),
    ...events.map((event) => ["event", event.name, "", to("events", event.name)]),
    ...[...nodes.values()].map((node) => [kindOf(node.id), node.id.slice(node.id.indexOf(".") + 1), node.description, to("sources", node.id)]),
    ...syncs.filter((sync) => sync.sends !== "attribute").flatMap((sync) => columns(sync).map((one) => [`${sync.sends} of ${sync.name}`, one.name, one.description, to("columns", sync.name, one.name)])),
  ].map(([kind, name, about, href]) => ({ kind, name, about, href, low: name.toLowerCase(), words: about.toLowerCase() }));
}
// Names that begin with the words, then names that have them, then descriptions.
function search(asked) {
  const low = asked.trim().toLowerCase();
  if (!low) return [];
  const ranked = [[], [], [], []];
  for (const one of indexed()) {
    const rank = one.low === low ? 0 : one.low.startsWith(low) ? 1 : one.low.includes(low) ? 2 : one.words.includes(low) ? 3 : -1;
    if (rank >= 0) ranked[rank].push(one);
  }
  return ranked.flat().slice(0, MOST_FOUND);
}
function offer() {
  hits = search(find.value);
  selected = hits.length ? 0 : -1;
  found.replaceChildren(...(find.value.trim() && !hits.length ? [el("li", { class: "soft" }, "Nothing has this name or description.")] : hits.map((one, place) =>
    el("li", { role: "option", id: `hit${place}`, onmousedown: (event) => { event.preventDefault(); open(one); } }, one.name, " ", el("span", { class: "soft" }, one.about ? `${one.kind}: ${one.about}` : one.kind)))));
  found.hidden = !find.value.trim();
  mark();
}
function mark() {
  [...found.children].forEach((one, place) => one.setAttribute("aria-selected", place === selected));
  found.children[selected]?.scrollIntoView({ block: "nearest" });
  find.setAttribute("aria-expanded", !found.hidden);
  if (selected >= 0) find.setAttribute("aria-activedescendant", `hit${selected}`); else find.removeAttribute("aria-activedescendant");
}
function open(one) {
  find.value = "";
  offer();
  find.blur();
  location.hash = one.href;
}
find.addEventListener("input", offer);
find.addEventListener("blur", () => { found.hidden = true; mark(); });
find.addEventListener("focus", offer);
find.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && hits.length) { selected = (selected + step + hits.length) % hits.length; mark(); event.preventDefault(); }
  if (event.key === "Enter" && hits[selected]) open(hits[selected]);
  if (event.key === "Escape") { find.value = ""; offer(); find.blur(); }
});
document.addEventListener("keydown", (event) => {
  if (event.target === find || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { event.preventDefault(); find.focus(); }
  const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key], links = [...main.querySelectorAll("tbody td:first-child a")];
  if (!step || !links.length) return;
  event.preventDefault();
  const place = links.indexOf(document.activeElement);
  links[place < 0 ? 0 : Math.min(Math.max(place + step, 0), links.length - 1)].focus();
});

document.querySelector(".brand").textContent = data.project;
document.querySelectorAll("nav b").forEach((one, place) => { one.textContent = [count(attributes.size), eventsInShort(), ...[syncs.length, runs.length, nodes.size].map(count)][place]; });
document.getElementById("made").append(`retl ${data.version}, target ${data.target}, `, moment(data.at), ". As it was then: run `retl docs generate` again for a newer one. No keys of rows are in this file, and no values but those that a sync allows.");
window.addEventListener("hashchange", () => { draw(); main.focus({ preventScroll: true }); });
draw();
