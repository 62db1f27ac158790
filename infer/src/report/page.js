// Arrow keys walk the grid as one stop of the Tab order. Without script every cell is a stop.
(() => {
  const rows = [...document.querySelectorAll("table.grid tbody tr")].map((row) => [...row.querySelectorAll(".cell")]);
  const cells = rows.flat();
  if (!cells.length) return;
  const enter = (cell) => { cells.forEach((other) => { other.tabIndex = -1; }); cell.tabIndex = 0; };
  enter(cells[0]);
  cells.forEach((cell) => cell.addEventListener("focus", () => enter(cell)));
  document.querySelector("table.grid").addEventListener("keydown", (event) => {
    const at = rows.findIndex((row) => row.includes(document.activeElement));
    if (at < 0) return;
    if (event.key === "Escape") { document.activeElement.blur(); return; }
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const row = rows[at + step[0]] || [];
    const to = row[Math.min(rows[at].indexOf(document.activeElement) + step[1], row.length - 1)];
    if (to) to.focus();
  });
})();
