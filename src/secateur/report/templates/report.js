"use strict";
// Tables: a click on a title sorts, words filter.
(() => {
  const key = (row, column) => {
    const cell = row.cells[column];
    const number = cell.dataset.key;
    if (number === undefined) return cell.textContent;
    return number === "" ? NaN : Number(number);
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
    return a === b ? 0 : a < b ? -1 : 1;
  };
  const missing = (value) => Number.isNaN(value) || value === "";
  for (const table of document.querySelectorAll(".sortable")) {
    const body = table.tBodies[0];
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
  }
  document.getElementById("filter")?.addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of document.getElementById("results").tBodies[0].rows) {
      const cells = Array.from(row.cells, (cell) => cell.textContent.toLowerCase());
      row.classList.toggle("out", !words.every((word) => cells.some((cell) => cell.startsWith(word))));
    }
  });
})();
// Contents: the section in view is marked.
(() => {
  const links = new Map(Array.from(document.querySelectorAll("nav a"), (a) => [a.getAttribute("href").slice(1), a]));
  const sections = Array.from(links.keys(), (id) => document.getElementById(id)).filter(Boolean);
  const mark = () => {
    const now = sections.filter((each) => each.getBoundingClientRect().top < innerHeight / 3).pop() ?? sections[0];
    for (const [id, link] of links) {
      if (id === now?.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  if (links.size) addEventListener("scroll", mark, { passive: true });
  if (links.size) mark();
})();
// The control: one choice drives the curves, the tiles and the tables.
(() => {
  const element = document.getElementById("data");
  if (!element) return;
  const data = JSON.parse(element.textContent);
  if (!data.attacks.length) return;
  const form = document.getElementById("control");
  const field = form.elements;
  const all = (selector) => document.querySelectorAll(selector);
  const make = (tag, attributes = {}, text = "") => {
    const svg = ["svg", "g", "line", "path", "circle", "rect", "text"].includes(tag);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== "") made.textContent = text;
    return made;
  };
  const fill = (select, options, start) =>
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value, value === start, value === start)));
  const named = (point) => {
    const pruned = point.criterion === null ? "dense" : `${data.criteria[point.criterion]} ${point.sparsity}`;
    return `${data.models[point.model].name}, ${pruned}`;
  };
  const attack = () => data.attacks[Number(field.attack.value)];
  const choice = () => ({
    attack: attack().name, arm: Number(field.arm.value), budget: Number(field.budget.value),
    model: field.model.value, criterion: field.criterion.value, sparsity: field.sparsity.value,
  });

  // Which of the points the choice keeps; the dense networks always stay, to compare with.
  const kept = (point, now, withSparsity = true) =>
    point.attack === now.attack && (now.model === "" || point.model === Number(now.model)) &&
    (point.criterion === null || ((now.criterion === "" || point.criterion === Number(now.criterion)) &&
      point.arm === now.arm && (!withSparsity || now.sparsity === "" || point.sparsity === Number(now.sparsity))));
  // The dense network that begins a line has the fine-tuning of the line, where the study has it.
  const begins = (point, now) => point.arm === now.arm ||
    !data.points.some((p) => p.criterion === null && p.model === point.model && p.attack === now.attack && p.arm === now.arm);
  const onLine = (point, now, withSparsity = false) => kept(point, now, withSparsity) && (point.criterion !== null || begins(point, now));

  const interval = (share) => `95 % interval ${share[4]}`;
  const words = (point, now) => {
    const at = data.attacks.find((each) => each.name === point.attack);
    const share = point.robust?.[now.budget];
    const what = `${at.quantity} at ${at.norm} ≤ ${at.budgets[now.budget][1]}`;
    return [
      `${named(point)}, ${data.arms[point.arm].label}`,
      point.clean ? `accuracy ${point.clean[3]} (${interval(point.clean)})` : "",
      share ? `${what}: ${share[3]} (${interval(share)})` : point.word,
      point.n ? `${point.n}; test accuracy ${point.test}` : "",
      point.macs ? `MACs left ${point.macs[1]}` : "",
      point.left && point.criterion !== null ? `distance left: ${point.left.filter(Boolean).join("; ")}` : "",
      `grade ${point.grade}`,
    ].filter(Boolean).join("\n");
  };

  const HEIGHT = 300, LEFT = 46, TOP = 12, BOTTOM = 256;
  // series: {colour, dash, square, faint, points: [{x, y, low, high, hollow, big, tip}]}; x and y are numbers.
  const chart = (host, title, axis, series, edge = []) => {
    // As wide as its place, so that letters have the size of the page's.
    const WIDTH = Math.max(280, host.clientWidth || 520), RIGHT = WIDTH - 14;
    const log = axis.log ? Math.log : (value) => value;
    const span = log(axis.high) - log(axis.low) || 1;
    const px = (x) => LEFT + ((log(x) - log(axis.low)) / span) * (RIGHT - LEFT);
    const py = (y) => BOTTOM - y * (BOTTOM - TOP);
    const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", tabindex: "0", "aria-label": `${title}. Arrow keys read the points.` });
    for (const y of [0, 0.25, 0.5, 0.75, 1]) {
      svg.append(make("line", { x1: LEFT, x2: RIGHT, y1: py(y), y2: py(y), class: y ? "rule" : "axis" }));
      svg.append(make("text", { x: LEFT - 6, y: py(y) + 4, "text-anchor": "end" }, `${100 * y} %`));
    }
    for (const [x, text] of axis.ticks) {
      if (x < axis.low * 0.999 || x > axis.high * 1.001) continue;
      svg.append(make("line", { x1: px(x), x2: px(x), y1: BOTTOM, y2: BOTTOM + 5, class: "axis" }));
      svg.append(make("text", { x: px(x), y: BOTTOM + 19, "text-anchor": "middle" }, text));
    }
    svg.append(make("text", { x: (LEFT + RIGHT) / 2, y: BOTTOM + 38, "text-anchor": "middle" }, axis.label));
    if (axis.guide !== undefined && axis.guide >= axis.low && axis.guide <= axis.high) {
      svg.append(make("line", { x1: px(axis.guide), x2: px(axis.guide), y1: TOP, y2: BOTTOM, class: "guide" }));
    }
    const targets = [];
    for (const line of series) {
      const group = make("g", { class: `s${line.colour % 10}${line.faint ? " faint" : ""}` });
      const points = line.points.map((p) => ({ ...p, px: px(p.x), py: p.y === null ? null : py(p.y) }));
      // A missing value breaks the line: nothing is interpolated.
      let d = "", open = false;
      for (const p of points) {
        if (p.py === null) open = false;
        else { d += `${open ? "L" : "M"}${p.px.toFixed(1)} ${p.py.toFixed(1)}`; open = true; }
      }
      if (line.band) {
        const solid = points.filter((p) => p.py !== null);
        const up = solid.map((p) => `${p.px.toFixed(1)} ${py(p.high).toFixed(1)}`);
        const down = solid.map((p) => `${p.px.toFixed(1)} ${py(p.low).toFixed(1)}`).reverse();
        if (up.length) group.append(make("path", { d: `M${up.concat(down).join("L")}Z`, class: "band" }));
      }
      group.append(make("path", { d, class: "path", ...(line.dash ? { "stroke-dasharray": line.dash } : {}) }));
      for (const p of points) {
        if (p.py === null) continue;
        targets.push(p);
        if (line.curve) continue;
        group.append(make("line", { x1: p.px, x2: p.px, y1: py(p.low), y2: py(p.high), class: "whisker" }));
        const r = p.big ? 6 : 4, look = `mark${p.hollow ? " hollow" : ""}`;
        group.append(line.square
          ? make("rect", { x: p.px - r, y: p.py - r, width: 2 * r, height: 2 * r, class: look })
          : make("circle", { cx: p.px, cy: p.py, r, class: look }));
      }
      svg.append(group);
    }
    for (const each of edge) {
      const x = px(each.x), y = BOTTOM - 7;
      const group = make("g", { class: `s${each.colour % 10}` });
      group.append(make("path", { d: `M${x} ${y - 6}L${x + 6} ${y}L${x} ${y + 6}L${x - 6} ${y}Z`, class: "mark hollow" }));
      svg.append(group);
      targets.push({ px: x, py: y, tip: each.tip });
    }
    const tip = make("div", { class: "tip", role: "status", hidden: "" });
    const ring = make("circle", { r: 9, class: "focus", visibility: "hidden" });
    svg.append(ring);
    let now = -1;
    const show = (index) => {
      now = index;
      const found = targets[index];
      tip.hidden = !found;
      ring.setAttribute("visibility", found ? "visible" : "hidden");
      if (!found) return;
      ring.setAttribute("cx", found.px);
      ring.setAttribute("cy", found.py);
      tip.textContent = found.tip;
      const box = svg.getBoundingClientRect(), scale = box.width / WIDTH;
      const room = host.clientWidth - tip.offsetWidth;
      tip.style.left = `${Math.max(0, Math.min(found.px * scale + 12, room))}px`;
      tip.style.top = `${svg.offsetTop + found.py * scale + 14}px`;
    };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), scale = WIDTH / box.width;
      const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
      let best = -1, least = 40 ** 2;
      targets.forEach((p, i) => {
        const far = (p.px - x) ** 2 + (p.py - y) ** 2;
        if (far < least) [best, least] = [i, far];
      });
      show(best);
    });
    svg.addEventListener("pointerleave", () => show(-1));
    svg.addEventListener("blur", () => show(-1));
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") show(-1);
      if (!step || !targets.length) return;
      event.preventDefault();
      show((now + step + targets.length) % targets.length);
    });
    host.replaceChildren(make("h3", {}, title), svg, tip);
  };

  const DASHES = ["", "7 4", "2 4", "10 3 2 3", "1 3"];
  const linesOf = (now) => {
    const lines = [];
    data.models.forEach((model, m) => (data.criteria.length ? data.criteria : [null]).forEach((_, c) => {
      const own = data.points.filter((p) => p.model === m && onLine(p, now) && (p.criterion === null || p.criterion === c));
      if (own.length && (now.criterion === "" || now.criterion === String(c))) {
        own.sort((a, b) => a.sparsity - b.sparsity);
        lines.push({ colour: m, dash: DASHES[c % DASHES.length], square: model.robust, own, name: `${model.name}${data.criteria.length ? `, ${data.criteria[c]}` : ""}` });
      }
    }));
    return lines;
  };
  const axisOf = (lines) => {
    if (field.axis.value === "sparsity") {
      const high = Math.max(...data.sparsities, 0.1);
      return { low: 0, high, ticks: data.sparsities.map((s) => [s, String(s)]), label: "sparsity", of: (p) => p.sparsity };
    }
    const known = lines.flatMap((line) => line.own).map((p) => p.macs?.[0]).filter(Boolean);
    const low = Math.min(0.5, ...known) * 0.9, high = Math.max(1, ...known) * 1.05;
    const ticks = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 1].map((t) => [t, `${100 * t} %`]);
    return { low, high, log: true, label: "MACs left (logarithmic)", ticks: low > 0.04 ? ticks : ticks.filter(([t]) => t !== 0.5), of: (p) => p.macs?.[0] };
  };
  const drawShares = (now) => {
    const lines = linesOf(now), axis = axisOf(lines), at = attack(), without = [];
    const series = (value) => lines.map((line) => ({
      ...line,
      points: line.own.filter((p) => axis.of(p) !== undefined).map((p) => {
        const share = value(p);
        return {
          x: axis.of(p), y: share ? share[0] : null, low: share?.[1], high: share?.[2], hollow: p.grade === "C",
          big: now.sparsity !== "" && p.sparsity === Number(now.sparsity), tip: words(p, now),
        };
      }),
    }));
    const edge = lines.flatMap((line) => line.own.filter((p) => !p.robust?.[now.budget]).flatMap((p) => {
      without.push(`${named(p)}: ${p.word || "not tried at this budget"}`);
      return axis.of(p) === undefined ? [] : [{ x: axis.of(p), colour: line.colour, tip: words(p, now) }];
    }));
    chart(document.getElementById("chart-accuracy"), "accuracy on the attacked images", axis, series((p) => p.clean));
    chart(document.getElementById("chart-robust"), `${at.quantity} at ${at.norm} ≤ ${at.budgets[now.budget][1]}`, axis, series((p) => p.robust?.[now.budget]), edge);
    const keys = document.querySelector(".keys");
    keys.replaceChildren(...lines.map((line) => {
      const item = make("li", { class: `s${line.colour % 10}` });
      const sign = make("svg", { viewBox: "0 0 44 14", "aria-hidden": "true" });
      sign.append(make("path", { d: "M0 7H44", stroke: "currentcolor", "stroke-width": 2, ...(line.dash ? { "stroke-dasharray": line.dash } : {}) }));
      sign.append(line.square ? make("rect", { x: 18, y: 3, width: 8, height: 8, fill: "currentcolor" }) : make("circle", { cx: 22, cy: 7, r: 4.5, fill: "currentcolor" }));
      item.append(sign, make("span", {}, ` ${line.name} (${line.square ? "robust" : "non-robust"})`));
      return item;
    }));
    const note = document.getElementById("undrawn");
    const unique = Array.from(new Set(without));
    note.textContent = `Bars: 95 % intervals. Hollow: grade C, unreliable.${now.sparsity === "" ? "" : ` Large: sparsity ${now.sparsity}.`} `
      + (unique.length ? `Without a number, a diamond below: ${unique.join("; ")}.` : "");
  };
  const drawCurves = (now) => {
    const at = attack(), host = document.getElementById("chart-curves");
    if (!host) return;
    const shown = data.points.filter((p) => onLine(p, now, true) && p.curve);
    const series = shown.map((p) => ({
      // One model: a colour per sparsity. Several: that of the model.
      colour: now.model === "" ? p.model : data.sparsities.indexOf(p.sparsity),
      dash: p.criterion === null ? "1 3" : DASHES[p.criterion % DASHES.length], faint: p.grade === "C", curve: true, band: shown.length <= 6,
      points: at.eps.map((eps, i) => {
        const [mean, low, high] = p.curve.map((values) => (values[i] === null ? null : values[i] / 1000));
        const near = at.budgets.findIndex(([budget]) => Math.abs(budget - eps) <= 1e-5 * eps);
        const text = near >= 0 ? words(p, { ...now, budget: near }) : `${named(p)}, ${data.arms[p.arm].label}\n${at.quantity} at ε = ${eps.toPrecision(3)}: ` +
          `${percent(mean)} (95 % interval ${percent(low)} to ${percent(high)})\naccuracy ${p.clean[3]}; ${p.n}\ngrade ${p.grade}`;
        return { x: eps, y: mean, low, high, tip: mean === null ? "" : text };
      }),
    }));
    const axis = { low: 0, high: at.eps[at.eps.length - 1], ticks: at.ticks, label: `perturbation budget ε (${at.norm})`, guide: at.budgets[now.budget][0] };
    chart(host, `${at.quantity} against the budget`, axis, series);
    const names = make("ul", { class: "keys" });
    names.append(...series.map((line, i) => {
      const item = make("li", { class: `s${line.colour % 10}` });
      const sign = make("svg", { viewBox: "0 0 44 14", "aria-hidden": "true" });
      sign.append(make("path", { d: "M0 7H44", stroke: "currentcolor", "stroke-width": 2, "stroke-dasharray": line.dash }));
      item.append(sign, make("span", {}, ` ${named(shown[i])}${shown[i].grade === "C" ? ", grade C" : ""}`));
      return item;
    }));
    host.append(names);
  };
  const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(share >= 0.0995 ? 0 : 1)} %`);

  const setTiles = (now) => {
    const at = attack(), budget = `${at.norm} ≤ ${at.budgets[now.budget][1]}`;
    const model = now.model === "" ? null : data.models[Number(now.model)].name;
    const criterion = now.criterion === "" ? null : data.criteria[Number(now.criterion)];
    for (const block of all(".block")) {
      block.hidden = block.dataset.attack !== now.attack || block.dataset.arm !== data.arms[now.arm].name;
      if (block.hidden) continue;
      const output = block.querySelector("output");
      if (output) output.textContent = budget;
      for (const row of block.querySelectorAll("tr[data-model], figure[data-model]")) {
        row.hidden = (model !== null && row.dataset.model !== model) || (criterion !== null && row.dataset.criterion !== "" && row.dataset.criterion !== criterion);
      }
      for (const cell of block.querySelectorAll("[data-at]")) {
        const point = data.points[Number(cell.dataset.at)];
        cell.classList.toggle("chosen", now.sparsity !== "" && point.sparsity === Number(now.sparsity) && point.criterion !== null);
        if (!output || !point.robust?.length) continue;
        const share = point.robust[now.budget], number = cell.querySelector("b");
        if (!number) continue;
        number.textContent = share ? share[3] : "–";
        cell.querySelector(".interval").textContent = share ? share[4] : "";
        cell.style.setProperty("--share", share ? share[0] : 0);
      }
    }
  };
  const setRows = (now) => {
    const every = document.getElementById("every")?.checked;
    for (const row of all("#results tbody tr, #compared tbody tr")) {
      const point = data.points[Number(row.dataset.at)], compared = row.closest("#compared");
      // In the comparison a chosen criterion is on either side.
      row.hidden = compared ? !kept(point, { ...now, criterion: "" }) : !every && !kept(point, now);
      if (compared) continue;
      const at = data.attacks.find((each) => each.name === point.attack);
      const here = at && (at.name === now.attack ? now.budget : at.start);
      const share = point.robust?.[here], number = row.querySelector(".robust"), budget = row.querySelector(".budget");
      if (at && budget) budget.textContent = `${at.method}, ${at.norm} ≤ ${at.budgets[here][1]}`;
      if (!number) continue;
      const what = at.quantity === "robust accuracy" ? "" : `${at.quantity}: `;
      number.textContent = share ? `${what}${share[3]} [${share[4].replace(" to ", ", ").replace(/\s%$/, "")}], ${point.images}` : "–";
      number.dataset.key = share ? share[0] : "";
    }
  };
  const draw = () => {
    const now = choice(), at = attack();
    const some = [now.model === "" ? "all models" : data.models[Number(now.model)].name, data.arms[now.arm].label,
      now.criterion === "" ? "all criteria" : data.criteria[Number(now.criterion)], now.sparsity === "" ? "all sparsities" : `sparsity ${now.sparsity}`];
    for (const state of all(".state")) state.textContent = `${at.label}, ${at.norm} ≤ ${at.budgets[now.budget][1]}: ${some.join(", ")}`;
    drawShares(now);
    drawCurves(now);
    setTiles(now);
    setRows(now);
  };
  const budgets = () => fill(field.budget, attack().budgets.map(([, text], i) => [String(i), `${attack().norm} ≤ ${text}`]), String(attack().start));
  const start = () => {
    const numbered = (names, word) => [["", word], ...names.map((name, i) => [String(i), name])];
    fill(field.attack, data.attacks.map((each, i) => [String(i), each.label]), "0");
    fill(field.arm, data.arms.map((each, i) => [String(i), each.label]), "0");
    fill(field.model, numbered(data.models.map((each) => each.name), "all"), "");
    fill(field.criterion, numbered(data.criteria, "all"), "");
    fill(field.sparsity, [["", "all"], ...data.sparsities.filter((s) => s > 0).map((s) => [String(s), String(s)])], data.start.sparsity === null ? "" : String(data.start.sparsity));
    budgets();
    draw();
  };
  form.addEventListener("change", (event) => {
    if (event.target === field.attack) budgets();
    draw();
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    field.axis.value = "macs";
    start();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("every")?.addEventListener("change", draw);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) draw();
    width = innerWidth;
  });
  // On paper the charts have other widths, and letters of a drawing for the screen would be too small.
  for (const [event, printed] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      document.body.classList.toggle("printed", printed);
      draw();
    });
  }
  // The first figure says without a script what the two charts say with one.
  const first = document.querySelector("#first > figure");
  if (first) document.querySelector("#figures > .note").after(first);
  for (const part of all("#control, .charts, .keys, .state, #undrawn, #every-label")) part.hidden = false;
  start();
})();
