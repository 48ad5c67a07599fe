"""Write the generated pages: the reference, one page a package, and the table of papers.

Run by `make docs` before mkdocs; what it writes is not kept in the repository.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "foretune"
TARGET = ROOT / "docs" / "reference"

INHERITING = ("foretune.study.study",)  # classes made of layers: their pages show what the layers have


def summary(path: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def reference() -> None:
    """Write one page a package, with every module that has public names."""
    TARGET.mkdir(exist_ok=True)
    index = ["# Reference", "", "Generated from the docstrings.", ""]
    for package in sorted(p for p in SOURCE.iterdir() if (p / "__init__.py").exists()):
        modules = sorted(p for p in package.rglob("*.py") if p.stem != "__init__")
        if not modules:
            continue
        lines = [f"# foretune.{package.name}", "", summary(package / "__init__.py"), ""]
        for path in modules:
            name = ".".join(("foretune", *path.relative_to(SOURCE).with_suffix("").parts))
            if name == "foretune.cli.stdlib_lm":
                continue
            lines += [f"::: {name}"]
            if name in INHERITING:
                lines += ["    options:", "      inherited_members: true"]
            lines += [""]
        (TARGET / f"{package.name}.md").write_text("\n".join(lines), encoding="utf-8")
        index.append(f"- [foretune.{package.name}]({package.name}.md): {summary(package / '__init__.py')}")
    (TARGET / "index.md").write_text("\n".join(index) + "\n", encoding="utf-8")


def papers() -> None:
    """Write which published work stands where, with its evidence."""
    from foretune.cli.papers import claims_folder, implemented, join, read_records

    folder = claims_folder()
    rows = join(implemented(SOURCE), read_records(folder) if folder is not None else [])
    lines = ["# Papers", "", "| work | module | claim | evidence |", "|---|---|---|---|"]
    lines += [f"| {r['title']} | `{r['module']}` | {r['claim']} | {r['evidence']} |" for r in rows]
    (ROOT / "docs" / "papers.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    reference()
    papers()
