/* Runs before the first paint: the page is never light for a moment when it is meant to be dark. */
(function () {
    "use strict";
    let scheme = null;
    try {
        scheme = localStorage.getItem("mantine-color-scheme-value");
    } catch (error) {
        scheme = null; // storage may be forbidden
    }
    if (scheme !== "light" && scheme !== "dark") {
        scheme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    }
    document.documentElement.setAttribute("data-mantine-color-scheme", scheme);
})();
