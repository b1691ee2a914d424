"use strict";
const data = JSON.parse(document.getElementById("data").textContent);

// Texts of documents and models are untrusted: they enter the page as text nodes, never as HTML.
function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function startSearch(entries) {
  const label = document.querySelector(".search"), list = document.querySelector(".found");
  const lower = entries.map((entry) => `${entry.study} ${entry.title} ${entry.text}`.toLowerCase());
  const input = label.querySelector("input");
  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = words.length ? entries.filter((_, index) => words.every((word) => lower[index].includes(word))) : [];
    list.replaceChildren(...hits.slice(0, 50).map((hit) => {
      const item = document.createElement("li");
      item.append(element("a", hit.title, { href: hit.href }), " ", element("small", `${hit.kind} of ${hit.study}${excerpt(hit.text, words)}`));
      return item;
    }));
    if (words.length && !hits.length) list.replaceChildren(element("li", "nothing found"));
  };
  label.hidden = false;
  input.addEventListener("input", show);
  input.value = new URLSearchParams(location.search).get("q") ?? ""; // index.html?q=words is a link to what they find
  show();
}

function excerpt(text, words) {
  const begin = Math.min(...words.map((word) => text.toLowerCase().indexOf(word)).filter((found) => found >= 0));
  return Number.isFinite(begin) ? `: … ${text.slice(Math.max(0, begin - 40), begin + 80).replace(/\s+/g, " ")} …` : "";
}

function startComparison(mixtures) {
  const box = document.querySelector(".compare"), [first, second] = box.querySelectorAll("select"), result = box.querySelector(".result");
  const show = () => result.replaceChildren(comparison(mixtures, first.value, second.value));
  for (const choice of [first, second]) choice.addEventListener("change", show);
  box.hidden = false;
  show();
}

function comparison(mixtures, a, b) {
  const table = document.createElement("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  for (const text of ["phase", "source", a, b, "difference"]) head.append(element("th", text));
  const phases = Math.max(mixtures[a].length, mixtures[b].length);
  for (let index = 0; index < phases; index++) {
    const one = mixtures[a][index], other = mixtures[b][index];
    const names = new Set([...Object.keys(one?.sources ?? {}), ...Object.keys(other?.sources ?? {})]);
    for (const name of names) {
      const x = one?.sources[name] ?? 0, y = other?.sources[name] ?? 0, row = body.insertRow();
      for (const text of [(one ?? other).name, name, tokens(x), tokens(y), x === y ? "" : (y > x ? "+" : "\u2212") + tokens(Math.abs(y - x))]) row.append(element("td", text));
    }
  }
  return table;
}

function tokens(count) {
  return count.toLocaleString("en");
}

// A link to a folded part unfolds it.
function unfold() {
  const part = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (part?.tagName === "DETAILS") part.open = true;
}

addEventListener("hashchange", unfold);
unfold();
if (data.search) startSearch(data.search);
if (data.mixtures) startComparison(data.mixtures);
