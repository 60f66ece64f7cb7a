"use strict";
(() => {
  const data = JSON.parse(document.getElementById("curves").textContent);
  const box = document.getElementById("chart");
  const live = document.getElementById("live");
  if (!box || !data.curves.length) return;

  const NS = "http://www.w3.org/2000/svg";
  const DASHES = ["", "7 3", "2 2.5", "7 2.5 2 2.5", "12 4", "4 2 1 2 1 2"];
  const ROUND = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999];
  const LOWEST = 1e-6;
  const off = { runs: new Set(), methods: new Set() };
  let kind = "roc";
  let scale = null;
  let marker = null;
  let place = null; // {curve, point}: where the reader is
  let pending = false;

  const make = (name, attributes, parent) => {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (parent) parent.append(node);
    return node;
  };
  const text = (parent, content, attributes) => { make("text", attributes, parent).textContent = content; };
  const digits = (value, count) => Number(value.toPrecision(count)).toString();
  const percent = (rate) => digits(rate * 100, 4) + "%";
  const asked = (rate) => (rate > 0.9e-3 ? percent(rate) : rate.toExponential());
  const tick = (rate, power) => {
    if (!power) return Number((rate * 100).toPrecision(6)) + "%";
    const exponent = Math.round(-Math.log10(rate));
    return exponent ? "10⁻" + "⁰¹²³⁴⁵⁶⁷⁸⁹"[exponent] : "1";
  };
  // Normal deviate of a rate, Abramowitz and Stegun 26.2.23: off by less than a hundredth of a pixel here.
  const deviate = (p) => {
    if (p > 0.5) return -deviate(1 - p);
    const t = Math.sqrt(-2 * Math.log(Math.max(p, 1e-12)));
    const top = 2.515517 + t * (0.802853 + t * 0.010328);
    return top / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))) - t;
  };

  // Every point of every curve, the operating points that were asked for among them, by rising FPR.
  const curves = data.curves.map((curve, index) => {
    const points = curve.accepted.map((accepted, i) => ({
      fpr: accepted / curve.impostor, tpr: curve.matched[i] / curve.genuine, threshold: curve.thresholds[i], asked: null,
    }));
    for (const point of curve.points) points.push({ ...point, asked: point.rate });
    points.sort((a, b) => a.fpr - b.fpr || a.tpr - b.tpr);
    return { ...curve, index, points, floor: Math.max(1 / curve.impostor, LOWEST) };
  });
  // What colour alone would tell apart differs in its line as well: recognisers, or the methods where there is one.
  const lined = data.runs.length > 1 ? "runs" : "methods";
  const dash = (index) => DASHES[index % DASHES.length];
  const shown = () => curves.filter((c) => !off.runs.has(c.run) && !off.methods.has(c.method));
  // A method without a single miss has no place on DET axes: keys pass it by.
  const reached = () => shown().filter((c) => c.seen.length);
  const name = (c) => (data.runs.length > 1 ? data.runs[c.run] + ", " : "") + data.methods[c.method].label;

  const window_ = (visible) => {
    const left = Math.min(0.1, ...visible.map((c) => c.floor));
    const starts = visible.map((c) => c.points.filter((p) => p.fpr <= c.floor * (1 + 1e-9)).at(-1));
    if (kind === "roc") {
      const low = Math.min(...starts.map((p) => p.tpr), 0.95);
      return { left, right: 1, low: Math.max(0, Math.floor(low * 10 - 0.5) / 10), high: 1 };
    }
    let low = 0.02;
    for (const c of visible) for (const p of c.points) if (p.fpr <= 0.5 && p.tpr < 1) low = Math.min(low, 1 - p.tpr);
    const high = Math.max(0.5, ...starts.map((p) => 1 - p.tpr));
    return { left: Math.min(left, 0.02), right: 0.5, low: Math.max(low, LOWEST), high: Math.min(high, 0.9995) };
  };

  const axes = (svg, frame, win) => {
    const { x0, x1, y0, y1 } = frame;
    const wx = kind === "roc" ? Math.log10 : deviate;
    const wy = kind === "roc" ? (v) => v : deviate;
    const spread = (f, a, b, from, to) => (v) => from + ((f(v) - f(a)) / (f(b) - f(a))) * (to - from);
    const x = spread(wx, win.left, win.right, x0, x1);
    const y = spread(wy, win.low, win.high, y1, y0);
    const inside = (v, a, b) => v >= a * (1 - 1e-9) && v <= b * (1 + 1e-9);
    let xs = ROUND;
    let ys = ROUND;
    if (kind === "roc") {
      xs = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1];
      const step = win.high - win.low > 0.5 ? 0.2 : win.high - win.low > 0.2 ? 0.1 : 0.05;
      ys = Array.from({ length: 22 }, (_, i) => Number((1 - i * step).toFixed(4))).filter((v) => v >= 0);
    }
    for (const v of ys.filter((v) => inside(v, win.low, win.high))) {
      make("line", { class: "grid", x1: x0, x2: x1, y1: y(v), y2: y(v) }, svg);
      text(svg, tick(v, false), { x: x0 - 6, y: y(v) + 4, "text-anchor": "end" });
    }
    let last = -99;
    for (const v of xs.filter((v) => inside(v, win.left, win.right))) {
      make("line", { class: "grid", x1: x(v), x2: x(v), y1: y0, y2: y1 }, svg);
      if (x(v) - last < 34) continue;
      last = x(v);
      text(svg, tick(v, kind === "roc" && win.left < 1e-5), { x: Math.min(x(v), x1 - 8), y: y1 + 16, "text-anchor": "middle" });
    }
    for (const rate of data.rates.filter((r) => inside(r, win.left, win.right))) {
      make("line", { class: "rate", x1: x(rate), x2: x(rate), y1: y0, y2: y1 }, svg);
    }
    if (kind === "det") {
      const from = Math.max(win.left, win.low);
      const to = Math.min(win.right, win.high);
      make("line", { class: "rate", x1: x(from), y1: y(from), x2: x(to), y2: y(to) }, svg);
    }
    make("path", { class: "axis", fill: "none", d: `M${x0} ${y0}V${y1}H${x1}` }, svg);
    const roc = kind === "roc";
    text(svg, roc ? "False match rate (FPR)" : "False match rate (FMR)", { x: (x0 + x1) / 2, y: y1 + 33, "text-anchor": "middle" });
    text(svg, roc ? "True match rate (TPR)" : "False non-match rate (FNMR)", { x: x0 - 40, y: y0 - 8 });
    return {
      x: (p) => x(Math.min(Math.max(p.fpr, win.left), 1 - 1e-9)),
      y: (p) => (kind === "roc" ? y(p.tpr) : y(Math.min(Math.max(1 - p.tpr, win.low / 10), 1 - 1e-9))),
      holds: (p) => p.fpr <= win.right * (1 + 1e-9) && (kind === "roc" || 1 - p.tpr >= win.low * (1 - 1e-9)),
    };
  };

  const draw = () => {
    const width = Math.max(box.clientWidth, 220);
    const height = Math.round(Math.min(Math.max(width * 0.62, 280), 480));
    const frame = { x0: 48, x1: width - 12, y0: 24, y1: height - 42 };
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    const visible = shown();
    box.querySelector("svg")?.remove();
    box.prepend(svg);
    const clip = make("clipPath", { id: "clip" }, make("defs", {}, svg));
    make("rect", { x: frame.x0 - 6, y: frame.y0 - 6, width: frame.x1 - frame.x0 + 12, height: frame.y1 - frame.y0 + 6 }, clip);
    if (!visible.length) {
      text(svg, "Every curve is hidden.", { x: width / 2, y: height / 2, "text-anchor": "middle" });
      scale = null;
      point(null);
      return;
    }
    const win = window_(visible);
    scale = { ...axes(svg, frame, win), ...frame, width, height };
    const group = make("g", { "clip-path": "url(#clip)" }, svg);
    for (const c of visible) {
      c.seen = [];
      let path = "";
      for (const p of c.points) {
        if (p.fpr > win.right * (1 + 1e-9)) break;
        const at = { ...p, x: scale.x(p), y: scale.y(p) };
        if (p.fpr <= c.floor * (1 + 1e-9)) { c.seen.length = 0; path = ""; } // of what lies left, only the last is drawn
        path += path ? `H${at.x.toFixed(1)}V${at.y.toFixed(1)}` : `M${at.x.toFixed(1)} ${at.y.toFixed(1)}`;
        if (scale.holds(p)) c.seen.push(at);
      }
      path += `H${frame.x1}`;
      const look = { class: `curve ${data.methods[c.method].css}`, d: path, "stroke-dasharray": dash(lined === "runs" ? c.run : c.method) };
      c.node = make("path", look, group);
      for (const p of c.seen.filter((p) => p.asked !== null && p.fpr > 0)) {
        make("circle", { class: `mark ${data.methods[c.method].css}`, cx: p.x, cy: p.y, r: 4 }, group);
      }
    }
    marker = make("g", { visibility: "hidden" }, svg);
    make("line", { class: "cross", y1: frame.y0, y2: frame.y1 }, marker);
    make("line", { class: "cross", x1: frame.x0, x2: frame.x1 }, marker);
    make("circle", { class: "here", r: 5.5 }, marker);
    point(null);
  };

  const lines = (c, p) => {
    const threshold = p.threshold === null ? "none" : p.threshold.toFixed(4);
    const range = p.ci ? ` [${(p.ci[0] * 100).toFixed(2)}, ${(p.ci[1] * 100).toFixed(2)}]` : "";
    return [
      `FPR (FMR) ${percent(p.fpr)}`,
      `TPR ${(p.tpr * 100).toFixed(2)}%${range}`,
      `FNMR ${((1 - p.tpr) * 100).toFixed(2)}%`,
      `threshold ${threshold}`,
      ...(p.asked === null ? [] : [`operating point: FPR at most ${asked(p.asked)}`]),
    ];
  };

  // Show one point of one curve, or none; told to screen readers where keys moved it.
  function point(next, spoken = false) {
    place = next;
    const tip = document.getElementById("tip");
    for (const c of curves) c.node?.classList.toggle("near", Boolean(next) && c === next.curve);
    tip.hidden = !next;
    if (!next || !scale) { marker?.setAttribute("visibility", "hidden"); return; }
    const c = next.curve;
    const p = c.seen[next.point];
    const css = data.methods[c.method].css;
    const [up, across, dot] = marker.children;
    up.setAttribute("x1", p.x); up.setAttribute("x2", p.x);
    across.setAttribute("y1", p.y); across.setAttribute("y2", p.y);
    dot.setAttribute("cx", p.x); dot.setAttribute("cy", p.y); dot.setAttribute("class", `here ${css}`);
    marker.setAttribute("visibility", "visible");
    const head = document.createElement("b");
    head.textContent = name(c);
    tip.replaceChildren(head, ...lines(c, p).flatMap((line, i) => (i ? [document.createElement("br"), line] : [line])));
    tip.className = `tip ${css}`;
    // Beside the point where there is room, and never over the edge of the chart.
    const w = tip.offsetWidth;
    const h = tip.offsetHeight;
    const beside = p.x + 14 + w <= scale.width ? p.x + 14 : p.x - 14 - w;
    tip.style.left = `${Math.min(Math.max(beside, 0), Math.max(scale.width - w, 0))}px`;
    tip.style.top = `${Math.min(Math.max(p.y - h - 14, 0), scale.height - h)}px`;
    if (spoken) live.textContent = `${name(c)}: ${lines(c, p).join(", ")}`;
  }

  const nearest = (x, y) => {
    let best = null;
    let least = Infinity;
    for (const c of shown()) {
      c.seen.forEach((p, i) => {
        // An operating point that was asked for attracts from a little further away.
        const far = Math.hypot(p.x - x, p.y - y) - (p.asked === null ? 0 : 5);
        if (far < least) { least = far; best = { curve: c, point: i }; }
      });
    }
    return best;
  };
  const hover = (event) => {
    if (pending || !scale) return;
    pending = true;
    requestAnimationFrame(() => {
      pending = false;
      if (!scale) return;
      const area = box.getBoundingClientRect();
      const zoom = scale.width / area.width;
      point(nearest((event.clientX - area.left) * zoom, (event.clientY - area.top) * zoom));
    });
  };
  box.addEventListener("pointermove", hover);
  box.addEventListener("pointerdown", hover);
  box.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") point(null); });
  box.addEventListener("blur", () => point(null));
  box.addEventListener("focus", () => {
    if (!scale || place || !box.matches(":focus-visible")) return;
    const first = reached()[0];
    if (!first) return;
    const asked = first.seen.findIndex((p) => p.asked !== null);
    point({ curve: first, point: Math.max(asked, 0) }, true);
  });
  box.addEventListener("keydown", (event) => {
    const visible = scale ? reached() : [];
    if (!visible.length) return;
    const at = place ?? { curve: visible[0], point: 0 };
    const seen = at.curve.seen;
    const end = seen.length - 1;
    const next = (step) => {
      for (let i = at.point + step; i >= 0 && i <= end; i += step) if (seen[i].asked !== null) return i;
      return at.point;
    };
    const other = (step) => {
      const curve = visible[(visible.indexOf(at.curve) + step + visible.length) % visible.length];
      const here = seen[at.point].x;
      let close = 0;
      curve.seen.forEach((p, i) => { if (Math.abs(p.x - here) < Math.abs(curve.seen[close].x - here)) close = i; });
      return { curve, point: close };
    };
    const moves = {
      ArrowRight: () => ({ ...at, point: Math.min(at.point + 1, end) }),
      ArrowLeft: () => ({ ...at, point: Math.max(at.point - 1, 0) }),
      Home: () => ({ ...at, point: 0 }),
      End: () => ({ ...at, point: end }),
      PageUp: () => ({ ...at, point: next(1) }),
      PageDown: () => ({ ...at, point: next(-1) }),
      ArrowDown: () => other(1),
      ArrowUp: () => other(-1),
      Escape: () => null,
    };
    if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    point(moves[event.key](), true);
  });

  for (const button of document.querySelectorAll("button[data-kind]")) {
    button.addEventListener("click", () => {
      kind = button.dataset.kind;
      for (const other of document.querySelectorAll("button[data-kind]")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      draw();
    });
  }
  for (const button of document.querySelectorAll("button[data-hide]")) {
    const chosen = off[button.dataset.hide];
    const index = Number(button.dataset.index);
    if (button.dataset.hide === lined) button.querySelector("line").setAttribute("stroke-dasharray", dash(index));
    button.addEventListener("click", () => {
      if (!chosen.delete(index)) chosen.add(index);
      button.setAttribute("aria-pressed", String(!chosen.has(index)));
      draw();
    });
  }
  let drawn = 0;
  new ResizeObserver(() => { if (box.clientWidth !== drawn) { drawn = box.clientWidth; draw(); } }).observe(box);
  // Paper cannot be clicked: open everything while printing.
  const closed = [];
  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details:not([open])")) { part.open = true; closed.push(part); }
  });
  addEventListener("afterprint", () => { while (closed.length) closed.pop().open = false; });
  draw();
})();
