// All numbers of one picture, in a dialog that moves along the chosen pictures.
const dialog = at("details");
let shown = 0;

const pair = (pairs, name, ...values) => {
  const dd = make("dd");
  dd.append(...values);
  pairs.append(make("dt", name), dd);
};

const fill = (index) => {
  shown = index;
  const row = data.rows[index];
  at("details-name").replaceChildren(make("span", row.r ? `#${row.r} ` : ""), apart(row.k));
  at("details-picture").replaceChildren(pictureOf(index));
  const caption = rows[index].querySelector(".caption");
  at("details-words").replaceChildren(caption ? apart(caption.textContent.trim()) : make("span", "No caption", "quiet"));
  const pairs = make("dl", undefined, "pairs");
  pair(pairs, "Verdict", row.f ? "flagged as memorized" : data.decided ? "not flagged" : "ranked only");
  if (row.x) pair(pairs, "Why", explainLink(index));
  if (row.y) pair(pairs, "Kind", `${row.y}: ${row.e}`);
  if (row.q) pair(pairs, "q-value", row.q);
  if (row.p) pair(pairs, "p-value", row.p);
  if (row.l) pair(pairs, "Label", apart(row.l));
  data.columns.forEach((name, i) => {
    const [value, why] = row.v[i];
    const text = make("span", value);
    if (why) text.append(apart(` ${why}`));
    pair(pairs, name, text);
  });
  pair(pairs, "Size", row.s);
  pair(pairs, "Copies", row.c || "none among the pictures of this run");
  if (row.g && all("option", at("copies")).some((option) => option.value === String(row.g))) {
    const group = make("button", `Show group ${row.g}`, "plain");
    group.type = "button";
    group.addEventListener("click", () => {
      dialog.close();
      at("copies").value = row.g;
      changed();
      items.get(chosen[0])?.firstElementChild.focus();
    });
    pair(pairs, "Group", group);
  }
  row.o.forEach(([key, kind]) => pair(pairs, kind, apart(key)));
  if (row.n) pair(pairs, "Note", apart(row.n));
  if (row.u) pair(pairs, "File", link("open the file", row.u));
  pair(pairs, "SHA-256", make("code", row.h));
  at("details-list").replaceChildren(pairs);
  dialog.scrollTop = 0;
};

const openDetails = (index) => {
  fill(index);
  if (!dialog.open) dialog.showModal();
};

const move = (step) => {
  const place = chosen.indexOf(shown);
  fill(chosen[(place + step + chosen.length) % chosen.length]);
  keep();
};

dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") move(-1);
  if (event.key === "ArrowRight") move(1);
});
dialog.addEventListener("close", () => {
  // The focus goes back to what opened the dialog; in the gallery it follows to the picture seen last.
  if (list.contains(document.activeElement) && list.contains(items.get(shown))) focusCard(chosen.indexOf(shown));
  keep();
});
at("details-close").addEventListener("click", () => dialog.close());
at("details-before").addEventListener("click", () => move(-1));
at("details-after").addEventListener("click", () => move(1));
