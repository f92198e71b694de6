// What is folded opens for print (but hints, set-up and plumbing) and for a link that leads into it.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open], .help, .setup, .hide)"))
    part.open = part.dataset.printed = true;
});
addEventListener("afterprint", () => {
  for (const part of document.querySelectorAll("details[data-printed]")) part.open = false;
});
const reveal = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", reveal);
addEventListener("DOMContentLoaded", reveal);
// A page on a disk cannot read other pages, so search shows no excerpts there.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
