// Says why the last attempt to log in did not succeed.

const WHY = {
  "?wrong": "That is not the token of this server.",
  "?late": "Too many wrong tokens have come from your address. Try again in a minute.",
};

const words = WHY[location.search];
if (words) {
  const line = document.getElementById("why");
  line.textContent = words;
  line.hidden = false;
}
