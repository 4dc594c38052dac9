// Sorting, filtering and the choice of light or dark. Without it the page shows the same, in its first order.
"use strict";

const asText = (cell) => cell.textContent.trim();
const asNumber = (cell) => ("value" in cell.dataset ? Number(cell.dataset.value) : null);

// Cells without a figure come last, whichever way the others go.
function compare(a, b, isNumber, direction) {
  if (!isNumber) return direction * asText(a).localeCompare(asText(b), "en", { numeric: true });
  const [first, second] = [asNumber(a), asNumber(b)];
  if (first === null || second === null) return (first === null) - (second === null);
  return direction * (first - second);
}

function sortBy(table, head) {
  const index = head.cellIndex;
  const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  const isNumber = head.classList.contains("number");
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compare(a.cells[index], b.cells[index], isNumber, direction));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, head));
    head.append(button);
  }
}

function applyFilter(form) {
  const rows = [...document.getElementById(form.dataset.for).tBodies[0].rows];
  const words = form.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = [...form.querySelectorAll("select")].filter((select) => select.value !== "");
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const has = (select) =>
      asText(row.cells[select.dataset.column].querySelector(".text")) === select.value;
    row.hidden = !(words.every((word) => text.includes(word)) && chosen.every(has));
  }
  const shown = rows.filter((row) => !row.hidden).length;
  form.querySelector("output").textContent = `${shown} of ${rows.length}`;
}

for (const form of document.querySelectorAll("form.filters")) {
  form.hidden = false;
  form.addEventListener("input", () => applyFilter(form));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    form.reset();
    applyFilter(form);
  });
  applyFilter(form);  // the browser may have kept what was typed before
}

const theme = document.getElementById("theme");
const isDark = () =>
  (document.documentElement.dataset.theme ||
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const name = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
theme.hidden = false;
theme.title = "Light or dark page";
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  name();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
name();
