"use strict";
// A heading of a sortable table sorts by its column: numbers from the smallest on, then from the largest.
for (const table of document.querySelectorAll("table.sortable")) {
  const value = (row, column) => row.cells[column].textContent.trim();
  const number = (text) => (text === "–" ? Infinity : parseFloat(text));
  table.tHead.querySelectorAll("th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      table.tHead.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => {
        const [one, other] = [value(a, column), value(b, column)];
        if (column === 0) return (up ? 1 : -1) * one.localeCompare(other);
        const [x, y] = [number(one), number(other)];
        return x === y ? 0 : (up ? 1 : -1) * (x < y ? -1 : 1);
      });
      table.tBodies[0].append(...rows);
    });
  });
}
