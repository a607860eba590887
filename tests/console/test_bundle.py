"""The script that the gateway composes of the modules does what the modules do."""

import json
import subprocess
from pathlib import Path

import pytest

from app.console.bundle import BundleError, compose

#: Every form that is known. They run in Node, as they are and composed.
MODULES = {
    "js/app.js": """\
import * as count from "./tools/count.js";
import {
  double as twice,
  later,
} from "./tools/double.js";

const $name = "app";
console.log($name, twice(count.next()), await later(4), count.STEP);
const { View } = await import("./views/view.js");
console.log(new View().show());
""",
    "js/tools/count.js": """\
export const STEP = 1;
let total = 0;

/** Count. */
export function next() {
  total += STEP;
  return total;
}
""",
    "js/tools/double.js": """\
import { STEP } from "./count.js";

const name = "hidden in its module";
export const double = (number) => 2 * number * STEP;
export async function later(number) {
  return double(number) + name.length;
}
""",
    "js/views/view.js": """\
// Imported when it is needed, with the same state of its imports.
import { next } from "../tools/count.js";

export class View {
  show() {
    return `view ${next()}`;
  }
} // The end""",
}


def run(path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["node", "--enable-source-maps", path.name],
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def write(directory: Path, modules: dict[str, str]) -> None:
    """Write modules, the script composed of them, its source map, and what makes Node treat all as modules."""
    files = dict(modules)
    files["app.js"], files["app.js.map"] = compose(modules, "js/app.js", "app.js.map")
    files["package.json"] = json.dumps({"type": "module"})
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def test_the_script_does_what_the_modules_do(tmp_path: Path) -> None:
    write(tmp_path, MODULES)
    one_by_one, composed = run(tmp_path / "js" / "app.js"), run(tmp_path / "app.js")
    assert one_by_one.stdout == "app 2 28 1\nview 2\n"
    assert composed.stdout == one_by_one.stdout, composed.stderr


def test_an_error_names_the_line_of_the_module(tmp_path: Path) -> None:
    failing = '// First line.\n\nexport function fail() {\n  throw new Error("here");\n}\n'
    write(tmp_path, MODULES | {"js/app.js": 'import { fail } from "./fail.js";\n\nfail();\n', "js/fail.js": failing})
    assert "js/fail.js:4" in run(tmp_path / "app.js").stderr


@pytest.mark.parametrize(
    "form",
    [
        "export default 1;",
        "export let changing = 1;",
        "export { double };",
        'export { next } from "./tools/count.js";',
        'import count from "./tools/count.js";',
        'import "./tools/count.js";',
        "const found = await import(path);",
        "const address = import.meta.url;",
    ],
)
def test_other_forms_are_refused_by_name(form: str) -> None:
    with pytest.raises(BundleError, match=r"js/app\.js: .* does not know this form: "):
        compose(MODULES | {"js/app.js": f"{form}\n"}, "js/app.js", "app.js.map")


@pytest.mark.parametrize("form", ['import { a } from "./nothing.js";', 'await import("./nothing.js");'])
def test_an_import_of_a_missing_module_is_refused(form: str) -> None:
    with pytest.raises(BundleError, match=r"js/app\.js imports \./nothing\.js, which does not exist"):
        compose(MODULES | {"js/app.js": f"{form}\n"}, "js/app.js", "app.js.map")


def test_modules_that_import_each_other_are_refused() -> None:
    modules = {
        "js/app.js": 'import { one } from "./one.js";\n',
        "js/one.js": 'import { two } from "./two.js";\nexport const one = 1;\n',
        "js/two.js": 'import { one } from "./one.js";\nexport const two = 2;\n',
    }
    with pytest.raises(BundleError, match="import each other: js/"):
        compose(modules, "js/app.js", "app.js.map")
