"use strict";
(() => {
  const table = document.getElementById("results");
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    const number = cell.dataset.key;
    if (number === undefined) return cell.textContent;
    return number === "" ? NaN : Number(number);
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return a === b ? 0 : a < b ? -1 : 1;
  };
  const missing = (value) => Number.isNaN(value) || value === "";
  table.tHead.querySelectorAll("th").forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = Array.from(body.rows, (row) => [key(row, column), row]);
      rows.sort(([a], [b]) => {
        // What is missing stays at the end in both directions.
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        return falling ? compare(b, a) : compare(a, b);
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
  document.getElementById("filter").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.rows) {
      const cells = Array.from(row.cells, (cell) => cell.textContent.toLowerCase());
      row.hidden = !words.every((word) => cells.some((cell) => cell.startsWith(word) || cell === word));
    }
  });
})();
(() => {
  for (const block of document.querySelectorAll(".budgets")) {
    const epsilon = block.dataset.epsilon.split(" ");
    const cells = Array.from(block.querySelectorAll("[data-curve]"), (cell) => [cell, cell.dataset.curve.split(" ")]);
    block.querySelector("input").addEventListener("input", (event) => {
      const at = Number(event.target.value);
      block.querySelector("output b").textContent = epsilon[at];
      for (const [cell, curve] of cells) {
        cell.querySelector("b").textContent = curve[at] + " %";
        cell.style.setProperty("--share", curve[at] / 100);
      }
    });
  }
})();
