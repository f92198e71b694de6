// Makes slides of cells. Cells are divided at their blocks (a paragraph, a formula, code, an output, a picture), and
// whatever is too full for one slide goes on in the next. Everything is measured where it stands, never estimated.
const CODE = [20, 18, 16, 15, 14, 13]; // pixels of code and printed lines, the largest that fits
const TOGETHER = 16; // code and what it prints share a slide down to this size
const READERS_ONLY = /^(What to know first|Running time|How to read it)\b/;

// Everything in `slides` that a lecture leaves out: links for readers, folded passages, references.
function leaveOut(slides) {
  const gone = ".MathJax_Preview, script, details";
  slides.querySelectorAll(gone).forEach(thing => thing.remove());
  for (const text of slides.querySelectorAll(".jp-RenderedMarkdown > p"))
    if (READERS_ONLY.test(text.textContent)) text.remove();
  for (const head of slides.querySelectorAll("h2, h3"))
    if (/^(References|Further reading)/.test(head.textContent)) {
      while (head.nextSibling) head.nextSibling.remove();
      head.remove();
    }
}

function blocksOf(section) {
  return [...section.querySelectorAll(".jp-Cell")].flatMap(cell => cell.matches(".jp-MarkdownCell")
    ? [...cell.querySelector(".jp-RenderedMarkdown").children]
    : [...cell.querySelectorAll(".jp-InputArea-editor, .jp-OutputArea-output")]
      .sort((one, other) => !!one.querySelector("img") - !!other.querySelector("img"))) // pictures last
    .filter(block => block.textContent.trim() || block.querySelector("img, svg"));
}

const fits = slide => slide.scrollHeight <= slide.clientHeight && slide.scrollWidth <= slide.clientWidth;

// Set code in the largest size with which the slide fits; without one, in the smallest, and return false.
function fitCode(slide, smallest) {
  const before = slide.style.getPropertyValue("--code");
  for (const size of slide.querySelector("pre") ? CODE.filter(size => size >= smallest) : []) {
    slide.style.setProperty("--code", `${size}px`);
    if (fits(slide)) return true;
  }
  slide.style.setProperty("--code", before);
  return fits(slide);
}

// Take as many lines (of code), items or rows from the end of a block as it takes to fit; return them as a block.
function splitOff(slide, block) {
  const pre = block.querySelector("pre") ?? (block.matches("pre") ? block : null);
  if (pre) pre.innerHTML = pre.innerHTML.trimEnd().split("\n").map(line => `<span>${line}\n</span>`).join("");
  const list = pre ?? block.querySelector("tbody") ?? block;
  const rest = block.cloneNode(true);
  const other = pre ? rest.querySelector("pre") ?? rest : rest.querySelector("tbody") ?? rest;
  let kept = list.children.length;
  while (kept > 1 && !fits(slide)) list.children[--kept].remove();
  const empty = [...list.children].findLastIndex(line => !line.textContent.trim());
  if (pre && empty > kept / 2) // better between two paragraphs of code
    while (kept > empty + 1) list.children[--kept].remove();
  [...other.children].slice(0, kept).forEach(line => line.remove());
  return other.children.length ? rest : null;
}

function divide(section, where) {
  const queue = blocksOf(section);
  let slide = null;
  const open = () => {
    slide = document.createElement("section");
    if (where.title) slide.insertAdjacentHTML("beforeend", `<p class="where">${where.title}</p>`);
    section.before(slide);
  };
  const filled = () => slide.querySelector(":scope > :not(.where)");
  while (queue.length) {
    const block = queue.shift(), head = block.matches("h1, h2"), question = /^Predict\b/.test(block.textContent);
    if (block.matches("h2")) where.title = null;
    if (!slide || ((head || question || block.querySelector("img")) && filled())) open();
    if (block.matches("h2")) where.title = block.innerHTML;
    slide.classList.toggle("question", question || slide.classList.contains("question"));
    slide.append(block);
    if (fits(slide) || fitCode(slide, TOGETHER)) continue;
    // A heading, and a sentence that leads to this block, go with it.
    const along = [block];
    for (let last = block.previousElementSibling; last && !last.matches(".where"); last = last.previousElementSibling) {
      if (!last.matches("h1, h2, h3") && !/[^.?!)]$/.test(last.textContent.trim())) break;
      along.unshift(last);
    }
    if (along[0].previousElementSibling?.matches(":not(.where)")) {
      open();
      slide.append(...along);
    }
    if (fits(slide) || fitCode(slide, CODE.at(-1))) continue;
    if (block.matches("ul, ol, table") || block.querySelector("pre, table") || block.matches("pre")) {
      if (block.querySelector("pre")) slide.style.setProperty("--code", `${CODE[3]}px`);
      const rest = splitOff(slide, block);
      if (rest) queue.unshift(rest);
      if (rest && fits(slide)) { open(); continue; }
    }
    slide.classList.add("small");
  }
  section.remove();
}

function show(Reveal) {
  const slides = document.querySelector(".slides"), where = {title: null};
  leaveOut(slides);
  for (const section of slides.querySelectorAll(":scope > section > section")) divide(section, where);
  for (const stack of slides.querySelectorAll(":scope > section")) if (!stack.children.length) stack.remove();
  slides.classList.remove("measuring");
  // One size for the layout, scaled to the screen. The arrow keys and the space bar go through all slides.
  Reveal.initialize({width: 1280, height: 720, margin: 0, center: false, controls: false, hash: true, navigationMode: "linear",
    slideNumber: "c/t", transition: "none"});
}

document.querySelector(".slides").classList.add("measuring");
require([`${REVEAL}/dist/reveal.js`], Reveal => {
  window.Reveal = Reveal;
  const begin = () => document.fonts.ready.then(() => show(Reveal));
  if (window.MathJax?.Hub) MathJax.Hub.Queue(["Typeset", MathJax.Hub], begin);
  else begin();
});
