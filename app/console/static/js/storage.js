// What the page remembers in the browser. Storage may be full or forbidden; then the page only forgets.

function safely(action, fallback = null) {
  try {
    return action();
  } catch {
    return fallback;
  }
}

class Shelf {
  constructor(open) {
    this.open = open;
  }

  get(key) {
    return safely(() => JSON.parse(this.open().getItem(`visiona.${key}`)));
  }

  set(key, value) {
    safely(() => this.open().setItem(`visiona.${key}`, JSON.stringify(value)));
  }

  remove(key) {
    safely(() => this.open().removeItem(`visiona.${key}`));
  }
}

/** For all tabs, and for tomorrow. */
export const local = new Shelf(() => localStorage);
/** For this tab, over reloads. */
export const tab = new Shelf(() => sessionStorage);

export function cookie(name, value) {
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `${name}=${value}; path=/; max-age=31536000; samesite=lax${secure}`;
}
