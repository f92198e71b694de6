// Mathematics first, so that every slide has its size before it is shown.
renderMathInElement(document.querySelector(".slides"), {
  delimiters: [
    {left: "$$", right: "$$", display: true},
    {left: "$", right: "$", display: false},
  ],
  throwOnError: false,
  strict: "ignore",
});

// One size for the layout; reveal.js scales it to the screen. The arrow keys and the space bar go through all slides.
Reveal.initialize({
  width: 1280,
  height: 720,
  margin: 0,
  center: false,
  hash: true,
  navigationMode: "linear",
  slideNumber: "c/t",
  transition: "none",
});
