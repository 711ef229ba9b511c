"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const FIRST_ROWS = 50, WIDTH = 1000, SPLIT = 770, HEIGHT = 96, GAP = 0;
  const colour = new Map(data.methods.map((method) => [method.name, method.colour]));
  const rows = new Map(data.recordings.map((row) => [row.key, row]));
  const keys = data.recordings.map((row) => row.key).filter((key) => key in data.waves);
  let current = keys[0], sorted = { column: null, down: true }, everything = false;

  const number = (value, digits = 2) => value === null || value === undefined ? "–" : value.toFixed(digits);

  function make(tag, attributes = {}, text = "") {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  }

  function draw(tag, attributes, parent, text = "") {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    parent.append(element);
    return element;
  }

  function decoded(text) {
    if (text === null) return null;
    const bytes = atob(text);
    return Array.from(bytes, (sign) => sign.charCodeAt(0) === GAP ? NaN : (sign.charCodeAt(0) - 128) / 127);
  }

  const inside = (values, rate, from, seconds) =>
    [Math.max(0, Math.floor(from * rate)), Math.min(values.length - 1, Math.ceil((from + seconds) * rate))];

  function line(values, rate, from, seconds) {
    const [first, last] = inside(values, rate, from, seconds);
    let path = "", pen = "M";
    for (let i = first; i <= last; i++) {
      if (Number.isNaN(values[i])) { pen = "M"; continue; }
      const x = (i / rate - from) / seconds * SPLIT, y = 52 - 36 * values[i];
      path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = "L";
    }
    return path;
  }

  function spectrum(values, rate, from, seconds) {
    const [first, last] = inside(values, rate, from, seconds);
    const known = values.slice(first, last + 1).map((value) => Number.isNaN(value) ? 0 : value);
    const power = [];
    for (let bpm = 40; bpm <= 200; bpm++) {
      let real = 0, imaginary = 0;
      for (let i = 0; i < known.length; i++) {
        const taper = 1 - Math.cos(2 * Math.PI * i / known.length), angle = 2 * Math.PI * bpm / 60 * i / rate;
        real += known[i] * taper * Math.cos(angle);
        imaginary += known[i] * taper * Math.sin(angle);
      }
      power.push(real * real + imaginary * imaginary);
    }
    const top = Math.max(...power) || 1;
    const x = (i) => SPLIT + 30 + i / (power.length - 1) * (WIDTH - SPLIT - 40);
    return power.map((value, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${(88 - 66 * value / top).toFixed(1)}`).join("");
  }

  function about(row, place) {
    const found = row.methods && row.methods[place];
    if (!found) return "";
    const [rate, error, snr, n, failed, reason] = found;
    if (failed === n) return `failed: ${reason}`;
    const some = failed ? `, ${failed} of ${n} windows failed: ${reason}` : "";
    return `${number(rate, 1)} bpm, reference ${number(row.reference, 1)}, absolute error ${number(error)} bpm, SNR ${number(snr, 1)} dB${some}`;
  }

  function trace(name, wave, values, label, shape, from, seconds) {
    const row = rows.get(current), place = data.methods.findIndex((method) => method.name === name);
    const words = `${name}: ${about(row, place) || "no reference here"}`;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT + 16}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `Waveform of ${words}`);
    svg.dataset.method = name;
    draw("text", { x: 0, y: 12 }, svg, words);
    for (let tick = 0; tick <= 5; tick++) {
      const x = tick / 5 * SPLIT, second = wave.start + from + tick / 5 * seconds;
      draw("path", { class: "axis", d: `M${x} 18V${HEIGHT - 8}` }, svg);
      draw("text", { x, y: HEIGHT + 8, "text-anchor": tick === 0 ? "start" : tick === 5 ? "end" : "middle" }, svg, `${second.toFixed(1)} s`);
    }
    for (const bpm of [40, 80, 120, 160, 200]) {
      const x = SPLIT + 30 + (bpm - 40) / 160 * (WIDTH - SPLIT - 40);
      draw("path", { class: "axis", d: `M${x} 18V${HEIGHT - 8}` }, svg);
      draw("text", { x, y: HEIGHT + 8, "text-anchor": bpm === 200 ? "end" : "middle" }, svg, String(bpm));
    }
    draw("text", { x: WIDTH - 10, y: 12, "text-anchor": "end" }, svg, "spectrum [bpm]");
    if (label) {
      draw("path", { class: "shape", d: `${shape}L${WIDTH - 10} 88L${SPLIT + 30} 88Z` }, svg);
      draw("path", { class: "label", d: line(label, wave.rate, from, seconds) }, svg);
    }
    if (values) {
      for (const d of [line(values, wave.rate, from, seconds), spectrum(values, wave.rate, from, seconds)]) {
        draw("path", { class: "prediction", stroke: colour.get(name), d }, svg);
      }
    } else {
      draw("text", { x: 300, y: 52 }, svg, "no waveform that could be drawn");
    }
    return svg;
  }

  function show() {
    const wave = data.waves[current], row = rows.get(current);
    const label = decoded(wave.label), traces = wave.traces.map(decoded);
    const n = Math.max(0, ...[label, ...traces].filter(Boolean).map((values) => values.length));
    const whole = Math.max((n - 1) / wave.rate, 1), asked = Number(byId("length").value);
    const seconds = asked ? Math.min(asked, whole) : whole;
    byId("from").max = Math.max(0, whole - seconds);
    byId("from").disabled = whole <= seconds;
    const from = Math.min(Number(byId("from").value), whole - seconds);
    const names = data.drawn.filter((name) => document.querySelector(`#methods input[value="${CSS.escape(name)}"]`).checked);
    byId("about").textContent = [row.key, `part ${row.part}`, row.subject && `subject ${row.subject}`, row.conditions, row.missing]
      .filter(Boolean).join(" · ");
    const shape = label && spectrum(label, wave.rate, from, seconds);
    byId("traces").replaceChildren(...names.map((name) => trace(name, wave, traces[data.drawn.indexOf(name)], label, shape, from, seconds)));
    byId("pick").value = current;
    byId("previous").disabled = keys.indexOf(current) === 0;
    byId("next").disabled = keys.indexOf(current) === keys.length - 1;
    for (const line of document.querySelectorAll("#list tbody tr")) {
      if (line.dataset.key === current) line.setAttribute("aria-current", "true"); else line.removeAttribute("aria-current");
    }
  }

  function choose(key) {
    current = key;
    byId("from").value = 0;
    show();
  }

  const columns = [
    { title: "recording", value: (row) => row.key }, { title: "part", value: (row) => row.part },
    { title: "subject", value: (row) => row.subject }, { title: "conditions", value: (row) => row.conditions },
    { title: "reference [bpm]", value: (row) => row.reference ?? null, digits: 1 },
    ...data.methods.map((method, place) => ({
      title: method.name, place, value: (row) => row.methods && row.methods[place] ? row.methods[place][1] : null,
    })),
    ...data.drawn.slice(0, 1).map((name) => ({
      title: `SNR of ${name} [dB]`, digits: 1,
      value: (row) => row.methods && row.methods[data.methods.findIndex((m) => m.name === name)]?.[2],
    })),
  ].filter((column) => column.title !== "conditions" || data.recordings.some((row) => row.conditions));

  const failed = (row) => (row.methods || []).some((found) => found && found[4]);
  const searched = (row) => [row.key, row.part, row.subject, row.conditions, row.missing ? `missing ${row.missing}` : "",
    failed(row) ? "failed" : ""].join(" ").toLowerCase();

  function compare(a, b) {
    const [left, right] = [sorted.column.value(a), sorted.column.value(b)];
    if (left === right) return 0;
    if (left === null || left === undefined) return 1;
    if (right === null || right === undefined) return -1;
    const order = typeof left === "string" ? left.localeCompare(right, "en", { numeric: true }) : left - right;
    return sorted.down ? -order : order;
  }

  function cell(row, column) {
    const value = column.value(row);
    if (typeof value === "string") return make("td", { class: "names", title: value }, value);
    const found = column.place === undefined || !row.methods ? null : row.methods[column.place];
    if (found && found[4]) {
      return make("td", { class: "bad", title: found[5] }, value === null ? "failed" : `${number(value)} (${found[4]} failed)`);
    }
    if (row.missing && column.title === "reference [bpm]") return make("td", { class: "bad", title: row.missing }, "missing");
    return make("td", {}, number(value, column.digits));
  }

  function list() {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = data.recordings.filter((row) => words.every((word) => searched(row).includes(word)));
    if (sorted.column) kept.sort(compare);
    const visible = everything ? kept : kept.slice(0, FIRST_ROWS);
    byId("count").textContent = `${kept.length} of ${data.recordings.length} recordings, ${visible.length} shown`;
    byId("more").hidden = visible.length === kept.length;
    byId("list").tBodies[0].replaceChildren(...visible.map((row) => {
      const line = make("tr");
      line.dataset.key = row.key;
      if (row.key === current) line.setAttribute("aria-current", "true");
      line.append(...columns.map((column) => cell(row, column)));
      if (row.key in data.waves) {
        const button = make("button", { type: "button" }, row.key);
        button.addEventListener("click", () => { choose(row.key); byId("viewer").scrollIntoView(); });
        line.firstChild.replaceChildren(button);
      }
      return line;
    }));
  }

  function head() {
    const line = make("tr");
    for (const column of columns) {
      const heading = make("th", { scope: "col", "aria-sort": sorted.column === column ? (sorted.down ? "descending" : "ascending") : "none" });
      const arrow = sorted.column === column ? (sorted.down ? " ▼" : " ▲") : "";
      const button = make("button", { type: "button" }, column.title + arrow);
      button.addEventListener("click", () => {
        sorted = { column, down: sorted.column === column ? !sorted.down : typeof column.value(data.recordings[0]) !== "string" };
        head();
        list();
        byId("list").tHead.querySelectorAll("button")[columns.indexOf(column)].focus();
      });
      heading.append(button);
      line.append(heading);
    }
    byId("list").tHead.replaceChildren(line);
  }

  function start() {
    byId("interactive").hidden = false;
    head();
    list();
    byId("filter").addEventListener("input", list);
    byId("more").addEventListener("click", () => { everything = true; list(); });
    if (!keys.length) { byId("viewer").hidden = true; return; }
    byId("pick").append(...keys.map((key) => make("option", { value: key }, key)));
    byId("pick").addEventListener("change", (event) => choose(event.target.value));
    byId("previous").addEventListener("click", () => choose(keys[keys.indexOf(current) - 1]));
    byId("next").addEventListener("click", () => choose(keys[keys.indexOf(current) + 1]));
    for (const id of ["length", "from"]) byId(id).addEventListener("input", show);
    data.drawn.forEach((name, place) => {
      const label = make("label"), box = make("input", { type: "checkbox", value: name }), swatch = make("span", { class: "swatch" });
      box.checked = place < 4;
      swatch.style.background = colour.get(name);
      box.addEventListener("change", show);
      label.append(box, " ", swatch, name);
      byId("methods").append(label);
    });
    show();
  }

  start();
})();
