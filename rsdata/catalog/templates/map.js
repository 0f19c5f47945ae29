"use strict";
(function () {
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const canvas = document.getElementById("map"), box = canvas.parentElement, context = canvas.getContext("2d");
  const readout = document.getElementById("readout"), R = 6378137;
  function bytes(text) {
    const raw = atob(text), out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out;
  }
  const x = new Uint16Array(bytes(data.x).buffer), y = new Uint16Array(bytes(data.y).buffer);
  const split = bytes(data.split), side = bytes(data.side), turn = new Int8Array(bytes(data.turn).buffer);
  const blocks = data.blocks.map((each, i) => ({
    left: each[0] * data.block, bottom: each[1] * data.block, from: each[2],
    to: i + 1 < data.blocks.length ? data.blocks[i + 1][2] : data.count,
  }));
  const shown = data.splits.map(() => true);
  const colors = data.splits.map((each) => each.color);
  const packed = colors.map((c) => (255 << 24) | (parseInt(c.slice(5, 7), 16) << 16) | (parseInt(c.slice(3, 5), 16) << 8) | parseInt(c.slice(1, 3), 16));
  const marks = data.marks.map((m) => ({ x: (R * m.lon * Math.PI) / 180, y: R * Math.asinh(Math.tan((m.lat * Math.PI) / 180)), text: m.text }));
  const maxSide = Math.max(1, ...data.sides);
  let width = 1, height = 1, ratio = 1, view = { x: 0, y: 0, scale: 1e-4 }, home = view, queued = false, aiming = false;

  const stretch = (my) => Math.cosh(my / R); // Web Mercator draws ground this much larger
  const lonOf = (mx) => (mx / R) * (180 / Math.PI), latOf = (my) => Math.atan(Math.sinh(my / R)) * (180 / Math.PI);

  function whole() {
    if (!data.count) return { x: 0, y: 0, scale: 1e-5 };
    let west = Infinity, east = -Infinity, south = Infinity, north = -Infinity;
    for (const block of blocks) for (let i = block.from; i < block.to; i++) {
      const px = block.left + x[i] * data.step, py = block.bottom + y[i] * data.step;
      if (px < west) west = px; if (px > east) east = px; if (py < south) south = py; if (py > north) north = py;
    }
    const room = 3 * maxSide * stretch(Math.max(Math.abs(south), Math.abs(north)));
    return { x: (west + east) / 2, y: (south + north) / 2, scale: Math.min(width / ((east - west) * 1.08 + room), height / ((north - south) * 1.08 + room)) };
  }
  function queue() { if (!queued) { queued = true; requestAnimationFrame(() => { queued = false; draw(); }); } }
  function resize() {
    ratio = Math.min(2, window.devicePixelRatio || 1);
    const atHome = view === home;
    width = box.clientWidth; height = box.clientHeight;
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    home = whole(); if (atHome) view = home;
    queue();
  }
  const sx = (mx) => (mx - view.x) * view.scale + width / 2, sy = (my) => height / 2 - (my - view.y) * view.scale;

  function visible(block) {
    const grow = maxSide * 3;
    const left = sx(block.left - grow), right = sx(block.left + data.block + grow);
    const top = sy(block.bottom + data.block + grow), bottom = sy(block.bottom - grow);
    return right >= 0 && left <= width && bottom >= 0 && top <= height;
  }
  function draw() {
    canvas.dataset.scale = view.scale; // told to whoever reads the page, as a canvas is only pixels
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#f5f7f9"; context.fillRect(0, 0, width, height);
    const patchPx = maxSide * stretch(view.y) * view.scale;
    if (patchPx * ratio < 5) dots(patchPx); else squares(patchPx);
    graticule(); rings(); bar(); if (aiming) cross();
  }
  function cross() {
    context.beginPath(); context.moveTo(width / 2 - 9, height / 2); context.lineTo(width / 2 + 9, height / 2);
    context.moveTo(width / 2, height / 2 - 9); context.lineTo(width / 2, height / 2 + 9);
    context.strokeStyle = "#fff"; context.lineWidth = 4; context.stroke(); context.strokeStyle = "#000"; context.lineWidth = 1.5; context.stroke();
  }
  function dots() {
    const image = context.createImageData(canvas.width, canvas.height), pixels = new Uint32Array(image.data.buffer).fill(0xfff9f7f5);
    const scale = view.scale * ratio, w = canvas.width, h = canvas.height;
    for (let pass = 0; pass < colors.length; pass++) {
      if (!shown[pass]) continue;
      const color = packed[pass];
      for (const block of blocks) {
        if (!visible(block)) continue;
        for (let i = block.from; i < block.to; i++) {
          if (split[i] !== pass) continue;
          const my = block.bottom + y[i] * data.step;
          const size = Math.max(1, data.sides[side[i]] * stretch(my) * scale);
          const cx = (block.left + x[i] * data.step - view.x) * scale + w / 2, cy = h / 2 - (my - view.y) * scale;
          const x0 = Math.max(0, Math.round(cx - size / 2)), x1 = Math.min(w, Math.max(Math.round(cx + size / 2), Math.round(cx - size / 2) + 1));
          const y0 = Math.max(0, Math.round(cy - size / 2)), y1 = Math.min(h, Math.max(Math.round(cy + size / 2), Math.round(cy - size / 2) + 1));
          for (let row = y0; row < y1; row++) for (let col = x0; col < x1; col++) pixels[row * w + col] = color;
        }
      }
    }
    context.putImageData(image, 0, 0);
  }
  function squares(patchPx) {
    for (let pass = 0; pass < colors.length; pass++) {
      if (!shown[pass]) continue;
      context.beginPath();
      for (const block of blocks) {
        if (!visible(block)) continue;
        for (let i = block.from; i < block.to; i++) {
          if (split[i] !== pass) continue;
          const my = block.bottom + y[i] * data.step, cx = sx(block.left + x[i] * data.step), cy = sy(my);
          const half = (data.sides[side[i]] * stretch(my) * view.scale) / 2;
          if (cx < -2 * half || cx > width + 2 * half || cy < -2 * half || cy > height + 2 * half) continue;
          const angle = (turn[i] * data.turnStep * Math.PI) / 180, u = half * Math.cos(angle), v = half * Math.sin(angle);
          context.moveTo(cx - u + v, cy - u - v); context.lineTo(cx + u + v, cy - u + v);
          context.lineTo(cx + u - v, cy + u + v); context.lineTo(cx - u - v, cy + u - v); context.closePath();
        }
      }
      context.globalAlpha = 0.85; context.fillStyle = colors[pass]; context.fill(); context.globalAlpha = 1;
      if (patchPx > 7) { context.strokeStyle = "#fff"; context.lineWidth = patchPx > 24 ? 1 : 0.5; context.stroke(); }
    }
  }
  function step(span, about) {
    const power = Math.pow(10, Math.floor(Math.log10(span / about)));
    for (const factor of [1, 2, 5, 10]) if (power * factor >= span / about) return power * factor;
    return power * 10;
  }
  function text(words, px, py, align) {
    context.textAlign = align; context.lineWidth = 3; context.strokeStyle = "rgba(255,255,255,.9)";
    context.strokeText(words, px, py); context.fillStyle = "#3c4650"; context.fillText(words, px, py);
  }
  function degrees(value, positive, negative) {
    const shownValue = Math.abs(value).toFixed(4).replace(/\.?0+$/, "");
    return shownValue === "0" ? "0°" : shownValue + "° " + (value > 0 ? positive : negative);
  }
  function graticule() {
    const west = lonOf(view.x - width / 2 / view.scale), east = lonOf(view.x + width / 2 / view.scale);
    const south = latOf(view.y - height / 2 / view.scale), north = latOf(view.y + height / 2 / view.scale);
    context.font = "12px system-ui, sans-serif"; context.textBaseline = "alphabetic";
    const dx = step(east - west, Math.max(2, width / 130)), dy = step(north - south, Math.max(2, height / 90));
    const lines = new Path2D(), labels = [];
    for (let lon = Math.ceil(west / dx) * dx; lon <= east; lon += dx) {
      const px = sx((R * lon * Math.PI) / 180); lines.moveTo(px, 0); lines.lineTo(px, height);
      if (px > 60 && px < width - 30) labels.push([degrees(+lon.toFixed(6), "E", "W"), px, height - 6, "center"]);
    }
    for (let lat = Math.ceil(south / dy) * dy; lat <= north; lat += dy) {
      const py = sy(R * Math.asinh(Math.tan((lat * Math.PI) / 180))); lines.moveTo(0, py); lines.lineTo(width, py);
      if (py > 16 && py < height - 26) labels.push([degrees(+lat.toFixed(6), "N", "S"), 5, py - 3, "left"]);
    }
    context.strokeStyle = "rgba(60,70,80,.22)"; context.lineWidth = 1; context.stroke(lines);
    for (const label of labels) text(...label);
  }
  function rings() {
    context.strokeStyle = "#000"; context.lineWidth = 2;
    for (const mark of marks) { context.beginPath(); context.arc(sx(mark.x), sy(mark.y), 7, 0, 7); context.strokeStyle = "#fff"; context.lineWidth = 4; context.stroke(); context.strokeStyle = "#b00020"; context.lineWidth = 2; context.stroke(); }
  }
  function bar() {
    const kmPerPx = 1 / view.scale / stretch(view.y) / 1000, power = Math.pow(10, Math.floor(Math.log10(kmPerPx * 120)));
    const km = [5, 2, 1].map((f) => f * power).find((each) => each <= kmPerPx * 120), px = km / kmPerPx;
    const right = width - 12, base = height - 26;
    context.strokeStyle = "#fff"; context.lineWidth = 5; context.beginPath(); context.moveTo(right - px, base); context.lineTo(right, base); context.stroke();
    context.strokeStyle = "#1c2329"; context.lineWidth = 2; context.beginPath();
    context.moveTo(right - px, base - 5); context.lineTo(right - px, base); context.lineTo(right, base); context.lineTo(right, base - 5); context.stroke();
    text(km >= 1 ? km + " km" : Math.round(km * 1000) + " m", right - px / 2, base - 7, "center");
  }
  function zoom(factor, px, py) {
    const mx = view.x + (px - width / 2) / view.scale, my = view.y - (py - height / 2) / view.scale;
    const scale = Math.min(0.5, Math.max(home.scale / 4, view.scale * factor));
    view = { x: mx - (px - width / 2) / scale, y: my + (py - height / 2) / scale, scale }; queue();
  }
  function move(dx, dy) { view = { x: view.x - dx / view.scale, y: view.y + dy / view.scale, scale: view.scale }; queue(); }
  function tell(px, py) {
    const mx = view.x + (px - width / 2) / view.scale, my = view.y - (py - height / 2) / view.scale;
    let words = Math.abs(latOf(my)).toFixed(4) + "° " + (my < 0 ? "S" : "N") + ", " + Math.abs(lonOf(mx)).toFixed(4) + "° " + (mx < 0 ? "W" : "E");
    const mark = marks.find((m) => Math.hypot(sx(m.x) - px, sy(m.y) - py) < 10);
    const here = new Set();
    if (!mark) for (const block of blocks) {
      if (mx < block.left - 3 * maxSide || mx > block.left + data.block + 3 * maxSide || my < block.bottom - 3 * maxSide || my > block.bottom + data.block + 3 * maxSide) continue;
      for (let i = block.from; i < block.to; i++) {
        if (!shown[split[i]]) continue;
        const half = (data.sides[side[i]] * stretch(my)) / 2;
        if (Math.abs(block.left + x[i] * data.step - mx) <= half && Math.abs(block.bottom + y[i] * data.step - my) <= half) here.add(data.splits[split[i]].name);
      }
    }
    readout.textContent = mark ? mark.text : words + (here.size ? ": " + [...here].join(", ") : "");
  }

  const pointers = new Map();
  let held = view; // before the fingers that now touch the map
  canvas.addEventListener("wheel", (event) => { // most wheels that turn here scroll past; a touchpad's pinch comes as a wheel with Ctrl
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) {
      readout.textContent = "To zoom with the wheel, click the map first or hold Ctrl or ⌘."; return;
    }
    event.preventDefault();
    const turned = event.deltaY * (event.deltaMode ? 0.05 : event.ctrlKey ? 0.01 : 0.0016);
    zoom(Math.exp(-Math.max(-1, Math.min(1, turned))), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => { if (!pointers.size) held = view; canvas.setPointerCapture(event.pointerId); pointers.set(event.pointerId, [event.offsetX, event.offsetY]); });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId), now = [event.offsetX, event.offsetY];
    if (!before) { tell(...now); return; }
    if (pointers.size === 1) move(now[0] - before[0], now[1] - before[1]);
    else { // the page scrolls by one finger, so two move the map as well as zoom it
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
      const apart = Math.hypot(now[0] - other[0], now[1] - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1]));
      zoom(apart, (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    }
    pointers.set(event.pointerId, now);
  });
  canvas.addEventListener("pointerup", (event) => { pointers.delete(event.pointerId); tell(event.offsetX, event.offsetY); });
  canvas.addEventListener("pointercancel", (event) => { pointers.delete(event.pointerId); view = held; queue(); }); // the page scrolls instead
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (steps) move(...steps); else if (event.key === "+" || event.key === "=") zoom(1.6, width / 2, height / 2);
    else if (event.key === "-") zoom(1 / 1.6, width / 2, height / 2); else if (event.key === "0") { view = home; queue(); } else return;
    event.preventDefault(); aiming = true; tell(width / 2, height / 2);
  });
  canvas.addEventListener("blur", () => { aiming = false; queue(); });
  document.getElementById("zoom-in").addEventListener("click", () => zoom(1.8, width / 2, height / 2));
  document.getElementById("zoom-out").addEventListener("click", () => zoom(1 / 1.8, width / 2, height / 2));
  document.getElementById("zoom-all").addEventListener("click", () => { view = home; queue(); });
  document.querySelectorAll("input[data-split]").forEach((input) => input.addEventListener("change", () => { shown[+input.dataset.split] = input.checked; queue(); }));
  document.querySelectorAll("button[data-lon]").forEach((button) => button.addEventListener("click", () => {
    const lon = +button.dataset.lon, lat = +button.dataset.lat, my = R * Math.asinh(Math.tan((lat * Math.PI) / 180));
    const scale = button.dataset.span ? Math.min(width, height) / +button.dataset.span : 40 / maxSide;
    view = { x: (R * lon * Math.PI) / 180, y: my, scale: scale / stretch(my) }; queue();
    canvas.scrollIntoView({ block: "center" }); canvas.focus({ preventScroll: true });
  }));
  view = home = whole();
  new ResizeObserver(resize).observe(box);
  resize();
})();
