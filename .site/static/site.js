// What is folded opens for print (but hints, set-up and plumbing) and for a link that leads into it.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open], .help, .setup, .hide)"))
    part.open = part.dataset.printed = true;
});
addEventListener("afterprint", () => {
  for (const part of document.querySelectorAll("details[data-printed]")) part.open = false;
});
const open = (part) => {
  for (; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
};
const reveal = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  open(target);
  if (target.matches("section:has(> :is(h2, h3) + details.appendix)")) open(target.querySelector("details.appendix"));
  target.scrollIntoView();
};
addEventListener("hashchange", reveal);
addEventListener("DOMContentLoaded", reveal);
// Sphinx marks the words of a search when the page is there: not in formulas and icons, which that would break. The
// page then shows the first of them.
addEventListener("DOMContentLoaded", () => {
  for (const part of document.querySelectorAll("math *, svg *")) part.classList.add("nohighlight");
  new MutationObserver((_, observer) => {
    const first = document.querySelector("article .highlighted:not(.tip *)");
    if (!first) return;
    observer.disconnect();
    open(first);
    if (!location.hash) first.scrollIntoView({ block: "center" });
  }).observe(document.querySelector("article"), { childList: true, subtree: true });
});
// A page on a disk cannot read other pages, so search shows no excerpts there.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
