"use strict";
// Elements are made here and nowhere else: whatever comes of data becomes text or an attribute.

/** An element with attributes and children; null ones are left out, texts become text nodes. */
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || (value === false && !key.startsWith("aria-"))) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true && !key.startsWith("aria-") ? "" : String(value));
  }
  made.append(...children.flat().filter((each) => each !== null && each !== undefined));
  return made;
}

const byId = (id) => document.getElementById(id);
const replace = (id, ...children) => byId(id).replaceChildren(...children.flat());

const unknown = () => el("span", { class: "muted", title: "not known" }, "–");
const whole = (value) => (value === null || value === undefined ? unknown() : value.toLocaleString("en-US"));
const four = (value) => value.toFixed(4).replace("-", "−");
const short = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(2)).replace("-", "−");
const signed = (value) => {
  const text = value.toFixed(4);
  if (Number(text) === 0) return "0.0000";
  return value < 0 ? text.replace("-", "−") : `+${text}`;
};
const pValue = (value) => {
  if (value === null) return unknown();
  return value >= 0.0001 ? four(value) : "<0.0001";
};
const plural = (count, one, more = `${one}s`) => `${whole(count)} ${count === 1 ? one : more}`;

/** A table of head and rows of cells; the first cell of a row names it. */
function table(caption, head, rows, attributes = {}) {
  const cell = (each, kind, more) =>
    each instanceof HTMLTableCellElement ? each : el(kind, more, each);
  return el(
    "table", attributes,
    el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, head.map((each) => cell(each, "th", { scope: "col" })))),
    el("tbody", {}, rows.map((row) =>
      row instanceof HTMLTableRowElement ? row
        : el("tr", {}, row.map((each, at) => cell(each, at ? "td" : "th", at ? {} : { scope: "row" }))))),
  );
}

/** A run's name with its sign in the plot. */
function runName(number) {
  return el("span", { class: "run" },
    el("span", { class: `dot run-${number % 8}`, "aria-hidden": "true" }),
    el("bdi", {}, report.runs[number].name));
}
