"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (css, from = document) => [...from.querySelectorAll(css)];
  const make = (tag, text, css) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (css) node.className = css;
    return node;
  };
  const apart = (text) => make("bdi", text);

  // A picture travels once: the table borrows the gallery's.
  const cards = new Map(all(".card").map((card) => [Number(card.dataset.row), card]));
  for (const borrowed of all("img[data-from]")) {
    const original = cards.get(Number(borrowed.dataset.from))?.querySelector(".pic img");
    if (original) borrowed.src = original.src;
  }

  // A long gallery starts folded.
  const items = all(".gallery li");
  const fold = document.getElementById("all-pictures");
  if (fold && items.length > 28) {
    const folded = items.slice(24);
    folded.forEach((item) => { item.hidden = true; });
    fold.hidden = false;
    fold.addEventListener("click", () => {
      folded.forEach((item) => { item.hidden = false; });
      fold.hidden = true;
      folded[0].querySelector("button").focus();
    });
  }

  // Details of one picture.
  const dialog = document.getElementById("details");
  const rows = new Map(all("#rows tbody tr").map((tr) => [Number(tr.dataset.row), tr]));
  let shown = 0;
  let order = [];
  const pair = (list, name, ...values) => {
    list.append(make("dt", name));
    const dd = make("dd");
    dd.append(...values);
    list.append(dd);
  };
  const fill = (index) => {
    shown = index;
    const row = data.rows[index];
    const tr = rows.get(index);
    const head = document.getElementById("details-name");
    head.replaceChildren(make("span", row.r ? `#${row.r} ` : ""), apart(row.k));
    const pic = document.getElementById("details-picture");
    const source = cards.get(index)?.querySelector(".pic img") ?? tr.querySelector("img");
    if (source && source.src) {
      const img = make("img", undefined, source.className.replace("thumb", ""));
      img.src = source.src;
      img.alt = source.alt;
      pic.replaceChildren(img);
    } else {
      pic.replaceChildren(document.getElementById("gone-picture").content.cloneNode(true));
    }
    const words = document.getElementById("details-words");
    const caption = tr.querySelector(".caption");
    words.replaceChildren(caption ? apart(caption.textContent.trim()) : make("span", "No caption", "quiet"));
    const list = make("dl", undefined, "pairs");
    pair(list, "Verdict", row.f ? "flagged as memorized" : data.decided ? "not flagged" : "ranked only");
    if (row.y) pair(list, "Kind", `${row.y}: ${row.e}`);
    if (row.q) pair(list, "q-value", row.q);
    if (row.p) pair(list, "p-value", row.p);
    if (row.l) pair(list, "Label", apart(row.l));
    data.columns.forEach((name, i) => {
      const [value, why] = row.v[i];
      const text = make("span", value);
      if (why) text.append(apart(` ${why}`));
      pair(list, name, text);
    });
    pair(list, "Size", row.s);
    pair(list, "Copies", row.c);
    row.o.forEach(([key, kind]) => pair(list, kind, apart(key)));
    if (row.n) pair(list, "Note", apart(row.n));
    if (row.u) {
      const link = make("a", "open the file");
      link.href = row.u;
      link.rel = "noreferrer";
      pair(list, "File", link);
    }
    pair(list, "SHA-256", make("code", row.h));
    document.getElementById("details-list").replaceChildren(list);
    dialog.scrollTop = 0;
  };
  const visible = () => all("#rows tbody tr").filter((tr) => !tr.hidden).map((tr) => Number(tr.dataset.row));
  const move = (step) => {
    const at = order.indexOf(shown);
    fill(order[(at + step + order.length) % order.length]);
  };
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-row]");
    if (opener && opener.matches("button")) {
      const index = Number(opener.dataset.row);
      order = opener.closest("#rows") ? visible() : [...cards.keys()];
      fill(index);
      dialog.showModal();
    } else if (event.target === dialog) {
      dialog.close();
    }
  });
  document.getElementById("details-close")?.addEventListener("click", () => dialog.close());
  document.getElementById("details-before")?.addEventListener("click", () => move(-1));
  document.getElementById("details-after")?.addEventListener("click", () => move(1));
  dialog?.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  });

  // Sorting and filtering.
  const body = document.querySelector("#rows tbody");
  if (body) {
    const count = document.getElementById("count");
    const search = document.getElementById("search");
    const only = document.getElementById("only");
    const kind = document.getElementById("kind");
    const texts = new Map([...rows.values()].map((tr) => [tr, tr.querySelector(".name").textContent.toLowerCase() + " " + (tr.querySelector(".label")?.textContent.toLowerCase() ?? "")]));
    const filter = () => {
      const wanted = search.value.trim().toLowerCase();
      let n = 0;
      for (const [tr, text] of texts) {
        tr.hidden = (wanted && !text.includes(wanted)) || (only?.checked && !tr.classList.contains("flagged"))
          || Boolean(kind?.value && tr.querySelector(".kind").textContent !== kind.value);
        n += tr.hidden ? 0 : 1;
      }
      count.textContent = n === texts.size ? count.dataset.all : `${n.toLocaleString("en")} of ${count.dataset.all}`;
      document.getElementById("none").hidden = n > 0;
    };
    search.addEventListener("input", filter);
    only?.addEventListener("change", filter);
    kind?.addEventListener("change", filter);
    filter();
    for (const button of all("#rows th button")) {
      button.addEventListener("click", () => {
        const th = button.closest("th");
        const at = th.cellIndex;
        const up = th.getAttribute("aria-sort") !== "ascending";
        all("#rows th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
        th.setAttribute("aria-sort", up ? "ascending" : "descending");
        const words = th.classList.contains("words");
        const value = (tr) => {
          const td = tr.cells[at];
          return words ? td.textContent.trim().toLowerCase() : td.dataset.v === undefined ? null : Number(td.dataset.v);
        };
        const keyed = [...rows.values()].map((tr) => [value(tr), tr]);
        keyed.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          return (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
        });
        body.append(...keyed.map(([, tr]) => tr));
      });
    }
  }

  // Where we are.
  const links = new Map(all("nav.parts a").map((link) => [link.hash.slice(1), link]));
  const near = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      links.forEach((link) => link.classList.remove("here"));
      links.get(target.id)?.classList.add("here");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  all("main section[id]").forEach((section) => near.observe(section));
})();
