// Signing out is a POST, so a link cannot do it; where MC has a session of its own to end, the browser goes there.
const button = document.getElementById("sign-out");

button?.addEventListener("click", async () => {
  button.disabled = true;
  try {
    const answer = await fetch("/auth/logout", { method: "POST" });
    if (!answer.ok) throw new Error(String(answer.status));
    const target = answer.status === 200 ? (await answer.json()).logout_url : "/";
    location.assign(target);
  } catch {
    document.getElementById("message").textContent = button.dataset.failed;
    button.disabled = false;
  }
});
