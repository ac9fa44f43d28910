"use strict";
(() => {
  // The history's state outlives a reload. Browsers may refuse other storage to a page from a file.
  let kept = null;
  try {
    kept = history.state;
    if (kept) history.replaceState(null, "");
  } catch {}
  const all = (selector) => [...document.querySelectorAll(selector)];
  const fields = all("#filter input, #filter select");
  if (kept) {
    all("details").forEach((each, i) => {
      each.open = kept.open[i] ?? each.open;
    });
    fields.forEach((field, i) => {
      field.value = kept.fields[i] ?? "";
      if (field.selectedIndex === -1) field.value = ""; // no row has this code any more
    });
  }
  if (fields.length) filterRows(...fields);
  if (kept) {
    fields[kept.focus]?.focus({ preventScroll: true });
    scrollTo(0, kept.y);
  }
  const every = document.body.dataset.every * 1000; // NaN in the last version of the page
  if (!every) return;
  const age = Date.now() - document.body.dataset.written;
  document.getElementById("stale").hidden = age < 3 * every + 20_000;
  setTimeout(() => {
    try {
      history.replaceState(
        {
          y: scrollY,
          open: all("details").map((each) => each.open),
          fields: fields.map((each) => each.value),
          focus: fields.indexOf(document.activeElement),
        },
        "",
      );
    } catch {}
    location.reload();
  }, Math.min(every, 2 ** 31 - 1)); // a longer timeout would be over at once

  function filterRows(text, status, code) {
    const rows = [...document.getElementById("rows").tBodies[0].rows];
    const count = document.getElementById("filter-count");
    const words = rows.map((row) => row.textContent.toLowerCase());
    const apply = () => {
      const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, i) => {
        const fits =
          (!status.value || row.dataset.status === status.value) &&
          (!code.value || row.dataset.code === code.value.slice(1)) &&
          wanted.every((word) => words[i].includes(word));
        row.hidden = !fits;
        if (fits) shown += 1;
      });
      count.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} shown`;
    };
    // #filter=WORDS in the address: a link to a part of the table.
    const given = /^#filter=(.*)$/.exec(location.hash);
    if (given && !kept?.fields.length) {
      try {
        text.value = decodeURIComponent(given[1]);
      } catch {
        text.value = given[1];
      }
    }
    text.addEventListener("input", apply);
    status.addEventListener("change", apply);
    code.addEventListener("change", apply);
    document.getElementById("filter").hidden = false;
    apply();
  }
})();
