"use strict";
// A latent space that moves: the decoder of a small VAE, computed in the page. Its few matrix products are written out
// here, because a runtime for neural networks weighs megabytes.
const bytes = (text, Kind) => new Kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);

function decoderOf({ layers }) {
  const parts = layers.map((layer) => {
    const [whole, scale] = [bytes(layer.weight, Int8Array), bytes(layer.scale, Float32Array)];
    const bias = bytes(layer.bias, Float32Array), columns = whole.length / bias.length;
    return { bias, columns, weight: Float32Array.from(whole, (w, i) => w * scale[Math.floor(i / columns)]) };
  });
  return (input) => parts.reduce((h, { bias, columns, weight }, k) => {  // -> 784 pixels, 0 to 1
    const next = new Float32Array(bias.length), last = k === parts.length - 1;
    for (let row = 0, at = 0; row < next.length; row++) {
      let sum = bias[row];
      for (let i = 0; i < columns; i++) sum += weight[at++] * h[i];
      next[row] = last ? 1 / (1 + Math.exp(-sum)) : Math.max(sum, 0);
    }
    return next;
  }, Float32Array.from(input));
}

const REACH = 3;  // how far the controls go, in standard deviations of the prior
const clamped = (x) => Math.max(-REACH, Math.min(REACH, x));
const said = (x) => (x < 0 ? "−" : "") + Math.abs(x).toFixed(1);
const named = (i) => "z" + [...String(i + 1)].map((digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]).join("");
const made = (tag, properties, parent) => parent.appendChild(Object.assign(document.createElement(tag), properties));
const range = (n) => [...Array(n).keys()];

function explorer(figure) {
  const model = DECODERS[figure.dataset.model], decode = decoderOf(model), conditional = Boolean(model.mu);
  const [across, up] = model.order.slice(0, 2).sort(), others = model.order.slice(2, 6);
  const tiles = others.length ? 9 : 15;  // of the square, each way
  const state = { place: model.order.map(() => 0), digit: 7 };
  const input = (place, digit) => !conditional ? place : [
    ...place.map((e, i) => model.mu[digit][i] + model.sigma[digit][i] * e), ...range(10).map((d) => +(d === digit))];

  function put(canvas, columns, n, code) {  // the picture of a code in the n-th place of a canvas, row by row
    const context = canvas.getContext("2d"), tile = context.createImageData(28, 28);
    const pixels = new Uint32Array(tile.data.buffer);
    decode(code).forEach((x, i) => { pixels[i] = 0xff000000 + 0x010101 * Math.round(255 * x); });
    context.putImageData(tile, 28 * (n % columns), 28 * Math.floor(n / columns));
  }
  function putTile(n) {  // of the square
    const step = (2 * REACH) / tiles, place = [...state.place];
    place[across] = step * (n % tiles + 0.5) - REACH;
    place[up] = REACH - step * (Math.floor(n / tiles) + 0.5);
    put(ground, tiles, n, input(place, state.digit));
  }

  const box = made("div", { className: "panels" }, figure);
  const pad = made("canvas", { className: "pad", width: 28 * tiles, height: 28 * tiles, tabIndex: 0 }, box);
  const one = made("canvas", { className: "made", width: 28, height: 28 }, box);
  const ground = Object.assign(document.createElement("canvas"), { width: pad.width, height: pad.height });
  const buttons = made("div", { className: "digits" }, figure);
  const sliders = others.map((i) => {
    const label = made("label", { textContent: named(i) }, figure);
    return made("input", { type: "range", min: -REACH, max: REACH, step: 0.05, i }, label);
  });
  const ten = conditional ? made("canvas", { className: "ten", width: 280, height: 28 }, figure) : null;
  const words = made("p", { className: "place" }, figure);
  for (const [name, value] of Object.entries({ role: "slider", "aria-valuemin": -REACH, "aria-valuemax": REACH,
    "aria-label": `Place in the square of ${named(across)} and ${named(up)}; the arrow keys move it` }))
    pad.setAttribute(name, value);
  for (const [canvas, label] of [[one, "The decoded picture"], [ten, "All ten digits in this style"]])
    if (canvas) { canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", label); }

  let stale = tiles * tiles, tile = 0, waiting = false;  // how many tiles to decode again, from which; drawing soon?
  function draw() {
    waiting = false;
    const { place, digit } = state;
    put(one, 1, 0, input(place, digit));
    if (ten) range(10).forEach((d) => put(ten, 10, d, input(place, d)));
    // The tiles take turns, so that the square never keeps the picture waiting.
    for (const until = performance.now() + 10; stale && performance.now() < until; tile = (tile + 1) % tiles ** 2) {
      putTile(tile);
      stale -= 1;
    }
    if (stale) soon();
    const context = pad.getContext("2d"), scale = pad.width / (2 * REACH);
    context.drawImage(ground, 0, 0);
    context.beginPath();
    context.arc((clamped(place[across]) + REACH) * scale, (REACH - clamped(place[up])) * scale, 7, 0, 7);
    Object.assign(context, { lineWidth: 4, strokeStyle: "#ffb000" });
    context.stroke();
    for (const slider of sliders) slider.value = place[slider.i];
    if (conditional) [...buttons.children].forEach((button, d) => button.setAttribute("aria-pressed", d === digit));
    words.textContent = `${named(across)} = ${said(place[across])}, ${named(up)} = ${said(place[up])}`;
    pad.setAttribute("aria-valuenow", place[across]);
    pad.setAttribute("aria-valuetext", words.textContent);
  }
  function soon() {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  }
  function change(values, square = true) {  // latent dimension -> number
    for (const [i, z] of Object.entries(values)) state.place[i] = z;
    if (square) stale = tiles * tiles;
    soon();
  }

  const drag = (event) => {
    if (!event.buttons) return;
    const { left, top, width, height } = pad.getBoundingClientRect();
    change({ [across]: clamped(2 * REACH * (event.clientX - left) / width - REACH),
             [up]: clamped(REACH - 2 * REACH * (event.clientY - top) / height) }, false);
  };
  pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); drag(event); });
  pad.addEventListener("pointermove", drag);
  pad.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [across, -1], ArrowRight: [across, 1], ArrowUp: [up, 1], ArrowDown: [up, -1] }[event.key];
    if (!move) return;
    event.preventDefault();
    change({ [move[0]]: clamped(state.place[move[0]] + (event.shiftKey ? 0.5 : 0.1) * move[1]) }, false);
  });
  for (const slider of sliders) slider.addEventListener("input", () => change({ [slider.i]: +slider.value }));
  range(10).forEach((digit) => made("button", { type: "button", textContent: digit, onclick() {
    state.digit = digit;
    change(conditional ? {} : model.start[digit]);
  } }, buttons));
  if (model.start) state.place = [...model.start[state.digit]];
  figure.explorer = { state, input, decode, draw, change };
  draw();
}

for (const figure of document.querySelectorAll(".explorer")) explorer(figure);
