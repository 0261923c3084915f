// What is chosen: which pictures, in which order. The gallery and the table follow it, and the address keeps it.
const FIRST = 24;
const MORE = 60;
const menus = ["find", "show", "copies", "sort"].map(at).filter(Boolean);
const wordsOf = rows.map((tr, i) => {
  const [name, caption] = all(".open, .caption", tr).map((node) => node.textContent);
  return `${name} ${caption ?? ""} ${data.rows[i].l}`.toLowerCase();
});
const heads = new Map(all("#rows thead button").map((button) => [button.dataset.sort, button.closest("th")]));
let chosen = []; // Rows that match, in order.
let limit = FIRST;
let anchor = "";

const fits = (row, index) => {
  const [find, show, copies] = ["find", "show", "copies"].map((id) => at(id)?.value ?? "");
  const shown = !show || (show === "flagged" ? row.f : show === "not-flagged" ? !row.f : `kind:${row.y}` === show);
  const copied = !copies || (copies === "some" ? row.g : copies === "none" ? !row.g : String(row.g) === copies);
  return shown && copied && wordsOf[index].includes(find.trim().toLowerCase());
};

// What a row is sorted by: a number, a text, or null, which comes last either way.
const sortedBy = (key, index) => {
  const row = data.rows[index];
  const texts = { name: row.k.toLowerCase(), kind: row.y || null, label: row.l || null };
  if (key in texts) return texts[key];
  if (key === "copies") return -row.m;
  if (key === "p") return row.pv;
  const cell = rows[index].cells[heads.get(key)?.cellIndex];
  return cell?.dataset.v === undefined ? null : Number(cell.dataset.v);
};

const choose = () => {
  const key = at("sort").value;
  const turn = at("order").getAttribute("aria-pressed") === "true" ? -1 : 1;
  const keyed = data.rows.map((row, i) => [fits(row, i), sortedBy(key, i), i]).filter(([fitting]) => fitting);
  keyed.sort(([, a, i], [, b, j]) => {
    if (a === b) return i - j;
    if (a === null || b === null) return a === null ? 1 : -1;
    return (a < b ? -1 : 1) * turn;
  });
  chosen = keyed.map(([, , i]) => i);
  const inside = new Set(chosen);
  rows.forEach((tr, i) => { tr.hidden = !inside.has(i); });
  rows[0]?.parentNode.append(...chosen.map((i) => rows[i]));
  for (const [name, th] of heads) {
    if (name === key) th.setAttribute("aria-sort", turn > 0 ? "ascending" : "descending");
    else th.removeAttribute("aria-sort");
  }
  draw();
};

const draw = () => {
  const drawn = chosen.slice(0, limit);
  list.replaceChildren(...drawn.map(itemOf));
  at("none").hidden = chosen.length > 0;
  const left = chosen.length - drawn.length;
  at("more").hidden = left === 0;
  at("more").textContent = `Show ${Math.min(left, MORE)} more pictures`;
  const order = at("sort").selectedOptions[0].textContent + (at("order").getAttribute("aria-pressed") === "true" ? ", reversed" : "");
  const total = data.rows.length.toLocaleString("en");
  at("count").textContent = `${chosen.length.toLocaleString("en")} of ${total} pictures, by ${order}; ${drawn.length} shown`;
  at("table-count").textContent = `${chosen.length.toLocaleString("en")} of ${total} rows, as chosen with the pictures above.`;
  rove(Math.min(current, drawn.length - 1));
};

// The address: "#part?show=flagged&sort=c1". Only what differs from the start is in it.
const keep = () => {
  const state = new URLSearchParams();
  for (const menu of menus) if (menu.value && !(menu.id === "sort" && menu.value === "rank")) state.set(menu.id, menu.value);
  if (at("order").getAttribute("aria-pressed") === "true") state.set("order", "reversed");
  const own = state.size > 0;
  at("reset").hidden = !own;
  if (limit > FIRST) state.set("pictures", limit);
  if (document.documentElement.dataset.theme) state.set("theme", document.documentElement.dataset.theme);
  if (at("details").open) state.set("open", shown);
  const hash = `#${anchor}${state.size ? `?${state}` : ""}`;
  if (hash !== (location.hash || "#")) history.replaceState(null, "", hash);
};

const recall = () => {
  const [part, query] = location.hash.slice(1).split("?", 2);
  anchor = part;
  const state = new URLSearchParams(query);
  for (const menu of menus) {
    menu.value = state.get(menu.id) ?? (menu.id === "sort" ? "rank" : "");
    if (menu.selectedIndex === -1) menu.selectedIndex = 0; // The address may be of another report.
  }
  at("order").setAttribute("aria-pressed", String(state.get("order") === "reversed"));
  limit = Math.max(FIRST, Number.parseInt(state.get("pictures"), 10) || FIRST);
  paint(state.get("theme"));
  choose();
  if (part && query !== undefined) at(part)?.scrollIntoView();
  const open = Number.parseInt(state.get("open"), 10);
  if (open in data.rows) openDetails(open);
};

// A plain link to a part of the page changes no choice; the choice joins its address.
const went = () => {
  if (!location.hash || location.hash.includes("?")) return recall();
  anchor = location.hash.slice(1);
  return keep();
};

const changed = () => {
  limit = FIRST;
  current = 0;
  choose();
  keep();
};

const sortBy = (key) => {
  const again = at("sort").value === key;
  at("sort").value = key;
  const turned = again && at("order").getAttribute("aria-pressed") !== "true";
  at("order").setAttribute("aria-pressed", String(turned));
  changed();
};

const reset = () => {
  menus.forEach((menu) => { menu.value = menu.id === "sort" ? "rank" : ""; });
  at("order").setAttribute("aria-pressed", "false");
  changed();
};
