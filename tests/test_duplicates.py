"""Nothing is written twice: no ten lines of code stand in two places."""

import ast
from pathlib import Path
from textwrap import indent

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = "segcore mask2former cropformer maskrefine tools datasets ops tests".split()
LENGTH = 10


def lines_of_code(text: str) -> list[tuple[int, str]]:
    """Numbered lines without indent; no blank ones, comments, imports, or brackets alone."""
    imports = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    numbered = ((n, line.strip()) for n, line in enumerate(text.splitlines(), 1))
    return [
        (number, line)
        for number, line in numbered
        if number not in imports and not line.startswith("#") and line.strip("()[]{},:")
    ]


def duplicates(texts: dict[str, str]) -> list[str]:
    """Where LENGTH lines that are alike begin, as pairs."""
    seen: dict[tuple[str, ...], str] = {}
    pairs = []
    for name, text in texts.items():
        lines = lines_of_code(text)
        for i in range(len(lines) - LENGTH + 1):
            window = tuple(line for _, line in lines[i : i + LENGTH])
            here = f"{name}:{lines[i][0]}"
            first = seen.setdefault(window, here)
            if first != here:
                pairs.append(f"{first} = {here}")
    return pairs


def test_no_ten_lines_stand_in_two_places():
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    names = {path: path.relative_to(ROOT).as_posix() for path in paths}
    built = "ops/build/"  # copies that pip leaves behind
    texts = {name: path.read_text() for path, name in names.items() if not name.startswith(built)}
    assert not duplicates(texts)


def test_a_copy_is_found_and_imports_are_not():
    block = "\n".join(f"value_{i} = {i}" for i in range(LENGTH))
    header = "\n".join(f"import module_{i}" for i in range(LENGTH))
    nested = f"def f():\n{indent(block, '    ')}".replace("\n", "\n\n")
    assert duplicates({"a": f"{header}\n{block}", "b": nested}) == ["a:11 = b:3"]
    assert not duplicates({"a": header, "b": header})
    assert not duplicates({"a": block, "b": block.replace("= 4", "= 5")})
