"use strict";
(() => {
  const form = document.getElementById("question");
  const offer = JSON.parse(document.getElementById("offer").textContent);
  const figures = [...document.querySelectorAll("figure[data-who]")];
  const stepsOf = { student: form.elements.student_steps, teacher: form.elements.teacher_steps };
  let asked = 0;

  const offerSteps = (who, steps) => {
    const choice = stepsOf[who];
    choice.replaceChildren(...steps.counts.map((count) => new Option(count, count, false, count === steps.usual)));
    choice.disabled = steps.counts.length === 1;
  };
  const offerStudentSteps = () => offerSteps("student", offer.steps[Number(form.elements.student.value)]);

  const question = () => {
    const said = new FormData(form);
    const number = (name) => Number(said.get(name));
    const within = (w) => Math.min(offer.w_max, Math.max(offer.w_min, w));
    const rounded = (w) => (offer.w_values.length ? w : within(Math.round(w * 100) / 100));
    return {
      student: number("student"), seed: number("seed"), count: number("count"),
      w: offer.w_min === offer.w_max ? offer.w_min : rounded(number("w")),
      ...(offer.classes.length ? { label: number("label") } : { prompt: said.get("prompt") }),
    };
  };

  const answer = async (figure, asking, turn) => {
    const { who } = figure.dataset;
    const cost = figure.querySelector(".cost");
    cost.textContent = "drawing ...";
    figure.classList.add("old");
    let found;
    try {
      const reply = await fetch("draw", {
        method: "POST", headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ who, steps: Number(stepsOf[who].value), ...asking }),
      });
      found = await reply.json();
    } catch {
      found = { error: "nobody answers; is stepfold play still running?" };
    }
    if (turn !== asked) return;
    if (found.error) { cost.textContent = found.error; return; }
    const image = figure.querySelector("img");
    image.src = found.picture;
    image.hidden = false;
    figure.classList.remove("old");
    figure.querySelector("figcaption").textContent = found.title;
    const samples = asking.count === 1 ? "" : `, ${asking.count} samples`;
    const evaluations = `${found.evaluations} network evaluation${found.evaluations === 1 ? "" : "s"}`;
    cost.innerHTML = "";
    cost.append(Object.assign(document.createElement("b"), { textContent: `${found.milliseconds} ms` }), `${samples}, ${evaluations}${asking.count === 1 ? "" : " each"}`);
  };

  const tell = () => {
    const w = question().w;
    document.getElementById("told").textContent = `w = ${w.toFixed(2)}`;
  };
  const ask = async () => {
    tell();
    if (!form.checkValidity()) return;
    const turn = ++asked;
    const asking = question();
    figures.forEach((figure) => figure.classList.add("old"));
    // the student first: one network draws at a time, and the teacher takes longer
    for (const figure of figures) {
      if (turn !== asked) return;
      await answer(figure, asking, turn);
    }
  };

  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  form.addEventListener("change", (event) => {
    if (event.target.name === "student") offerStudentSteps();
    ask();
  });
  form.elements.w.addEventListener("input", tell);
  document.getElementById("another").addEventListener("click", () => {
    form.elements.seed.value = Math.floor(Math.random() * 2 ** 31);
    ask();
  });
  if (offer.teacher) offerSteps("teacher", offer.teacher_steps);
  offerStudentSteps();
  ask();
})();
