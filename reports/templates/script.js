'use strict';
(function () {
  // Everything below is a convenience: without it the page says the same.
  var root = document.documentElement;
  var toggle = document.createElement('button');
  toggle.type = 'button';
  function dark() {
    var set = root.dataset.theme;
    return set ? set === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  }
  function name() {
    toggle.textContent = dark() ? 'Light theme' : 'Dark theme';
  }
  toggle.addEventListener('click', function () {
    root.dataset.theme = dark() ? 'light' : 'dark';
    name();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', name);
  name();
  document.getElementById('tools').append(toggle);

  function key(row, column) {
    var cell = row.cells[column];
    var number = cell.dataset.sort === undefined ? cell.textContent.replace(/[\s\u202f]/g, '') : cell.dataset.sort;
    return number === '' || isNaN(number) ? cell.textContent : Number(number);
  }
  function compare(a, b) {
    var numbers = [typeof a, typeof b].filter(function (t) { return t === 'number'; }).length;
    if (numbers === 2) { return a - b; }
    if (numbers === 1) { return typeof a === 'number' ? -1 : 1; }
    return a.localeCompare(b, 'en', { numeric: true });
  }
  document.querySelectorAll('table.sortable').forEach(function (table) {
    var heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach(function (head, column) {
      var button = document.createElement('button');
      button.type = 'button';
      button.textContent = head.textContent;
      head.replaceChildren(button);
      head.setAttribute('aria-sort', 'none');
      button.addEventListener('click', function () {
        var down = head.getAttribute('aria-sort') === 'ascending';
        heads.forEach(function (h) { h.setAttribute('aria-sort', 'none'); });
        head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
        var body = table.tBodies[0];
        var rows = Array.from(body.rows).sort(function (a, b) {
          return compare(key(a, column), key(b, column)) * (down ? -1 : 1);
        });
        body.append.apply(body, rows);
      });
    });
  });

  // A printed page cannot be opened.
  addEventListener('beforeprint', function () {
    document.querySelectorAll('details').forEach(function (d) { d.open = true; });
  });
}());
