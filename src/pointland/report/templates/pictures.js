// Cards, thumbnails and what is read from the page. All script files are joined, in the order that html.py names, into
// one function. Text from data is only ever set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const all = (css, from = document) => [...from.querySelectorAll(css)];
const make = (tag, text, css) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (css) node.className = css;
  return node;
};
const apart = (text) => make("bdi", text);
const link = (text, href) => {
  const node = make("a", text);
  node.href = href;
  node.rel = "noreferrer";
  return node;
};

const list = at("cards");
const rows = all("#rows tbody tr");
const items = new Map(all("#cards > li").map((item) => [Number(item.firstElementChild.dataset.row), item]));

// A picture travels once: the table borrows the gallery's.
for (const borrowed of all("img[data-from]")) {
  const original = items.get(Number(borrowed.dataset.from))?.querySelector(".pic img");
  if (original) borrowed.src = original.src;
}

const pictureOf = (index) => {
  const source = items.get(index)?.querySelector(".pic img") ?? rows[index].querySelector("img");
  if (!source?.src) return at("gone-picture").content.cloneNode(true);
  const img = make("img", undefined, source.classList.contains("tiny") ? "tiny" : "");
  img.src = source.src;
  img.alt = `Picture ${data.rows[index].k}`;
  return img;
};

const explainLink = (index) => {
  const row = data.rows[index];
  const node = link("Explain", row.x);
  node.setAttribute("aria-label", `Explain picture ${row.k}`);
  node.className = "explain";
  return node;
};

// The page comes with the cards of its first pictures; others are made when they are first shown.
const itemOf = (index) => {
  if (items.has(index)) return items.get(index);
  const row = data.rows[index];
  const item = at("card-form").content.firstElementChild.cloneNode(true);
  const card = item.firstElementChild;
  card.href = `#row-${index}`;
  card.dataset.row = index;
  card.classList.toggle("flagged", row.f);
  item.querySelector(".pic").append(pictureOf(index));
  if (row.r) item.querySelector(".pic").append(make("span", row.r.toLocaleString("en"), "rank"));
  const decisive = rows[index].querySelector("td[data-decides]").textContent.split(" ± ");
  const value = item.querySelector(".value");
  value.append(decisive[0]);
  if (decisive[1]) value.append(make("small", ` ± ${decisive[1]}`));
  const line = make("span", [row.q && `${row.f ? "flagged, " : ""}q ${row.q}`, row.y].filter(Boolean).join(" · "), "line");
  if (row.l) line.append(line.textContent ? " · " : "", apart(row.l));
  const caption = rows[index].querySelector(".caption");
  const words = make("span", undefined, caption ? "caption" : "caption quiet");
  words.append(apart(caption ? caption.textContent : row.k));
  item.querySelector(".text").append(line, words);
  if (row.c) item.querySelector(".text").append(make("span", row.c, "same"));
  if (row.x) item.append(explainLink(index));
  items.set(index, item);
  return item;
};
