"use strict";
(() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const settings = { displayModeBar: false };
  const plots = [...document.querySelectorAll("script[data-for]")];

  // pass the page's light or dark colours to Plotly
  const colours = () => {
    const axis = { gridcolor: css("--line"), linecolor: css("--soft"), zerolinecolor: css("--line"), tickcolor: css("--soft") };
    return { font: { color: css("--ink"), family: "system-ui, sans-serif", size: 13 }, xaxis: axis, yaxis: axis };
  };
  const merged = (layout, extra) => ({
    ...layout, ...extra, xaxis: { ...layout.xaxis, ...extra.xaxis }, yaxis: { ...layout.yaxis, ...extra.yaxis },
  });
  const inked = (data) => data.map((trace) => {
    const dark = (colour) => (colour === "#22262e" ? css("--ink") : colour);
    return { ...trace, line: { ...trace.line, color: dark(trace.line?.color) }, marker: { ...trace.marker, color: dark(trace.marker?.color) } };
  });
  const draw = () => plots.forEach((script) => {
    const place = document.getElementById(script.dataset.for);
    if (place.offsetParent === null) return;
    const { data, layout } = JSON.parse(script.textContent);
    // on narrow screens the legend wraps, so the plot needs more height
    place.style.height = place.clientWidth < 600 && data.length > 3 ? `${260 + 20 * data.length}px` : "";
    Plotly.newPlot(place, inked(data), merged(layout, colours()), settings);
  });
  // redraw, because Plotly's own resize keeps the legend of the old width
  let waiting;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 100); });

  const choose = (w) => {
    document.querySelectorAll(".at").forEach((part) => { part.hidden = part.dataset.w !== w; });
    draw();
  };
  document.querySelectorAll("input[name=w]").forEach((input) => {
    input.addEventListener("change", () => choose(input.value));
  });
  document.querySelectorAll(".tabs").forEach((tabs) => {
    const show = () => {
      const chosen = tabs.querySelector("input:checked");
      tabs.parentElement.querySelectorAll(".other").forEach((part) => { part.hidden = part.dataset.net !== chosen?.value; });
    };
    tabs.addEventListener("change", show);
    show();
  });
  // reuse an image of the page, so that its bytes are in the file once
  document.querySelectorAll(".stack[data-under]").forEach((stack) => {
    const { src } = document.querySelector(`img[data-picture="${stack.dataset.under}"]`);
    stack.append(Object.assign(new Image(), { src, alt: "", className: "under" }));
  });
  document.querySelectorAll(".other").forEach((part) => {
    part.addEventListener("touchstart", () => part.classList.add("held"), { passive: true });
    part.addEventListener("touchend", () => part.classList.remove("held"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  // print on white, even in dark mode
  const bePaper = (is) => document.documentElement.classList.toggle("paper", is);
  const folded = [...document.querySelectorAll("details")];
  let opened = [];
  addEventListener("beforeprint", () => {
    bePaper(true);
    opened = folded.filter((part) => part.open);
    folded.forEach((part) => { part.open = true; });
    document.querySelectorAll(".at").forEach((part) => { part.hidden = false; });
    draw();
  });
  addEventListener("afterprint", () => {
    bePaper(false);
    folded.forEach((part) => { part.open = opened.includes(part); });
    choose(document.querySelector("input[name=w]:checked")?.value);
  });
  choose(document.querySelector("input[name=w]:checked")?.value);
})();
