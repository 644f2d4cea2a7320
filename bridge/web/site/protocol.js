// Says why nothing happens when the page is opened as a file. Browsers do not run modules from
// files, so this script is none.

addEventListener("DOMContentLoaded", () => {
  if (location.protocol !== "file:") return;
  const error = document.getElementById("error");
  error.textContent = "This page is open as a file, and browsers run it only from a web server; " +
    "start one in its directory with `python -m http.server`.";
  error.hidden = false;
});
