// Explains why nothing happens when the page is opened as a file. Browsers do not run modules from
// files, so this script is not a module.

addEventListener("DOMContentLoaded", () => {
  if (location.protocol !== "file:") return;
  const error = document.getElementById("error");
  error.textContent = "This page is open as a file, and browsers only run it from a web server; " +
    "start one in its directory with `python -m http.server`.";
  error.hidden = false;
});
