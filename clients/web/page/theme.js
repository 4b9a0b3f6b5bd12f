/* Applies the stored appearance before the first paint; `settings.js` changes it. Not a module, which would run later. */

(() => {
  try {
    const { theme, size } = JSON.parse(localStorage.getItem("bargein.settings") ?? "{}");
    if (["light", "dark"].includes(theme)) document.documentElement.dataset.theme = theme;
    if (["small", "large", "larger"].includes(size)) document.documentElement.dataset.size = size;
  } catch {
    // no storage: the appearance of the system
  }
})();
