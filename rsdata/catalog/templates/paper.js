"use strict";
(function () {
  // Paper shows what was folded.
  const folded = [];
  window.addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details:not([open])")) { each.open = true; folded.push(each); } });
  window.addEventListener("afterprint", () => { for (const each of folded.splice(0)) each.open = false; });
})();
