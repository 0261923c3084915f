// Keys, theme, and where the reader is.
let current = 0; // The card that Tab reaches: one stop for the whole gallery.

const rove = (place) => {
  current = Math.max(0, place);
  [...list.children].forEach((item, i) => {
    for (const stop of item.children) stop.tabIndex = i === current ? 0 : -1;
  });
};
const focusCard = (place) => {
  if (place >= list.children.length) return;
  rove(place);
  list.children[current].firstElementChild.focus();
};
const columns = () => {
  const top = list.firstElementChild.offsetTop;
  const below = [...list.children].findIndex((item) => item.offsetTop > top);
  return below < 0 ? list.children.length : below;
};

const paint = (theme) => {
  const root = document.documentElement;
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  else delete root.dataset.theme;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  at("theme").setAttribute("aria-pressed", String(dark));
};

if (list && rows.length) {
  at("choice").hidden = at("keys").hidden = at("table-count").hidden = false;
  at("beyond")?.remove();
  for (const card of all(".card")) card.setAttribute("aria-haspopup", "dialog");
  at("card-form").content.querySelector(".card").setAttribute("aria-haspopup", "dialog");
  at("find").addEventListener("input", changed);
  for (const menu of menus.slice(1)) menu.addEventListener("change", changed);
  at("order").addEventListener("click", () => sortBy(at("sort").value));
  at("reset").addEventListener("click", () => { reset(); at("find").focus(); });
  at("more").addEventListener("click", () => {
    const before = list.children.length;
    limit += MORE;
    draw();
    keep();
    focusCard(before);
  });
  for (const [key, th] of heads) th.firstElementChild.addEventListener("click", () => sortBy(key));
  document.addEventListener("click", (event) => {
    const opener = event.target.closest(".card, .open");
    if (opener) {
      event.preventDefault();
      const index = Number(opener.dataset.row);
      if (opener.matches(".card")) focusCard(chosen.indexOf(index));
      openDetails(index);
      keep();
    } else if (event.target === dialog || event.target === at("keys-list")) {
      event.target.close();
    }
  });
  list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const last = list.children.length - 1;
    const to = {
      ArrowLeft: current - 1, ArrowRight: current + 1, ArrowUp: current - columns(), ArrowDown: current + columns(),
      Home: 0, End: last,
    }[event.key];
    if (to !== undefined) {
      if (to >= 0 && to <= last) focusCard(to);
    } else if (event.key === "?") at("keys-list").showModal();
    else if (event.key === "/") at("find").focus();
    else if (event.key === " " && event.target.matches(".card")) event.target.click();
    else return;
    event.preventDefault();
  });
  list.addEventListener("focusin", (event) => rove([...list.children].indexOf(event.target.closest("li"))));
  at("keys-open").addEventListener("click", () => at("keys-list").showModal());
  at("keys-close").addEventListener("click", () => at("keys-list").close());
  addEventListener("hashchange", went);
}

at("theme").hidden = false;
at("theme").addEventListener("click", () => {
  paint(at("theme").getAttribute("aria-pressed") === "true" ? "light" : "dark");
  if (rows.length) keep();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paint(document.documentElement.dataset.theme));
paint();
if (list && rows.length) recall();

const links = new Map(all("nav.parts a").map((node) => [node.hash.slice(1), node]));
const near = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    links.forEach((node) => node.removeAttribute("aria-current"));
    links.get(target.id)?.setAttribute("aria-current", "location");
  }
}, { rootMargin: "-10% 0px -80% 0px" });
all("main section[id]").forEach((section) => near.observe(section));
