"use strict";
(function () {
  const form = document.getElementById("filters");
  if (form) {
    const cards = [...document.querySelectorAll("#cards > .card")].map((node) => ({
      node, classes: JSON.parse(node.dataset.class), text: node.textContent.toLowerCase(),
    }));
    const choices = [...form.querySelectorAll("select")], search = document.getElementById("filter-text");
    const status = document.getElementById("shown"), none = document.getElementById("none-shown");
    const fits = (card, choice) => !choice.value || (choice.dataset.filter === "class" ? card.classes.includes(choice.value) : card.node.dataset[choice.dataset.filter] === choice.value);
    const more = document.getElementById("more"), page = 12;
    let limit = page, printing = false;
    const update = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean), most = printing ? cards.length : limit;
      let count = 0;
      for (const card of cards) {
        const shown = choices.every((choice) => fits(card, choice)) && words.every((word) => card.text.includes(word));
        count += shown;
        card.node.hidden = !shown || count > most;
      }
      more.hidden = count <= most;
      more.textContent = "Show " + Math.min(page, count - limit) + " more";
      status.textContent = count === cards.length ? count + " patches" : count + " of " + cards.length + " patches";
      none.hidden = count > 0;
    };
    form.hidden = false;
    const restart = () => { limit = page; update(); };
    form.addEventListener("input", restart);
    more.addEventListener("click", () => {
      limit += page; update();
      const next = cards.filter((card) => !card.node.hidden)[limit - page];
      if (more.hidden && next) { next.node.tabIndex = -1; next.node.focus(); } // the button that had the focus is gone
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(restart));
    update(); // a browser may bring back what was chosen before
    // Paper shows every card that the filter lets through.
    window.addEventListener("beforeprint", () => { printing = true; update(); });
    window.addEventListener("afterprint", () => { printing = false; update(); });
  }
})();
