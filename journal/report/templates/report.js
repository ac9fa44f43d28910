"use strict";
(() => {
  const table = document.getElementById("rows");
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const text = document.getElementById("filter-text");
  const status = document.getElementById("filter-status");
  const code = document.getElementById("filter-code");
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
  if (given) {
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
})();
