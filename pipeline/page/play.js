"use strict";
(() => {
  const form = document.getElementById("question");
  const offer = JSON.parse(document.getElementById("offer").textContent);
  const figures = [...document.querySelectorAll("figure[data-who]")];
  const stepsOf = { student: form.elements.student_steps, teacher: form.elements.teacher_steps };
  let latest = 0;

  const offerSteps = (who, steps) => {
    const choice = stepsOf[who];
    choice.replaceChildren(...steps.counts.map((count) => new Option(count, count, false, count === steps.usual)));
    choice.disabled = steps.counts.length === 1;
  };
  const offerStudentSteps = () => offerSteps("student", offer.steps[Number(form.elements.student.value)]);

  const request = () => {
    const fields = new FormData(form);
    const number = (name) => Number(fields.get(name));
    const within = (w) => Math.min(offer.w_max, Math.max(offer.w_min, w));
    const rounded = (w) => (offer.w_values.length ? w : within(Math.round(w * 100) / 100));
    return {
      student: number("student"), seed: number("seed"), count: number("count"),
      w: offer.w_min === offer.w_max ? offer.w_min : rounded(number("w")),
      ...(offer.classes.length ? { label: number("label") } : { prompt: fields.get("prompt") }),
    };
  };

  const sample = async (figure, options, turn) => {
    const { who } = figure.dataset;
    const cost = figure.querySelector(".cost");
    cost.textContent = "sampling ...";
    figure.classList.add("old");
    let result;
    try {
      const reply = await fetch("draw", {
        method: "POST", headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ who, steps: Number(stepsOf[who].value), ...options }),
      });
      result = await reply.json();
    } catch {
      result = { error: "no response from the server; check that `stepfold play` is running" };
    }
    if (turn !== latest) return;
    if (result.error) { cost.textContent = result.error; return; }
    const image = figure.querySelector("img");
    image.src = result.picture;
    image.hidden = false;
    figure.classList.remove("old");
    figure.querySelector("figcaption").textContent = result.title;
    const samples = options.count === 1 ? "" : `, ${options.count} samples`;
    const evaluations = `${result.evaluations} network evaluation${result.evaluations === 1 ? "" : "s"}`;
    cost.innerHTML = "";
    cost.append(Object.assign(document.createElement("b"), { textContent: `${result.milliseconds} ms` }), `${samples}, ${evaluations}${options.count === 1 ? "" : " each"}`);
  };

  const showWeight = () => {
    const w = request().w;
    document.getElementById("weight").textContent = `w = ${w.toFixed(2)}`;
  };
  const update = async () => {
    showWeight();
    if (!form.checkValidity()) return;
    const turn = ++latest;
    const options = request();
    figures.forEach((figure) => figure.classList.add("old"));
    // the student first, because networks run one at a time and the teacher is slower
    for (const figure of figures) {
      if (turn !== latest) return;
      await sample(figure, options, turn);
    }
  };

  form.addEventListener("submit", (event) => { event.preventDefault(); update(); });
  form.addEventListener("change", (event) => {
    if (event.target.name === "student") offerStudentSteps();
    update();
  });
  form.elements.w.addEventListener("input", showWeight);
  document.getElementById("another").addEventListener("click", () => {
    form.elements.seed.value = Math.floor(Math.random() * 2 ** 31);
    update();
  });
  if (offer.teacher) offerSteps("teacher", offer.teacher_steps);
  offerStudentSteps();
  update();
})();
