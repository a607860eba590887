// The browser's storage. If it is full or not allowed, the page works without it.

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

/** Shared by all tabs, and permanent. */
export const local = new Shelf(() => localStorage);
/** For this tab; survives reloads. */
export const tab = new Shelf(() => sessionStorage);

export function cookie(name, value) {
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `${name}=${value}; path=/; max-age=31536000; samesite=lax${secure}`;
}
