// The toolbar's keyboard: one stop for Tab, arrows from button to button, as ARIA's pattern for toolbars has it.

const STEPS = { ArrowRight: 1, ArrowLeft: -1 };

/** Connect a toolbar's buttons; call the result after buttons were enabled or disabled. */
export function connectToolbar(bar) {
  const buttons = [...bar.querySelectorAll("button")];
  let stop = buttons[0];
  const settle = () => {
    if (stop.disabled) stop = buttons.find((button) => !button.disabled) ?? stop;
    for (const button of buttons) button.tabIndex = button === stop ? 0 : -1;
  };
  bar.addEventListener("focusin", ({ target }) => {
    if (!buttons.includes(target)) return;
    stop = target;
    settle();
  });
  bar.addEventListener("keydown", (event) => {
    const enabled = buttons.filter((button) => !button.disabled || button === stop);
    const at = enabled.indexOf(stop) + (STEPS[event.key] ?? 0);
    if (event.key in STEPS) enabled[(at + enabled.length) % enabled.length].focus();
    else if (event.key === "Home") enabled[0].focus();
    else if (event.key === "End") enabled.at(-1).focus();
    else return;
    event.preventDefault();
  });
  settle();
  return settle;
}
